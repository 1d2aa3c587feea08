"""What Keras metrics that follow from a confusion matrix share."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.metrics._scores import scores
from kerasseg.spec import IGNORE_LABEL, centre


class ConfusionMetric(keras.metrics.Metric):
    """Base of scores from one confusion matrix over all batches and all replicas; a subclass defines `score`.

    `model.compile(metrics=[MeanIoU(21)])`. `update_state` takes mask integer [B, H, W] (or [B, H, W, 1]) and either
    logits float [B, h, w, K], or one logit [B, h, w, 1] of two classes (positive is class 1), or class ids, integer
    [B, h, w]. A mask larger than the prediction is cut to its centre.

    Counts are int64. (`keras.metrics.MeanIoU` counts in float32 by default and stops counting at 2**24 pixels of a
    kind, which 64 crops of 513 x 513 reach, and drops the ignored label only when it is one of the K classes.)

    The matrix gives all scores, whichever the metric is: `metric.scores(class_names)`, with the IoU of each class.

    Args:
        num_classes: K, the ignored label not among them; 2 for networks of one logit.
        ignore_label: Mask value that does not count, whatever is predicted there. None: every pixel counts.
        name: Name in the logs.
    Raises:
        ValueError: Weights are given (list the metric in `metrics`, not in `weighted_metrics`), or shapes do not fit.
        tf.errors.InvalidArgumentError: A label that counts is outside 0..K-1; the text says what to check. (XLA leaves
            such checks out.)
    """

    def __init__(self, num_classes: int, ignore_label: int | None = IGNORE_LABEL, name: str | None = None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self._counts = self.add_weight(
            name="confusion_matrix", shape=(num_classes, num_classes), initializer="zeros", dtype="int64"
        )
        self._cells = _Cells(num_classes, ignore_label)

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(
                f"{type(self).__name__} counts pixels, it takes no weights: pass it as `metrics`, not "
                "`weighted_metrics`"
            )
        predicted = class_ids(tf.convert_to_tensor(y_pred), self.num_classes)
        mask = _cut(tf.cast(y_true, tf.int32), predicted)
        # Unsigned, in which negative labels are large ones, and which GPUs compute themselves.
        row, column = tf.bitcast(mask, tf.uint32), tf.bitcast(predicted, tf.uint32)
        row, column = tf.minimum(row, self._cells.others), tf.minimum(column, self.num_classes)
        if self._cells.is_added:
            row += tf.cast(mask == self.ignore_label, tf.uint32)
        cells = tf.bitcast(row * (self.num_classes + 1) + column, tf.int32)
        # The operation behind `tf.math.bincount`, which works the size out in the graph: XLA needs to know it before.
        shape = self._cells.counted.shape
        counts = tf.raw_ops.DenseBincount(
            input=tf.reshape(cells, [-1]), size=np.prod(shape), weights=tf.zeros([0], tf.int32), binary_output=False
        )
        counts = tf.reshape(counts, shape)
        tf.cond(
            tf.reduce_any((counts > 0) & self._cells.illegal),
            lambda: self._complain(mask, predicted),
            lambda: True,
        )
        K = self.num_classes
        self._counts.assign_add(tf.cast(tf.where(self._cells.counted, counts, 0)[:K, :K], tf.int64))

    def _complain(self, mask, predicted):
        counted = tf.ones_like(mask, tf.bool) if self.ignore_label is None else mask != self.ignore_label
        _check_range(tf.where(counted, mask, 0), self.num_classes, "mask")
        _check_range(tf.where(counted, predicted, 0), self.num_classes, "prediction")
        return True

    def reset_state(self):
        # Keras 2 would assign a scalar 0.
        self._counts.assign(tf.zeros([self.num_classes, self.num_classes], tf.int64))

    def confusion_matrix(self) -> tf.Tensor:
        """Returns what has been counted, int64 [K, K], rows truth, columns prediction."""
        return tf.convert_to_tensor(self._counts)

    def scores(self, class_names: Sequence[str] | None = None) -> dict:
        """Returns `kerasseg.metrics.scores` of what has been counted: all scores, each class's IoU, absent classes."""
        return scores(np.asarray(self.confusion_matrix()), class_names)

    def score(self, right: tf.Tensor, true: tf.Tensor, predicted: tf.Tensor):
        """Returns the metric from each class's number of right, true and predicted pixels, float64 [K] each."""
        raise NotImplementedError

    def result(self):
        counts = tf.cast(self.confusion_matrix(), tf.float64)
        return self.score(tf.linalg.diag_part(counts), tf.reduce_sum(counts, 1), tf.reduce_sum(counts, 0))

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "ignore_label": self.ignore_label}


class _Cells:
    """The table that an update counts in: more rows and one more column than the matrix, for all that is not in it.

    One pass over the pixels then gives the counts, the ignored pixels and the illegal ones. Its columns are the K
    classes and all other predictions; its rows all labels up to the ignored one, and the others.

    Attributes:
        others: The row of all labels that have none of their own.
        is_added: Whether the ignored label has none of its own: then it is the row after `others`.
        counted: bool, the cells that count.
        illegal: bool, the cells in which there must be no pixel.
    """

    def __init__(self, num_classes: int, ignore_label: int | None):
        K = num_classes
        self.is_added = ignore_label is not None and not 0 <= ignore_label < 1024
        self.others = K if ignore_label is None or self.is_added else max(K, ignore_label + 1)
        self.counted = np.zeros((self.others + 1 + self.is_added, K + 1), bool)
        self.counted[:K, :K] = True
        self.illegal = ~self.counted
        if ignore_label is not None:
            ignored = self.others + 1 if self.is_added else ignore_label
            self.counted[ignored] = self.illegal[ignored] = False


def class_ids(predicted: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns int32 [B, h, w] of logits float [B, h, w, K], of one logit [B, h, w, 1], or of class ids [B, h, w]."""
    if predicted.shape.rank == 4:
        if predicted.shape[-1] == 1 and num_classes == 2:
            return tf.cast(predicted[..., 0] > 0, tf.int32)
        if predicted.shape[-1] not in (None, num_classes):
            raise ValueError(f"expected logits [B, H, W, {num_classes}], received shape {predicted.shape}")
        return tf.argmax(predicted, -1, output_type=tf.int32)
    if predicted.shape.rank != 3 or predicted.dtype.is_floating:
        raise ValueError(
            f"expected logits [B, H, W, {num_classes}] or integer class ids [B, H, W], received {predicted.dtype.name} "
            f"of shape {predicted.shape}"
        )
    return tf.cast(predicted, tf.int32)


def _cut(mask: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Returns the central part of a mask [B, H, W] or [B, H, W, 1] that a prediction [B, h, w] covers."""
    if mask.shape.rank == 4:
        mask = tf.squeeze(mask, -1)
    for side, outer, inner in zip("HW", mask.shape[1:], predicted.shape[1:], strict=True):
        if outer is not None and inner is not None and outer < inner:
            raise ValueError(f"expected a mask at least as large as the prediction, received {side} {outer} < {inner}")
    outer, inner = tf.shape(mask), tf.shape(predicted)
    return mask[:, centre(outer[1], inner[1]), centre(outer[2], inner[2])]


def _check_range(labels: tf.Tensor, num_classes: int, what: str) -> None:
    tf.debugging.Assert(
        tf.reduce_all((labels >= 0) & (labels < num_classes)),
        [
            f"expected labels 0..{num_classes - 1} in the {what}; check num_classes and ignore_label against the data "
            "set. Highest and lowest received:",
            tf.reduce_max(labels),
            tf.reduce_min(labels),
        ],
    )
