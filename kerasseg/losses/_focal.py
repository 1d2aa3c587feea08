"""Focal loss."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._pixel_loss import PixelLoss


@keras.utils.register_keras_serializable("kerasseg")
class Focal(PixelLoss):
    """Cross-entropy that counts less where the network is right: -α (1 - p)^γ log p, p the true class's probability.

    With gamma 0 and no alpha it is `CrossEntropy`.

    Args:
        gamma: γ, at least 0.
        alpha: α of class 1 in a network of two classes or one logit; class 0 has 1 - alpha. None: 1 for all. With
            more classes, `class_weights` are the α of each.
        **options: See `PixelLoss`.
    Raises:
        ValueError: An argument is out of range, or alpha meets more than two classes.
    Reference: Lin et al. 2017, arXiv:1708.02002, eq. 5 (γ 2, α 0.25). Differs: they divide by the number of objects;
        here "valid_mean" divides by the number of valid pixels.
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = None, **options):
        super().__init__(**options)
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"gamma must be a finite number of at least 0, received {gamma}")
        if alpha is not None and not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be a number from 0 to 1, received {alpha}; class_weights weigh many classes")
        self.gamma, self.alpha = gamma, alpha

    def pixel_values(self, mask, logits):
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
        # 1 - p, exact for p near 1; not 0, where the power's slope is infinite for γ below 1.
        wrong = tf.maximum(-tf.math.expm1(-cross_entropy), 1e-12)
        values = wrong**self.gamma * cross_entropy
        if self.alpha is None:
            return values
        if logits.shape[-1] != 2:
            raise ValueError(f"alpha is for two classes, received {logits.shape[-1]}: give class_weights instead")
        return values * tf.gather(tf.constant([1 - self.alpha, self.alpha]), mask)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}
