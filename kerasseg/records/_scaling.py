"""Values of more than 8 bits as 0-255: which become 0 and 255, and the arithmetic inside and outside of a graph."""

import numpy as np
import tensorflow as tf

from kerasseg import spec as specs
from kerasseg.spec import DataError, DatasetSpec

NUM_VALUES = 65536
"""Of 16 bits."""


def to_255(image, spec: DatasetSpec):
    """Returns uint16 or float32 [..., C] of a data set as float32 0-255; uint8, and float32 without a range, as it is.

    Arrays give arrays, tensors tensors.
    """
    if image.dtype == np.uint8 or (image.dtype == np.float32 and spec.value_range is None):
        return image
    if isinstance(image, np.ndarray):
        return specs.to_255(image.astype(np.float32), spec.value_range)
    return specs.to_255(tf.cast(image, tf.float32), spec.value_range, tf.clip_by_value)


def count_values(image: np.ndarray) -> np.ndarray:
    """Returns how often a uint16 array has each value, int64 [65536]."""
    return np.bincount(image.ravel(), minlength=NUM_VALUES)


def percentile_range(counts: np.ndarray, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Returns two percentiles of values that are given by their counts, exactly as `numpy.percentile` of them all.

    Args:
        counts: int64 [65536], how often each value occurs.
        percentiles: 0 <= low < high <= 100.

    Raises:
        DataError: The two are the same value.
    """
    places = (int(counts.sum()) - 1) * np.array(percentiles, np.float64) / 100
    below = np.floor(places)
    cumulated = np.cumsum(counts)
    first, second = (np.searchsorted(cumulated, place, "right") for place in (below, np.ceil(places)))
    low, high = (first + (places - below) * (second - first)).tolist()
    if low >= high:
        raise DataError(
            f"{percentiles[0]:g} % and {percentiles[1]:g} % of all values of the images are at most {low:g}, so they "
            "tell no range; take percentiles farther apart (--percentiles), or the full range (--scaling full)"
        )
    return low, high
