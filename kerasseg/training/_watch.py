"""Watches a training for what commonly goes wrong."""

import collections
import math

import numpy as np
from tensorflow import keras

from kerasseg.metrics import MeanIoU
from kerasseg.spec import DataError
from kerasseg.training._first_look import FirstLook
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._schedules import current_rate
from kerasseg.training._state import TrainingState
from kerasseg.training._update import accumulated
from kerasseg.training._validation import Validation
from kerasseg.training._warnings import Warnings

_WINDOW = 10
_GROWTH = 10
_FEW_IMAGES = 100


class Watch(keras.callbacks.Callback):
    """Stops a run whose loss is no number, at that step; warns of what else looks wrong.

    Of a loss that has grown tenfold; of a class that the training masks do not have; of a model that predicts one class
    only; of batches of ignored pixels alone; of images that look divided by 255; of masks of 0 and 255.

    Costs no look at the device: the losses are in the logs, classes are counted by the metric of the training, the
    batches are looked at as they are made (`FirstLook`).

    To come after what adds the rows to the state.
    """

    def __init__(
        self,
        run: RunFolder,
        state: TrainingState,
        validation: Validation | None,
        look: FirstLook,
        warnings: Warnings,
    ):
        super().__init__()
        self._run, self._state, self._validation, self._look = run, state, validation, look
        self._warnings, self._split = warnings, run.options.get("train_split", "train")
        self._start = self._step = state.step
        self._batches_here, self._looked, self._counts = 0, 0, 0
        self._losses = collections.deque(maxlen=_WINDOW)
        self._first_loss = state.history[0]["loss"] if state.history else 0.0

    def on_train_begin(self, logs=None):
        spec = self._run.dataset
        if spec is None or self._split not in spec.splits:
            return
        absent = [n for n, c in zip(spec.class_names, spec.split(self._split).class_pixels, strict=False) if not c]
        if absent:
            self._absent(absent, f"in no mask of the split {self._split!r}, as dataset.json counts its pixels")

    def on_epoch_begin(self, epoch, logs=None):
        self._total = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self._batches_here += 1
        self._step = self._start + math.ceil(self._batches_here / accumulated(self.model))
        mean = logs["loss"]  # over the steps of this epoch so far
        loss, self._total = mean * (batch + 1) - self._total, mean * (batch + 1)
        if not math.isfinite(mean):
            raise DataError(self._no_number(mean))
        self._watch_growth(loss)
        if self._look.batches > self._looked:
            self._looked = self._look.batches
            self._watch_data()

    def on_epoch_end(self, epoch, logs=None):
        row = self._state.history[-1]
        self._watch_classes()
        if self._validation is None:
            return
        if not math.isfinite(row["val_loss"]):
            self._say(
                "val_loss",
                f"the loss on the validation images is {row['val_loss']}, that of training {row['loss']:.4g}: running "
                "means of batch normalisation that are still far off (few steps, high momentum), or float16 that "
                "overflows (train in bfloat16 or float32)",
            )
        self._watch_predictions()

    def _no_number(self, loss):
        before = f" (at the last {len(self._losses)} steps: {', '.join(f'{v:.4g}' for v in self._losses)})"
        policy = keras.mixed_precision.global_policy().name
        causes = [f"a learning rate too high ({self._rate()} now): lower it to a tenth, or warm it up"]
        if not self._look.finite:
            causes.insert(0, "images that hold NaN or infinity: seen in the first batches; mend the data")
        causes.append("weights of classes or pixels that are huge, NaN or infinite")
        if "float16" in policy and "bfloat16" not in policy:
            causes.append("overflow in float16: use bfloat16")
        kept = f"{self._run.last.name} in this one is of step {self._state.step}" if self._state.step else ""
        return (
            f"the loss is {loss} after step {self._step}{before if self._losses else ''}: nothing can be learnt from "
            f"there. Likely causes: {'; '.join(causes)}. Start again in a new output folder{kept and f' ({kept})'}"
        )

    def _watch_growth(self, loss):
        self._losses.append(loss)
        self._first_loss = self._first_loss or loss
        mean = sum(self._losses) / len(self._losses)
        if len(self._losses) == _WINDOW and mean > _GROWTH * self._first_loss > 0:
            self._say(
                "growth",
                f"the loss has grown from {self._first_loss:.4g} at the start to {mean:.4g} (mean of {_WINDOW} steps): "
                f"the training diverges; lower the learning rate ({self._rate()} now) to a tenth, or warm it up",
            )

    def _watch_data(self):
        look = self._look
        if not look.finite:
            self._say("finite", "images hold NaN or infinity, which no network survives; mend the data")
        if look.all_ignored:
            self._say(
                "ignored",
                f"all pixels of a batch have the ignored label {look.ignore_label} ({look.all_ignored} such batches so "
                "far): it teaches nothing; take larger crops or batches, and look at them (tools/show_batches.py)",
            )
        if not look.done:
            return
        if look.highest <= 1.5:
            self._say(
                "range",
                f"the images of the first {look.batches_to_see} batches hold no value above {look.highest:.3g}: the "
                "networks expect 0-255 and scale them themselves; leave out a division by 255",
            )
        values = np.flatnonzero(look.labels)
        if look.ignore_label == 255 and values.tolist() == [0, 255]:
            self._say(
                "binary",
                f"the masks of the first {look.batches_to_see} batches hold 0 and 255 only, and 255 is ignored, not a "
                "class; if it means the object, convert the data again with 1 in its place",
            )

    def _watch_classes(self):
        """Warns of classes that the metric of the training has not counted, once an epoch of the data has passed."""
        metric = next((m for m in _all_metrics(self.model) if isinstance(m, MeanIoU)), None)
        if metric is None:
            return
        self._counts = self._counts + metric.confusion_matrix().numpy().sum(axis=1)
        spec, images = self._run.dataset, self._batches_here * self._look.batch_size
        known = spec is not None and self._split in spec.splits
        if images < (spec.split(self._split).num_examples if known else _FEW_IMAGES):
            return
        absent = [
            name
            for name, count in zip(self._run.class_names(len(self._counts)), self._counts, strict=True)
            if not count
        ]
        if absent:
            self._absent(absent, f"in none of the {images} training images so far")

    def _absent(self, names, where):
        shown = ", ".join(repr(name) for name in names[:10]) + (f" and {len(names) - 10} more" if names[10:] else "")
        self._say(
            "absent",
            f"class {shown} is {where}: it cannot be learnt; check the masks (tools/check_data.py), leave the class "
            "out, or, where it is small, take larger crops",
        )

    def _watch_predictions(self):
        matrix = self._validation.confusion_matrix
        predicted, true = np.flatnonzero(matrix.sum(axis=0)), np.flatnonzero(matrix.sum(axis=1))
        if len(predicted) == 1 and len(true) > 1:
            name = self._validation.class_names[predicted[0]]
            self._say(
                "one class",
                f"the model predicts {name!r} at every pixel of the validation images. Where that stays so: start from "
                f"pretrained weights (FCN from scratch does so), raise the learning rate ({self._rate()} now) if the "
                "loss stands still, lower it if it jumps, give rare classes weights",
            )

    def _rate(self):
        return f"{current_rate(self.model.optimizer):.3g}"

    def _say(self, kind, message):
        self._warnings.say(kind, message, self._step)


def _all_metrics(model):
    """Yields the metrics that a model was compiled with; Keras 3 keeps them one level down."""
    for metric in model.metrics:
        yield metric
        yield from getattr(metric, "metrics", [])
