"""What happens between the steps of `fit`."""

import time
from collections.abc import Callable

from tensorflow import keras

from kerasseg.training._progress import mean_iou_of
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
        row = {"step": step, "loss": logs["loss"], "mean_iou": mean_iou_of(logs)}
        if self._validation is not None:
            scores = self._validation()
            logs.update({name: scores[name] for name in ("val_loss", "val_mean_iou")})
            row.update(scores)
        row["learning_rate"] = current_rate(self.model.optimizer)
        row["seconds"] = round(time.perf_counter() - self._start, 1)
        self._state.step, self._steps = step, 0
        self._state.history.append(row)
        self._run.save(self.model, self._state, self._deliver)
