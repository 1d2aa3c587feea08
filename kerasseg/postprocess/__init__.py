"""What happens to images and masks after (or without) a network: drawing them for people. NumPy, no TensorFlow."""

from kerasseg.postprocess._drawing import colourise, displayable, overlay
from kerasseg.postprocess._sheets import legend, montage

__all__ = ["colourise", "displayable", "legend", "montage", "overlay"]
