"""What happens between the steps of `fit`."""

import time
from collections.abc import Callable
from typing import TextIO

from tensorflow import keras
from tqdm import tqdm

from kerasseg.training._progress import mean_iou_of
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._schedules import current_rate
from kerasseg.training._state import TrainingState
from kerasseg.training._update import accumulated, averaged
from kerasseg.training._validation import Validation


class StopAt(keras.callbacks.Callback):
    """Ends training after so many batches, in the midst of an epoch too."""

    def __init__(self, batches: int):
        super().__init__()
        self._left = batches

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left <= 0:
            self.model.stop_training = True


class StopEarly(keras.callbacks.Callback):
    """Ends training after so many validations without a better mIoU. Comes after `Checkpoint`."""

    def __init__(self, state: TrainingState, patience: int, stream: TextIO | None):
        super().__init__()
        self._state, self._patience, self._stream = state, patience, stream

    def on_epoch_end(self, epoch, logs=None):
        if self._state.without_better < self._patience:
            return
        self.model.stop_training = True
        if self._stream is not None:
            best = self._state.best
            tqdm.write(
                f"stops at step {self._state.step}: no better mIoU in {self._patience} validations than "
                f"{best['val_mean_iou']:.4f} at step {best['step']}",
                file=self._stream,
            )


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
        self._batches = 0

    def on_train_begin(self, logs=None):
        self._start = time.perf_counter() - self._state.seconds

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1

    def on_epoch_end(self, epoch, logs=None):
        step = self._state.step + self._batches // accumulated(self.model)
        row = {"step": step, "loss": logs["loss"], "mean_iou": mean_iou_of(logs)}
        if self._validation is not None:
            with averaged(self.model):
                scores = self._validation()
            logs.update({name: scores[name] for name in ("val_loss", "val_mean_iou")})
            row.update(scores)
        row["learning_rate"] = current_rate(self.model.optimizer)
        row["seconds"] = round(time.perf_counter() - self._start, 1)
        self._state.step, self._batches = step, 0
        self._state.history.append(row)
        self._run.save(self.model, self._state, self._deliver)
