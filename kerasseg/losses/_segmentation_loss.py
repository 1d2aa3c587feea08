"""What all losses share: what they are called with, which pixels count, and one value for all replicas."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._replicas import reported
from kerasseg.spec import IGNORE_LABEL, centre


class SegmentationLoss(keras.losses.Loss):
    """Base of all losses; a subclass defines `global_loss`.

    Called with mask integer [B, H, W] (or [B, H, W, 1]), logits float [B, h, w, K], and optionally sample_weight
    float [B, H, W] (or anything that broadcasts to it: [B], say), at least 0. A mask larger than the logits is cut to
    its centre, and so is its weight. Returns a float32 scalar, computed in float32 whatever the logits are.

    Ignored pixels count nowhere; a batch that holds no others has loss 0 and gradient 0. (The original DeepLab-v3
    gives NaN there, and one void crop destroys the weights.)

    One logit z a pixel, [B, h, w, 1], is a network of two classes 0 and 1 with logits 0 and z: probabilities
    1 - sigmoid(z) and sigmoid(z). Every loss takes it.

    Args:
        ignore_label: Mask value that counts nowhere. None: every pixel counts.
        class_weights: A weight for each class, at least 0 (two for networks of one logit); None: 1 each.
        name: Name in the logs.
    Raises:
        ValueError: An argument or a shape does not fit.
        tf.errors.InvalidArgumentError: A label that is neither in 0..K-1 nor the ignored one; the text says what to
            check. (The original counts such pixels in the mean, with loss 0: a wrong class list then trains, badly
            and without a word. XLA leaves such checks out; cross-entropy is NaN there.)
    """

    def __init__(
        self,
        ignore_label: int | None = IGNORE_LABEL,
        class_weights: Sequence[float] | None = None,
        name: str | None = None,
    ):
        # To Keras this is a "sum": it must not scale the value by the number of replicas, see `reported`.
        super().__init__(name=name, reduction="sum")
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            if not class_weights or not all(0 <= weight < float("inf") for weight in class_weights):
                raise ValueError(f"class_weights must be K finite numbers of at least 0, received {class_weights}")
        self.ignore_label = ignore_label
        self.class_weights = class_weights
        self._iterations = None

    def global_loss(self, mask: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Returns the loss of the global batch, float32 [], from this replica's part of it.

        Whatever is summed over pixels or images is summed with `add_over_replicas`.

        Args:
            mask: int32 [B, h, w], in 0..K-1; 0 where ignored.
            logits: float32 [B, h, w, K]; K may be 1, see `at_least_two`.
            weight: float32 [B, h, w], the sample weights; 0 where ignored.
        """
        raise NotImplementedError

    def follow(self, iterations) -> None:
        """Tells a loss that changes from step to step where to read the step: `model.optimizer.iterations`.

        `kerasseg.training.compile` does so; after a plain `model.compile` call it yourself. Others do not care.
        """
        self._iterations = iterations

    def _step(self) -> tf.Tensor:
        """Returns the training's step, int64 []."""
        if self._iterations is None:
            raise ValueError(
                f"{type(self).__name__} changes with the steps and was not told where to read them: call "
                "loss.follow(model.optimizer.iterations) after model.compile (kerasseg.training.compile does it)"
            )
        return tf.cast(tf.convert_to_tensor(self._iterations), tf.int64)

    def __call__(self, y_true, y_pred, sample_weight=None):
        with tf.name_scope(self.name or type(self).__name__):
            logits = tf.cast(y_pred, tf.float32)
            num_classes = self._num_classes(logits)
            mask = _cut(tf.cast(y_true, tf.int32), logits)
            valid = tf.ones_like(mask, tf.bool) if self.ignore_label is None else mask != self.ignore_label
            mask = _in_range(tf.where(valid, mask, 0), num_classes)
            weight = tf.cast(valid, tf.float32)
            if sample_weight is not None:
                weight *= _cut_weight(tf.cast(sample_weight, tf.float32), logits)
            return reported(self.global_loss(mask, logits, weight))

    def _num_classes(self, logits: tf.Tensor) -> int:
        num_logits = logits.shape[-1] if logits.shape.rank == 4 else None
        if num_logits is None:
            raise ValueError(f"expected logits [B, H, W, K] with known K, received shape {logits.shape}")
        num_classes = max(num_logits, 2)
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(f"expected {num_classes} class_weights, one a class, received {len(self.class_weights)}")
        return num_classes

    def get_config(self):
        return {"ignore_label": self.ignore_label, "class_weights": self.class_weights, "name": self.name}


def at_least_two(logits: tf.Tensor) -> tf.Tensor:
    """Returns logits [B, h, w, K]; one logit z becomes the two logits 0 and z."""
    return tf.concat([tf.zeros_like(logits), logits], -1) if logits.shape[-1] == 1 else logits


def _cut(mask: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the central part of a mask [B, H, W] or [B, H, W, 1] that logits [B, h, w, K] cover."""
    if mask.shape.rank == 4:
        mask = tf.squeeze(mask, -1)
    if mask.shape.rank != 3:
        raise ValueError(f"expected a mask [B, H, W], received shape {mask.shape}")
    for side, outer, inner in zip("HW", mask.shape[1:], logits.shape[1:3], strict=True):
        if outer is not None and inner is not None and outer < inner:
            raise ValueError(f"expected a mask at least as large as the logits, received {side} {outer} < {inner}")
    outer, inner = tf.shape(mask), tf.shape(logits)
    return mask[:, centre(outer[1], inner[1]), centre(outer[2], inner[2])]


def _cut_weight(weight: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns a weight [B, H, W], [B, H, W, 1] or [B] in the form [B, h, w] or [B, 1, 1]."""
    if weight.shape.rank in (0, 1):
        return tf.reshape(weight, [-1, 1, 1])
    return _cut(weight, logits)


def _in_range(mask: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Returns the mask, and stops the step where a label is outside 0..K-1."""
    check = tf.debugging.Assert(
        tf.reduce_all((mask >= 0) & (mask < num_classes)),
        [
            f"expected labels 0..{num_classes - 1} in the mask; check num_classes and ignore_label against the data "
            "set. Highest and lowest received:",
            tf.reduce_max(mask),
            tf.reduce_min(mask),
        ],
    )
    # In a graph, whatever uses the mask must wait for the check; eagerly it has raised, and is None.
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(mask)
