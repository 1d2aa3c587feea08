"""Masks after the network, or without one: drawn for people, taken apart into objects. NumPy, no TensorFlow."""

from kerasseg.postprocess._drawing import colourise, displayable, overlay
from kerasseg.postprocess._objects import objects
from kerasseg.postprocess._sheets import legend, montage

__all__ = ["colourise", "displayable", "legend", "montage", "objects", "overlay"]
