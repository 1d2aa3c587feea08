"""Masks after the network, or without one: drawn to the edges of the image, drawn for people, taken apart into objects.

NumPy, no TensorFlow.
"""

from kerasseg.postprocess._confusion import confusion_picture
from kerasseg.postprocess._dense_crf import CRF_PRESETS, CRFPreset, dense_crf
from kerasseg.postprocess._drawing import colourise, displayable, overlay
from kerasseg.postprocess._errors import error_map
from kerasseg.postprocess._objects import objects
from kerasseg.postprocess._sheets import legend, montage
from kerasseg.postprocess._watershed import split_by_distance, split_by_rims

__all__ = [
    "CRF_PRESETS",
    "CRFPreset",
    "colourise",
    "confusion_picture",
    "dense_crf",
    "displayable",
    "error_map",
    "legend",
    "montage",
    "objects",
    "overlay",
    "split_by_distance",
    "split_by_rims",
]
