"""How far a training is, and how long it still takes."""

import math
import time
from collections.abc import Callable
from typing import TextIO

from tensorflow import keras
from tqdm import tqdm

from kerasseg.training._state import TrainingState
from kerasseg.training._update import accumulated


class Pace:
    """Foresees how long a training still takes, from the time that its steps and its validations took.

    A resumed training is as fast as its own steps are, whatever those before it took. The first step, during which
    TensorFlow builds its graph, is left out as soon as there is a second one.

    Args:
        steps: Length of the whole training.
        validate_every: Steps between validations; there is one at the end, too.
        clock: What tells the time in seconds.
    """

    def __init__(self, steps: int, validate_every: int, clock: Callable[[], float] = time.perf_counter):
        self._steps, self._every, self._clock = steps, validate_every, clock
        self._last = clock()
        self._first_step_s = None
        self._counts, self._seconds = {"step": 0, "validation": 0}, {"step": 0.0, "validation": 0.0}

    def step_done(self) -> None:
        """Notes that a step has ended."""
        taken = self._lap()
        if self._first_step_s is None:
            self._first_step_s = taken
        else:
            self._add("step", taken)

    def validation_done(self) -> None:
        """Notes that a validation, with all that is written after it, has ended."""
        self._add("validation", self._lap())

    def seconds_left(self, step: int) -> float:
        """Returns how long steps and validations after `step` will take; those not yet seen are taken for nothing."""
        if step >= self._steps:
            return 0.0
        one_step = self._mean("step") if self._counts["step"] else self._first_step_s or 0.0
        validations = math.ceil(self._steps / self._every) - step // self._every
        return one_step * (self._steps - step) + self._mean("validation") * validations

    def _lap(self):
        now = self._clock()
        taken, self._last = now - self._last, now
        return taken

    def _add(self, kind, seconds):
        self._counts[kind] += 1
        self._seconds[kind] += seconds

    def _mean(self, kind):
        return self._seconds[kind] / max(1, self._counts[kind])


class Progress(keras.callbacks.Callback):
    """A bar over all steps with loss, mIoU and time left; in a log file, one line for each validation.

    To be the last of the callbacks, so that what the others take at a validation is counted.
    """

    def __init__(self, steps: int, validate_every: int, state: TrainingState, stream: TextIO):
        super().__init__()
        self._steps, self._every, self._state, self._stream = steps, validate_every, state, stream

    def on_train_begin(self, logs=None):
        self._step = self._state.step
        self._pace = Pace(self._steps, self._every)
        self._bar = tqdm(
            total=self._steps,
            initial=self._step,
            unit="step",
            file=self._stream,
            dynamic_ncols=True,
            disable=not self._stream.isatty(),
            # tqdm's own time left knows nothing of validations.
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]",
        )

    def on_train_batch_end(self, batch, logs=None):
        per_step = accumulated(self.model)
        if (batch + 1) % per_step:
            return
        self._step += 1
        self._pace.step_done()
        if not self._bar.disable:
            validates = self._step == self._steps or (batch + 1) % (self._every * per_step) == 0
            last = "validating" if validates else f"{self._left()} left"
            text = f"loss {logs['loss']:.3f}, mIoU {mean_iou_of(logs):.3f}, {last}"
            self._bar.set_postfix_str(text, refresh=validates)
            self._bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self._pace.validation_done()
        row = self._state.history[-1]
        parts = [f"step {row['step']}/{self._steps}", f"loss {row['loss']:.4f}", f"mIoU {row['mean_iou']:.4f}"]
        if "val_mean_iou" in row:
            best = " (best)" if self._state.best is row else ""
            parts += [f"val loss {row['val_loss']:.4f}", f"val mIoU {row['val_mean_iou']:.4f}{best}"]
        parts.append(f"{self._left()} left")
        tqdm.write("  ".join(parts), file=self._stream)

    def on_train_end(self, logs=None):
        self._bar.close()

    def _left(self):
        return tqdm.format_interval(self._pace.seconds_left(self._step))


def mean_iou_of(logs: dict[str, float]) -> float:
    """Returns the mIoU of training; where a model has several outputs, Keras puts the output's name before it."""
    return next(value for name, value in logs.items() if name.endswith("mean_iou"))
