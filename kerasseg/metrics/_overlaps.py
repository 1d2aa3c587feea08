"""Which objects of two label images overlap, and by how many pixels: what all scores of objects are made of."""

from typing import NamedTuple

import numpy as np


class Overlaps(NamedTuple):
    """Pixels that objects of the truth and of the prediction share; only pairs that do overlap are listed.

    Attributes:
        true: int64 [P], index 0..T-1 of the true object of a pair, in the order of their labels.
        predicted: int64 [P], index 0..S-1 of the predicted object.
        shared: int64 [P], pixels that lie in both.
        true_sizes: int64 [T], pixels of each true object.
        predicted_sizes: int64 [S].
        missed: int64 [T], pixels of each true object where nothing is predicted.
    """

    true: np.ndarray
    predicted: np.ndarray
    shared: np.ndarray
    true_sizes: np.ndarray
    predicted_sizes: np.ndarray
    missed: np.ndarray

    def ious(self) -> np.ndarray:
        """Returns the intersection over union of each pair, float64 [P]."""
        return self.shared / self.unions()

    def unions(self) -> np.ndarray:
        """Returns the pixels in either object of each pair, int64 [P]."""
        return self.true_sizes[self.true] + self.predicted_sizes[self.predicted] - self.shared


def overlaps(instances: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Counts what the objects of two label images share, in time and memory for the pixels, however many objects.

    Args:
        instances: True objects, integer [H, W] (or any shape), 0 = none; numbers may have gaps and be large.
        predicted: Predicted objects, integer, same shape.
    Raises:
        ValueError: Shapes differ, or a label is negative.
        TypeError: An array is not of integers.
    """
    instances, predicted = np.asarray(instances), np.asarray(predicted)
    if instances.shape != predicted.shape:
        raise ValueError(
            f"expected true and predicted objects of one shape, received {instances.shape} and {predicted.shape}; "
            "cut or resize one to the other first"
        )
    true, num_true = numbered(instances, "true objects")
    other, num_other = numbered(predicted, "predicted objects")
    cells = true * (num_other + 1) + other
    if (num_true + 1) * (num_other + 1) <= 4 * cells.size + 4:
        counts = np.bincount(cells, minlength=(num_true + 1) * (num_other + 1))
        pairs = np.flatnonzero(counts)
        counts = counts[pairs]
    else:
        pairs, counts = np.unique(cells, return_counts=True)
    rows, columns = np.divmod(pairs, num_other + 1)
    missed = np.zeros(num_true + 1, np.int64)
    missed[rows[columns == 0]] = counts[columns == 0]
    both = (rows > 0) & (columns > 0)
    return Overlaps(
        rows[both] - 1,
        columns[both] - 1,
        counts[both],
        np.bincount(true, minlength=num_true + 1)[1:],
        np.bincount(other, minlength=num_other + 1)[1:],
        missed[1:],
    )


def numbered(labels: np.ndarray, what: str) -> tuple[np.ndarray, int]:
    """Returns labels numbered 1..n without gaps in their order, int64 flat, 0 staying 0, and n."""
    if labels.dtype.kind not in "uib":
        raise TypeError(f"expected {what} as integer labels (0 = none), received {labels.dtype}")
    flat = labels.reshape(-1)
    if flat.size and flat.min() < 0:
        raise ValueError(f"expected {what} as labels from 0 (none) up, received {flat.min()}")
    highest = int(flat.max(initial=0))
    if highest <= 4 * flat.size + 4:  # A table by label; sorting takes about ten times as long.
        there = np.zeros(highest + 1, bool)
        there[flat] = True
        there[0] = False
        return np.where(there, np.cumsum(there), 0)[flat], int(there.sum())
    values, numbers = np.unique(flat, return_inverse=True)
    numbers = numbers.reshape(-1) + (0 if values[0] == 0 else 1)
    return numbers, int((values > 0).sum())
