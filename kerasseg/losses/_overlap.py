"""Losses from how much the predicted region of a class and its true region overlap."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._region_loss import RegionLoss


class OverlapLoss(RegionLoss):
    """Base of Dice, Jaccard and Tversky: wrong ÷ (whole + smooth), from 0, all right, to 1.

    Of each class, with t 1 in its true region and else 0, p the predicted probability and w the pixel's weight:
        hit = Σ w·t·p        missed = Σ w·t·(1 - p)        false = Σ w·(1 - t)·p

    That is 1 - (right + smooth) ÷ (whole + smooth) without its rounding errors: it is never negative, and 0 for a batch
    without pixels that count.

    Args:
        smooth: Added above and below. Steadies classes of few pixels; of a class that does not occur, the value is
            less than 1 where few pixels are taken for it. With 0 it is 1, without a slope.
        **options: See `RegionLoss`.
    Raises:
        ValueError, tf.errors.InvalidArgumentError: See `SegmentationLoss`.
    """

    def __init__(self, smooth: float = 1.0, **options):
        super().__init__(**options)
        if not 0 <= smooth < float("inf"):
            raise ValueError(f"smooth must be a finite number of at least 0, received {smooth}")
        self.smooth = smooth

    def wrong_and_whole(self, hit: tf.Tensor, missed: tf.Tensor, false: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the two sums, float32 [G, K]."""
        raise NotImplementedError

    def class_values(self, truth, probabilities, weight):
        weight = weight[..., None]
        weight_in, weight_out = tf.where(truth, weight, 0.0), tf.where(truth, 0.0, weight)
        sums = self.sum_groups(
            tf.reduce_sum(weight_in * probabilities, 1),
            tf.reduce_sum(weight_in * (1 - probabilities), 1),
            tf.reduce_sum(weight_out * probabilities, 1),
        )
        wrong, whole = self.wrong_and_whole(*sums)
        return tf.math.divide_no_nan(wrong, whole + self.smooth)

    def get_config(self):
        return {**super().get_config(), "smooth": self.smooth}


@keras.utils.register_keras_serializable("kerasseg")
class Dice(OverlapLoss):
    """Soft Dice: 1 - (2·hit + smooth) ÷ (predicted + true + smooth), the regions' sizes hit + false and hit + missed.

    Arguments and sums: `OverlapLoss`, `RegionLoss`. UNet++'s code: `Dice()` on one logit; its paper:
    `Dice(smooth=0, per_image=True)`; both with cross-entropy, see `CrossEntropyDice`.

    Reference: Milletari et al. 2016 (arXiv:1606.04797), who square in the denominator; UNet++ (arXiv:1807.10165) and
    its `helper_functions.py`, which do not, and return minus Dice, so a negative loss.
    """

    def wrong_and_whole(self, hit, missed, false):
        wrong = missed + false
        return wrong, 2 * hit + wrong


@keras.utils.register_keras_serializable("kerasseg")
class Jaccard(OverlapLoss):
    """Soft IoU: 1 - (hit + smooth) ÷ (union + smooth), union = hit + missed + false.

    Arguments and sums: `OverlapLoss`, `RegionLoss`.
    Reference: Rahman & Wang 2016, "Optimizing intersection-over-union in deep neural networks", eq. 3-5 (smooth 0).
    """

    def wrong_and_whole(self, hit, missed, false):
        wrong = missed + false
        return wrong, hit + wrong


@keras.utils.register_keras_serializable("kerasseg")
class Tversky(OverlapLoss):
    """1 - (hit + smooth) ÷ (hit + alpha·false + beta·missed + smooth): sets what a false pixel costs, and a missed one.

    With 0.5 and 0.5 it is `Dice` (of twice the smooth), with 1 and 1 `Jaccard`. A beta above alpha finds more of small
    objects, at the price of more false pixels.

    Args:
        alpha: Cost of a false pixel, at least 0.
        beta: Cost of a missed one, at least 0.
        **options: See `OverlapLoss`, `RegionLoss`.
    Raises:
        ValueError: An argument is out of range.
    Reference: Salehi et al. 2017, arXiv:1706.05721, eq. 4 (best with 0.3 and 0.7).
    """

    def __init__(self, alpha: float = 0.3, beta: float = 0.7, **options):
        super().__init__(**options)
        if not (0 <= alpha < float("inf") and 0 <= beta < float("inf")):
            raise ValueError(f"alpha and beta must be finite numbers of at least 0, received {alpha} and {beta}")
        self.alpha, self.beta = alpha, beta

    def wrong_and_whole(self, hit, missed, false):
        wrong = self.alpha * false + self.beta * missed
        return wrong, hit + wrong

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "beta": self.beta}
