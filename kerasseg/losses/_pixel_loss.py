"""What losses that are a sum or a mean over pixels share."""

import tensorflow as tf

from kerasseg.losses._replicas import add_over_replicas, sum_over_replicas
from kerasseg.losses._segmentation_loss import SegmentationLoss, at_least_two
from kerasseg.spec import IGNORE_LABEL


class PixelLoss(SegmentationLoss):
    """Base of losses that give each pixel a value; a subclass defines `pixel_values`.

    A pixel's weight is its sample weight times its class's weight; 0 at ignored pixels.
        "valid_mean": Σ weight·value ÷ the number of pixels whose weight is not 0. Without weights that is the mean
            over valid pixels (DeepLab). Weights scale the loss: doubling them all doubles it, as in TensorFlow 1's
            SUM_BY_NONZERO_WEIGHTS and unlike PyTorch, which divides by Σ weight. No such pixel: 0.
        "sum": Σ weight·value (FCN's release).

    Args:
        ignore_label, class_weights, name: See `SegmentationLoss`, which says how a loss is called.
        reduction: "valid_mean" or "sum".
    Raises:
        ValueError, tf.errors.InvalidArgumentError: See `SegmentationLoss`.
    """

    def __init__(self, ignore_label=IGNORE_LABEL, class_weights=None, reduction: str = "valid_mean", name=None):
        super().__init__(ignore_label, class_weights, name)
        if reduction not in ("valid_mean", "sum"):
            raise ValueError(f"reduction must be 'valid_mean' or 'sum', received {reduction!r}")
        self.pixel_reduction = reduction

    def pixel_values(self, mask: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, H, W] from mask int32 [B, H, W], in 0..K-1 (0 where ignored), and logits float32."""
        raise NotImplementedError

    def kept(self, weight: tf.Tensor, values: tf.Tensor) -> tf.Tensor | float:
        """Returns how much of each pixel takes part, 0-1, from weight and value, float32 [B, H, W] each. All of all."""
        return 1.0

    def global_loss(self, mask, logits, weight):
        if self.class_weights is not None:
            weight *= tf.gather(tf.constant(self.class_weights), mask)
        values = self.pixel_values(mask, at_least_two(logits))
        kept = self.kept(weight, tf.stop_gradient(values))
        total = add_over_replicas(tf.reduce_sum(weight * kept * values))
        if self.pixel_reduction == "sum":
            return total
        return tf.math.divide_no_nan(total, sum_over_replicas(tf.reduce_sum(tf.cast(weight != 0, tf.float32) * kept)))

    def get_config(self):
        return {**super().get_config(), "reduction": self.pixel_reduction}
