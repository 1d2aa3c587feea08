"""What a network is, read from the graph that TensorFlow runs, and what TensorFlow runs it on."""

from kerasseg.inspection._convolutions import Convolution, convolutions, multiply_adds
from kerasseg.inspection._receptive_field import receptive_field
from kerasseg.inspection._runtime import runtime

__all__ = ["Convolution", "convolutions", "multiply_adds", "receptive_field", "runtime"]
