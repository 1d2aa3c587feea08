"""What losses that are a sum or a mean over pixels share."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras

from kerasseg.spec import IGNORE_LABEL, centre


class PixelLoss(keras.losses.Loss):
    """Base of losses that give each pixel a value; a subclass defines `pixel_values`.

    Called with mask integer [B, H, W] (or [B, H, W, 1]), logits float [B, h, w, K], and optionally sample_weight
    float [B, H, W] (or anything that broadcasts to it: [B], say). A mask larger than the logits is cut to its centre,
    and so is its weight. Returns a float32 scalar.

    A pixel's weight is its sample weight times its class's weight; 0 at ignored pixels.
        "valid_mean": Σ weight·value ÷ the number of pixels whose weight is not 0. Without weights that is the mean
            over valid pixels (DeepLab). Weights scale the loss: doubling them all doubles it, as in TensorFlow 1's
            SUM_BY_NONZERO_WEIGHTS and unlike PyTorch, which divides by Σ weight. No such pixel: 0. (The original
            DeepLab-v3 gives NaN there, and one void crop destroys the weights.)
        "sum": Σ weight·value (FCN's release).

    Args:
        ignore_label: Mask value that counts nowhere. None: every pixel counts.
        class_weights: K weights; None: 1 each.
        reduction: "valid_mean" or "sum".
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
        reduction: str = "valid_mean",
        name: str | None = None,
    ):
        # To Keras this is a "sum": it must not scale the value by the number of replicas, see `_of_global_batch`.
        super().__init__(name=name, reduction="sum")
        if reduction not in ("valid_mean", "sum"):
            raise ValueError(f"reduction must be 'valid_mean' or 'sum', received {reduction!r}")
        if class_weights is not None:
            class_weights = [float(weight) for weight in class_weights]
            if not class_weights or not all(0 <= weight < float("inf") for weight in class_weights):
                raise ValueError(f"class_weights must be K finite numbers of at least 0, received {class_weights}")
        self.ignore_label = ignore_label
        self.class_weights = class_weights
        self.pixel_reduction = reduction

    def pixel_values(self, mask: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, H, W] from mask int32 [B, H, W], in 0..K-1 (0 where ignored), and logits float32."""
        raise NotImplementedError

    def __call__(self, y_true, y_pred, sample_weight=None):
        with tf.name_scope(self.name or type(self).__name__):
            logits = tf.cast(y_pred, tf.float32)
            num_classes = self._check_shapes(logits)
            mask = _cut(tf.cast(y_true, tf.int32), logits)
            valid = tf.ones_like(mask, tf.bool) if self.ignore_label is None else mask != self.ignore_label
            mask = _in_range(tf.where(valid, mask, 0), num_classes)
            weight = tf.cast(valid, tf.float32)
            if self.class_weights is not None:
                weight *= tf.gather(tf.constant(self.class_weights), mask)
            if sample_weight is not None:
                weight *= _cut_weight(tf.cast(sample_weight, tf.float32), logits)
            total = tf.reduce_sum(weight * self.pixel_values(mask, logits))
            if self.pixel_reduction == "sum":
                return _of_global_batch(total)
            count = _sum_over_replicas(tf.cast(tf.math.count_nonzero(weight), tf.float32))
            return _of_global_batch(tf.math.divide_no_nan(total, count))

    def _check_shapes(self, logits: tf.Tensor) -> int:
        num_classes = logits.shape[-1] if logits.shape.rank == 4 else None
        if num_classes is None:
            raise ValueError(f"expected logits [B, H, W, K] with known K, received shape {logits.shape}")
        if self.class_weights is not None and len(self.class_weights) != num_classes:
            raise ValueError(f"expected {num_classes} class_weights, one a class, received {len(self.class_weights)}")
        return num_classes

    def get_config(self):
        return {
            "ignore_label": self.ignore_label,
            "class_weights": self.class_weights,
            "reduction": self.pixel_reduction,
            "name": self.name,
        }


def _of_global_batch(share: tf.Tensor) -> tf.Tensor:
    """Returns a replica's share of the global loss in such a form that Keras trains on and reports the right thing.

    Keras adds up the replicas' gradients: the gradient must be that of `share`. As the loss it reports the mean over
    replicas of (value · replicas), weighted by their images: the value must be the global loss ÷ replicas, the same on
    each, or replicas with an unequal number of images would report something else.
    """
    replicas = _num_replicas()
    if replicas == 1:
        return share
    return share - tf.stop_gradient(share) + _sum_over_replicas(share) / replicas


def _sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns the sum, without a gradient: it would cost one more reduction, in an order not fixed among replicas."""
    if _num_replicas() == 1:
        return tf.stop_gradient(value)
    return tf.stop_gradient(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value))


def _num_replicas() -> int:
    # Outside `strategy.run` there is one batch, whatever the strategy.
    replica = tf.distribute.get_replica_context()
    return 1 if replica is None else replica.num_replicas_in_sync


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
