"""The scores of `scores` as Keras metrics. Arguments and call of all: `ConfusionMetric`."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from kerasseg.metrics._confusion_metric import ConfusionMetric
from kerasseg.spec import IGNORE_LABEL


def _mean_iou(right, true, predicted):
    return _mean(right, true + predicted - right)


def _pixel_accuracy(right, true, predicted):
    return tf.math.divide_no_nan(tf.reduce_sum(right), tf.reduce_sum(true))


def _mean_accuracy(right, true, predicted):
    return _mean(right, true)


def _frequency_weighted_iou(right, true, predicted):
    iou = tf.math.divide_no_nan(right, true + predicted - right)
    return tf.math.divide_no_nan(tf.reduce_sum(true * iou), tf.reduce_sum(true))


def _mean(part: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """Returns the mean of part ÷ whole over the classes whose whole is not 0."""
    ratios = tf.math.divide_no_nan(part, whole)
    return tf.math.divide_no_nan(tf.reduce_sum(ratios), tf.cast(tf.math.count_nonzero(whole), tf.float64))


@keras.utils.register_keras_serializable("kerasseg")
class MeanIoU(ConfusionMetric):
    """Mean over the classes of intersection ÷ union of predicted and true pixels.

    Classes that occur neither in the truth nor in the prediction are left out; without any pixel it is 0.
    """

    def __init__(self, num_classes, ignore_label=IGNORE_LABEL, name="mean_iou", **kwargs):
        super().__init__(num_classes, ignore_label, name, **kwargs)

    def score(self, right, true, predicted):
        return _mean_iou(right, true, predicted)


@keras.utils.register_keras_serializable("kerasseg")
class PixelAccuracy(ConfusionMetric):
    """Right pixels ÷ all pixels that count."""

    def __init__(self, num_classes, ignore_label=IGNORE_LABEL, name="pixel_accuracy", **kwargs):
        super().__init__(num_classes, ignore_label, name, **kwargs)

    def score(self, right, true, predicted):
        return _pixel_accuracy(right, true, predicted)


@keras.utils.register_keras_serializable("kerasseg")
class MeanAccuracy(ConfusionMetric):
    """Mean over the classes that occur in the truth of right pixels ÷ true pixels."""

    def __init__(self, num_classes, ignore_label=IGNORE_LABEL, name="mean_accuracy", **kwargs):
        super().__init__(num_classes, ignore_label, name, **kwargs)

    def score(self, right, true, predicted):
        return _mean_accuracy(right, true, predicted)


@keras.utils.register_keras_serializable("kerasseg")
class FrequencyWeightedIoU(ConfusionMetric):
    """IoU of the classes, weighted by their shares of the true pixels."""

    def __init__(self, num_classes, ignore_label=IGNORE_LABEL, name="frequency_weighted_iou", **kwargs):
        super().__init__(num_classes, ignore_label, name, **kwargs)

    def score(self, right, true, predicted):
        return _frequency_weighted_iou(right, true, predicted)


@keras.utils.register_keras_serializable("kerasseg")
class AllScores(ConfusionMetric):
    """All of them, and the IoU of each class, from one confusion matrix: a metric of several values in the logs.

    `model.compile(metrics=[AllScores(21, VOC_CLASS_NAMES)])` logs mean_iou, pixel_accuracy, mean_accuracy,
    frequency_weighted_iou, and iou_<class> for each class: NaN, no number, where the class occurs neither in the truth
    nor in the prediction.

    Args:
        num_classes: K.
        class_names: K names; None: "0", "1", ...
        ignore_label, name: See `ConfusionMetric`.
    Raises:
        ValueError: There are not K different names.
    """

    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        ignore_label: int | None = IGNORE_LABEL,
        name: str = "scores",
        **kwargs,
    ):
        super().__init__(num_classes, ignore_label, name, **kwargs)
        self.class_names = [str(k) for k in range(num_classes)] if class_names is None else list(class_names)
        if len(set(self.class_names)) != num_classes or len(self.class_names) != num_classes:
            raise ValueError(f"expected {num_classes} different class names, received {self.class_names}")

    def score(self, right, true, predicted):
        union = true + predicted - right
        iou = tf.where(union > 0, tf.math.divide_no_nan(right, union), float("nan"))
        return {
            "mean_iou": _mean_iou(right, true, predicted),
            "pixel_accuracy": _pixel_accuracy(right, true, predicted),
            "mean_accuracy": _mean_accuracy(right, true, predicted),
            "frequency_weighted_iou": _frequency_weighted_iou(right, true, predicted),
            **{f"iou_{name}": iou[k] for k, name in enumerate(self.class_names)},
        }

    def get_config(self):
        return {**super().get_config(), "class_names": self.class_names}
