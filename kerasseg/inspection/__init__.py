"""What a network is, read from the graph that TensorFlow runs: its convolutions, multiply-adds and receptive field."""

from kerasseg.inspection._convolutions import Convolution, convolutions, multiply_adds
from kerasseg.inspection._receptive_field import receptive_field

__all__ = ["Convolution", "convolutions", "multiply_adds", "receptive_field"]
