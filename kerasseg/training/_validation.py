"""Scoring a model on whole images while it trains."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.layers import SizeRule, num_classes_of, size_rules
from kerasseg.metrics import MeanIoU, class_ids, scores
from kerasseg.spec import IGNORE_LABEL, centre


@dataclasses.dataclass(frozen=True)
class Sample:
    """An image of a validation, to look at.

    Attributes:
        number: Its place in the data, from 0.
        image: float32 [H, W, C], 0-255.
        mask: int32 [H, W].
        predicted: int32 [H, W], class ids.
    """

    number: int
    image: np.ndarray
    mask: np.ndarray
    predicted: np.ndarray


class Validation:
    """Loss and scores of a compiled model over whole images of any size.

    Not `model.evaluate`: under MirroredStrategy that splits each batch, and fails on a batch of one image. Here one
    device scores the images; the confusion matrix is that of the whole split.

    A model that returns less than it is given (a U-Net with valid padding) gets the image mirrored at its borders, so
    that the whole mask is scored.

    Scored is what `deliver` makes of the model, that is, what best.keras will hold; without it, the last of several
    outputs. The loss is that of the model which is trained, over all its outputs.

    Args:
        model: Compiled, image [B, H, W, C] -> logits [B, h, w, K], or a list of such.
        data: Elements (image float32 [1, H, W, C], mask int32 [1, H, W]), perhaps with a third part [1, H, W]: what the
            loss is given in the mask's place, where the model learns other labels than those it is scored by.
        ignore_label: Mask value that does not count.
        deliver: A function from the model to another on the same input, which shares its weights and has one output.
        class_names: Given K, returns the classes' names.
        num_samples: How many of the images to keep with their predictions: always the same ones, spread over the data
            where their number is known, else the first ones.

    Attributes:
        class_names: K names.
        confusion_matrix: Of the last call: int64 [K, K], rows truth, columns prediction.
        samples: Of the last call.
    """

    def __init__(
        self,
        model: keras.Model,
        data: tf.data.Dataset,
        ignore_label: int | None = IGNORE_LABEL,
        deliver: Callable[[keras.Model], keras.Model] | None = None,
        class_names: Callable[[int], Sequence[str]] = lambda K: [str(label) for label in range(K)],
        num_samples: int = 4,
    ):
        self._model, self._data, self._ignore_label = model, data, ignore_label
        scored = keras.Model(model.input, model.outputs[-1]) if deliver is None else deliver(model)
        self._all = keras.Model(model.input, [*model.outputs, *scored.outputs])
        num_classes = max(num_classes_of(scored), 2)  # one logit is two classes
        self._score = MeanIoU(num_classes, ignore_label)
        self._losses = _losses(model)
        self.class_names = class_names(num_classes)
        self._kept = _spread(int(data.cardinality()), num_samples)
        self.confusion_matrix, self.samples = None, []
        self._loss = keras.metrics.Mean()
        self._rules = size_rules(scored)
        image, mask = data.element_spec[:2]
        masks = tf.TensorSpec([None, None, None], mask.dtype)
        signature = [tf.TensorSpec([None, None, None, image.shape[-1]], image.dtype), masks, masks]
        self._step = tf.function(self._score_batch, input_signature=signature)

    def __call__(self) -> dict[str, float | None]:
        """Scores the model.

        Returns:
            val_loss (mean over the images of their loss), val_mean_iou, val_pixel_accuracy, val_mean_accuracy,
            val_frequency_weighted_iou, and for each class val_iou/<name>, None where it occurs in neither truth nor
            prediction. See `metrics.scores`.
        """
        self._score.reset_state()
        self._loss.reset_state()
        self.samples = []
        for number, (image, mask, *target) in enumerate(self._data):
            given = image, mask
            target = target[0] if target else mask
            if self._rules != (SizeRule(), SizeRule()):
                image, mask, target = self._padded(image.numpy(), mask.numpy(), target.numpy())
            predicted = self._step(image, mask, target)
            if number in self._kept:
                self.samples.append(_sample(number, *given, predicted))
        self.confusion_matrix = self._score.confusion_matrix().numpy()
        found = scores(self.confusion_matrix, self.class_names)
        names = "mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"
        return {
            "val_loss": float(self._loss.result()),
            **{f"val_{name}": found[name] for name in names},
            **{f"val_iou/{name}": found["per_class_iou"].get(name) for name in self.class_names},
        }

    def _score_batch(self, image, mask, target):
        *logits, scored = self._all(image, training=False)
        self._score.update_state(mask, scored)
        terms = [weight * tf.reduce_mean(loss(target, logits[index])) for index, loss, weight in self._losses]
        self._loss.update_state(tf.add_n([*terms, *self._model.losses]))
        return class_ids(scored, self._score.num_classes)

    def _padded(self, image, *masks):
        """Mirrors an image outwards until its logits cover the mask; more logits than mask meet the ignored label."""
        image_pad, mask_pad = [(0, 0)], [(0, 0)]
        for size, rule in zip(masks[0].shape[1:], self._rules, strict=True):
            legal, before = rule.covering(size), rule.margin // 2
            image_pad.append((before, legal - size - before))
            mask_pad.append((0, legal - rule.margin - size))
        if self._ignore_label is None and any(after for _, after in mask_pad):
            raise ValueError("this model pads images to a legal size, which takes an ignore_label, received None")
        image = np.pad(image, [*image_pad, (0, 0)], mode="reflect")
        return image, *(np.pad(mask, mask_pad, constant_values=self._ignore_label or 0) for mask in masks)


def _losses(model: keras.Model) -> list:
    """Returns (index of an output, its loss, the weight of that) as the model was compiled.

    Not `model.compute_loss`: that of Keras 2 counts in variables which nothing but a replica's step may change.
    """
    names = list(model.output_names)

    def by_output(given, default):
        if isinstance(given, dict):
            return [given.get(name, default) for name in names]
        return list(given) if isinstance(given, (list, tuple)) else [given] * len(names)

    weights = by_output(model.get_compile_config().get("loss_weights"), None)
    losses = zip(by_output(model.loss, None), weights, strict=True)
    return [
        (index, keras.losses.get(loss), 1.0 if weight is None else weight)
        for index, (loss, weight) in enumerate(losses)
        if loss is not None
    ]


def _spread(number: int, wanted: int) -> set[int]:
    """Returns the places of so many of `number` images, which is negative where it is not known."""
    if number < 0:
        return set(range(wanted))
    return {(2 * i + 1) * number // (2 * wanted) for i in range(wanted)} if number else set()


def _sample(number: int, image, mask, predicted) -> Sample:
    """Returns the first of a batch; where mask and prediction differ in size, what both cover."""
    image, mask, predicted = image[0].numpy(), mask[0].numpy(), predicted[0].numpy()
    predicted = predicted[: mask.shape[0], : mask.shape[1]]
    part = tuple(centre(outer, inner) for outer, inner in zip(mask.shape[:2], predicted.shape, strict=True))
    return Sample(number, image[part], mask[part], predicted)
