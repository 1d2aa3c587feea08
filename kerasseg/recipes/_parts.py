"""What the recipes share."""

import functools
import inspect
import math
from collections.abc import Callable

from kerasseg.spec import DatasetSpec

BIASES_TWICE = {r"(^|/)bias$": 2.0}
"""Caffe's habit: biases learn twice as fast as kernels."""


def network(build: Callable, data: DatasetSpec, **options) -> functools.partial:
    """Returns a function that builds a network for a data set: its classes and channels, images of any size.

    Raises:
        ValueError: An option is none of the network's.
    """
    known = [name for name in inspect.signature(build).parameters if name not in ("num_classes", "input_shape", "name")]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"{build.__name__} has no option {unknown[0]!r}; it has: {', '.join(known)}")
    return functools.partial(build, data.num_classes, input_shape=(None, None, data.channels), **options)


def epoch(data: DatasetSpec, split: str, batch_size: int) -> int:
    """Returns the number of batches that show each image of a split once, the last one perhaps with some twice."""
    return math.ceil(data.split(split).num_examples / batch_size)


def one_of(name: str, value: str, *legal: str) -> str:
    """Returns the value of an argument, if it is a legal one."""
    if value not in legal:
        raise ValueError(f"{name} must be one of {', '.join(legal)}, received {value!r}")
    return value
