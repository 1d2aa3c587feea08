"""Lovász-softmax."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._region_loss import RegionLoss

_BINS = 2**16


@keras.utils.register_keras_serializable("kerasseg")
class Lovasz(RegionLoss):
    """Lovász-softmax: of each class, the Lovász extension of 1 - IoU at the pixels' errors.

    A pixel's error e for a class is 1 - p in the class's true region, p outside. In falling order of the errors, the
    first i pixels being taken for wrong gives an IoU; the value is Σ e_i·(IoU_(i-1) - IoU_i). With weights, a pixel is
    a part of its region as large as its weight.

    Errors are ordered by bins of 2^-16; pixels in one bin share what they change, so that the value is right to 2^-16
    (and where no two fall into one bin, exact), and the order is found by counting: sorting takes several times as
    long, and over replicas would have to gather every probability, where here the counts are summed.

    Args:
        classes: See `RegionLoss`.
        **options: See `RegionLoss`; `per_image` is the authors' option of the same name.
    Raises:
        ValueError, tf.errors.InvalidArgumentError: See `SegmentationLoss`.
    Reference: Berman et al. 2018, arXiv:1705.08790, and `lovasz_losses.py`. Differs: of one logit, class 1 takes part
        in images without it, too, where the authors leave them out.
    """

    def __init__(self, classes="present", **options):
        super().__init__(classes=classes, **options)

    def class_values(self, truth, probabilities, weight):
        if not self.per_image:
            slope, offset = self._slope_and_offset(truth[0], tf.stop_gradient(probabilities[0]), weight[0])
            slope, offset = slope[None], offset[None]
        else:
            # One image after the other: the counts of all at once could take more memory than the network.
            slope, offset = tf.map_fn(
                lambda image: self._slope_and_offset(*image),
                (truth, tf.stop_gradient(probabilities), weight),
                fn_output_signature=(tf.float32, tf.float32),
                parallel_iterations=1,
            )
        # Σ weight·slope·error, with error = p outside the region and 1 - p within.
        return self.sum_groups(tf.reduce_sum(slope * probabilities, 1))[0] + offset

    def _slope_and_offset(self, truth, probabilities, weight):
        """Returns d value / d p, float32 [N, K], and the value at p = 0 with these slopes, float32 [K]."""
        num_classes = truth.shape[-1]
        errors = tf.where(truth, 1 - probabilities, probabilities)
        # Cells of a table [K, _BINS, 2]: outside the region or within it.
        cells = tf.cast(errors * (_BINS - 1) + 0.5, tf.int32) * 2 + tf.cast(truth, tf.int32)
        cells += tf.range(num_classes) * (2 * _BINS)
        sizes = tf.raw_ops.DenseBincount(
            input=tf.reshape(cells, [-1]),
            size=num_classes * _BINS * 2,
            weights=tf.reshape(tf.broadcast_to(weight[:, None], tf.shape(cells)), [-1]),
            binary_output=False,
        )
        [sizes] = self.sum_groups(tf.reshape(sizes, [num_classes, _BINS, 2]))
        sizes = tf.stop_gradient(sizes)
        changes = _changes(sizes)
        slope = tf.gather(tf.reshape(changes * [1.0, -1.0], [-1]), cells)
        return weight[:, None] * slope, tf.reduce_sum(sizes[..., 1] * changes[..., 1], 1)


def _changes(sizes: tf.Tensor) -> tf.Tensor:
    """Returns how much a unit of each cell changes 1 - IoU, errors in falling order, float32 [K, _BINS, 2].

    Within a bin, the mean of what comes of taking the region's pixels first and of taking the others first.

    Args:
        sizes: float32 [K, _BINS, 2], weight of the pixels in each bin, outside the region and within it.
    """
    outside, within = tf.unstack(sizes, axis=-1)
    outside_before, within_before = tf.unstack(tf.cumsum(sizes, 1, exclusive=True, reverse=True), axis=-1)
    region = tf.reduce_sum(within, 1, keepdims=True)
    before = region + outside_before  # the union of region and pixels taken
    after = before + outside
    left = tf.maximum(region - within_before - within / 2, 0)
    change_outside = tf.where(
        before > 0,
        tf.math.divide_no_nan(left, before * after),
        tf.math.divide_no_nan(1.0, after),  # no region: the first pixel takes 1 - IoU from 0 to 1
    )
    change_within = (tf.math.reciprocal_no_nan(before) + tf.math.reciprocal_no_nan(after)) / 2
    return tf.stack([change_outside, change_within], -1)
