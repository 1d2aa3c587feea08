"""Cross-entropy of the hardest pixels."""

import math

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._cross_entropy import CrossEntropy
from kerasseg.losses._kth_largest import kth_largest
from kerasseg.losses._replicas import sum_over_replicas


@keras.utils.register_keras_serializable("kerasseg")
class HardPixelCrossEntropy(CrossEntropy):
    """Cross-entropy of the hardest pixels of the global batch alone (bootstrapped, top-k, online hard examples).

    Of the n pixels that count (weight not 0) it keeps the k = round(fraction · n), at least one, of largest
    weight·cross-entropy; pixels that tie at the limit share the places left. "valid_mean" is the mean over those k,
    "sum" their sum. With fraction 1 it is `CrossEntropy`.

    With `ramp_steps` the fraction falls in a straight line from 1 at step 0 to `fraction` at that step; the loss must
    then `follow` the optimiser's iterations.

    Args:
        fraction: The share kept in the end, above 0 to 1.
        ramp_steps: Steps until then; 0: from the start.
        max_probability: Keeps as well every pixel whose true class has a probability below this, 0 to 1, however many
            there are (0.7 is usual); None: none.
        **options: See `PixelLoss`.
    Raises:
        ValueError: An argument is out of range, or the loss was not told the step.
    Reference: tensorflow/models deeplab, `top_k_percent_pixels` and `hard_example_mining_step`; Wu et al. 2016
        (arXiv:1605.06885) for max_probability. Differs: deeplab takes the fraction of all pixels, ignored ones
        included, so that a crop that is mostly padding keeps all its pixels; and of each GPU's batch by itself.
    """

    def __init__(self, fraction: float = 0.25, ramp_steps: int = 0, max_probability: float | None = None, **options):
        super().__init__(**options)
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must be a number above 0 and up to 1, received {fraction}")
        if ramp_steps < 0:
            raise ValueError(f"ramp_steps must be at least 0, received {ramp_steps}")
        if max_probability is not None and not 0 < max_probability <= 1:
            raise ValueError(f"max_probability must be a number above 0 and up to 1, received {max_probability}")
        self.fraction, self.ramp_steps, self.max_probability = fraction, ramp_steps, max_probability

    def kept(self, weight, values):
        counted = weight != 0
        count = sum_over_replicas(tf.math.count_nonzero(counted, dtype=tf.int32))
        k = tf.maximum(tf.cast(tf.round(self._fraction() * tf.cast(count, tf.float64)), tf.int32), 1)
        difficulty = weight * values
        limit, above, equal = kth_largest(difficulty, counted, k)
        places = tf.math.divide_no_nan(tf.cast(k - above, tf.float32), tf.cast(equal, tf.float32))
        kept = tf.where(difficulty > limit, 1.0, tf.where(difficulty == limit, places, 0.0))
        if self.max_probability is not None:
            kept = tf.maximum(kept, tf.cast(values > -math.log(self.max_probability), tf.float32))
        return tf.where(counted, kept, 0.0)

    def _fraction(self) -> tf.Tensor:
        if not self.ramp_steps:
            return tf.constant(self.fraction, tf.float64)
        ramp = tf.minimum(tf.cast(self._step(), tf.float64) / self.ramp_steps, 1)
        return 1 - ramp * (1 - self.fraction)

    def get_config(self):
        options = {"fraction": self.fraction, "ramp_steps": self.ramp_steps, "max_probability": self.max_probability}
        return {**super().get_config(), **options}
