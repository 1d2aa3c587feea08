"""What happens between the steps of `fit`."""

import math
import time
from collections.abc import Callable
from typing import TextIO

from tensorflow import keras
from tqdm import tqdm

from kerasseg.spec import DataError
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._schedules import current_rate
from kerasseg.training._state import TrainingState
from kerasseg.training._validation import Validation


class StopAt(keras.callbacks.Callback):
    """Ends training after a step, in the midst of an epoch too."""

    def __init__(self, steps: int, done: int):
        super().__init__()
        self._left = steps - done

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left <= 0:
            self.model.stop_training = True


class Checkpoint(keras.callbacks.Callback):
    """At the end of each epoch: validates, adds a row to the state, and writes the run folder.

    It adds val_loss and val_mean_iou to the epoch's logs, which the callbacks after it see.
    """

    def __init__(
        self,
        run: RunFolder,
        state: TrainingState,
        validation: Validation | None,
        deliver: Callable[[keras.Model], keras.Model] | None = None,
    ):
        super().__init__()
        self._run, self._state, self._validation, self._deliver = run, state, validation, deliver
        self._steps = 0

    def on_train_begin(self, logs=None):
        self._start = time.perf_counter() - self._state.seconds

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1

    def on_epoch_end(self, epoch, logs=None):
        step = self._state.step + self._steps
        if not math.isfinite(logs["loss"]):
            raise DataError(
                f"the loss is {logs['loss']} after step {step}: nothing can be learnt from there; lower the learning "
                f"rate, in a new output folder ({self._run.last.name} in this one is of step {self._state.step})"
            )
        row = {"step": step, "loss": logs["loss"], "mean_iou": _mean_iou(logs)}
        if self._validation is not None:
            scores = self._validation()
            logs.update(scores)
            row.update(scores)
        row["learning_rate"] = current_rate(self.model.optimizer)
        row["seconds"] = round(time.perf_counter() - self._start, 1)
        self._state.step, self._steps = step, 0
        self._state.history.append(row)
        self._run.save(self.model, self._state, self._deliver)


class Progress(keras.callbacks.Callback):
    """A bar over all steps with loss, mIoU and time left; in a log file, one line for each validation."""

    def __init__(self, steps: int, state: TrainingState, stream: TextIO):
        super().__init__()
        self._steps, self._state, self._stream = steps, state, stream

    def on_train_begin(self, logs=None):
        self._first, self._start = self._state.step, time.perf_counter()
        self._bar = tqdm(
            total=self._steps,
            initial=self._first,
            unit="step",
            file=self._stream,
            dynamic_ncols=True,
            disable=not self._stream.isatty(),
        )

    def on_train_batch_end(self, batch, logs=None):
        self._bar.set_postfix({"loss": f"{logs['loss']:.3f}", "mIoU": f"{_mean_iou(logs):.3f}"}, refresh=False)
        self._bar.update()

    def on_epoch_end(self, epoch, logs=None):
        row = self._state.history[-1]
        parts = [f"step {row['step']}/{self._steps}", f"loss {row['loss']:.4f}", f"mIoU {row['mean_iou']:.4f}"]
        if "val_mean_iou" in row:
            best = " (best)" if self._state.best is row else ""
            parts += [f"val loss {row['val_loss']:.4f}", f"val mIoU {row['val_mean_iou']:.4f}{best}"]
        spent = time.perf_counter() - self._start
        left = spent / (row["step"] - self._first) * (self._steps - row["step"])
        parts.append(f"{tqdm.format_interval(left)} left")
        tqdm.write("  ".join(parts), file=self._stream)

    def on_train_end(self, logs=None):
        self._bar.close()


def _mean_iou(logs):
    """Returns the mIoU of training; where a model has several outputs, Keras puts the output's name before it."""
    return next(value for name, value in logs.items() if name.endswith("mean_iou"))
