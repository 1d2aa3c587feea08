"""Losses from logits for `model.compile`: ignored pixels count nowhere, float32 throughout, any number of replicas.

Under `tf.distribute` every loss is that of the *global* batch: replicas that hold different numbers of valid pixels
give the gradient, and report the value, of one replica that holds them all.
"""

from kerasseg.losses._cross_entropy import CrossEntropy
from kerasseg.losses._pixel_loss import PixelLoss

__all__ = ["CrossEntropy", "PixelLoss"]
