"""Losses from logits for `model.compile`: ignored pixels count nowhere, float32 throughout, any number of replicas.

Under `tf.distribute` every loss is that of the *global* batch: replicas that hold different numbers of valid pixels
give the gradient, and report the value, of one replica that holds them all.

Of pixels: CrossEntropy, Focal, HardPixelCrossEntropy (top-k, bootstrapped), SampledCrossEntropy (FCN).
Of regions: Dice, Jaccard, Tversky, Lovasz.
Of several: Sum, CrossEntropyDice (UNet++).

A new one is a subclass of PixelLoss (`pixel_values`), RegionLoss (`class_values`) or SegmentationLoss (`global_loss`).
"""

from kerasseg.losses._cross_entropy import CrossEntropy
from kerasseg.losses._focal import Focal
from kerasseg.losses._hard_pixels import HardPixelCrossEntropy
from kerasseg.losses._lovasz import Lovasz
from kerasseg.losses._overlap import Dice, Jaccard, Tversky
from kerasseg.losses._pixel_loss import PixelLoss
from kerasseg.losses._region_loss import RegionLoss
from kerasseg.losses._sampled import SampledCrossEntropy
from kerasseg.losses._segmentation_loss import SegmentationLoss
from kerasseg.losses._sum import CrossEntropyDice, Sum

__all__ = [
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "HardPixelCrossEntropy",
    "Jaccard",
    "Lovasz",
    "PixelLoss",
    "RegionLoss",
    "SampledCrossEntropy",
    "SegmentationLoss",
    "Sum",
    "Tversky",
]
