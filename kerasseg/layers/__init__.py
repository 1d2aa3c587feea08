"""Layers of segmentation networks that Keras does not have, or not in the form that the networks need.

Each takes one tensor or one list of tensors (float, [B, H, W, C]), works on unknown H and W, under mixed
precision and distribution, and is registered, so that saved models load after `import kerasseg.layers`.
"""

from kerasseg.layers._aspp import ASPP
from kerasseg.layers._atrous_conv import AtrousConv2D
from kerasseg.layers._atrous_separable_conv import AtrousSeparableConv2D
from kerasseg.layers._attention_gate import AttentionGate
from kerasseg.layers._average_probabilities import AverageProbabilities
from kerasseg.layers._bilinear_transpose import BilinearConv2DTranspose
from kerasseg.layers._crop import CropLike
from kerasseg.layers._dilated import dilated_conv2d, forward_only
from kerasseg.layers._dropout import MonteCarloDropout
from kerasseg.layers._input_size import LegalInputSize
from kerasseg.layers._lrn import LocalResponseNorm
from kerasseg.layers._max_unpool import MaxPoolWithIndices2D, MaxUnpool2D, MaxUnpoolWithIndices2D
from kerasseg.layers._merge_classes import MergeClasses
from kerasseg.layers._norm import BatchNorm, make_norm
from kerasseg.layers._normalize import Normalize
from kerasseg.layers._num_classes import num_classes_of
from kerasseg.layers._resize import Resize
from kerasseg.layers._scale import Scale
from kerasseg.layers._size_rule import SizeRule, size_rules
from kerasseg.layers._standardize import StandardizeImage
from kerasseg.layers._tile_step import gaussian_window, tile_and_step

__all__ = [
    "ASPP",
    "AtrousConv2D",
    "AtrousSeparableConv2D",
    "AttentionGate",
    "AverageProbabilities",
    "BatchNorm",
    "BilinearConv2DTranspose",
    "CropLike",
    "LegalInputSize",
    "LocalResponseNorm",
    "MaxPoolWithIndices2D",
    "MaxUnpool2D",
    "MaxUnpoolWithIndices2D",
    "MergeClasses",
    "MonteCarloDropout",
    "Normalize",
    "Resize",
    "Scale",
    "SizeRule",
    "StandardizeImage",
    "dilated_conv2d",
    "forward_only",
    "make_norm",
    "num_classes_of",
    "gaussian_window",
    "size_rules",
    "tile_and_step",
]
