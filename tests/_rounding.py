"""How far two computations of the same network may differ, because kernels sum in another order."""

import math

import numpy as np
from tensorflow import keras

UNIT = 2.0**-24
"""Unit roundoff of float32."""
LAMBDA = 8
"""Standard deviations that are allowed: rounding errors are taken as independent, of mean zero."""


def rounding(model: keras.Model, values) -> float:
    """Returns the largest difference that rounding explains between two computations of `values`, a model's outputs.

    A float32 sum of n products has an error of about sqrt(n) u times the size of its terms (Higham & Mary 2019: with
    probability 1 - 2 exp(-lambda² / 2)). Errors of successive layers add up as variances do: a path through sums of n1,
    n2, ... products has sqrt(n1 + n2 + ...) u, relative to the largest output. The sum is taken over all layers, which
    no path exceeds. Two computations differ by sqrt(2) as much as one from the exact value.
    """
    products = 0
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for weight in layer.weights:
            if "kernel" in weight.name:
                products += math.prod(weight.shape[:-1])
    return float(math.sqrt(2) * LAMBDA * UNIT * math.sqrt(products + len(model.layers)) * np.abs(values).max())
