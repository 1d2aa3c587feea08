"""The ISBI-2012 challenge's scores of neurons that membranes part: V^Rand and V^Info, foreground-restricted, thinned.

Source: Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for connectomics",
equations 3 and 6 with alpha = 0.5, and Fiji's `RandError` and `VariationOfInformation` (foreground-restricted, N^2
normalisation), which compute them for the challenge:

- Only pixels that lie in true cells count; true membrane does not (foreground-restricted).
- The prediction's membranes are thinned to lines one pixel wide first: its cells grow over them (watershed), so that a
  network is not punished for thick membranes.
- A pixel of the lines that lies in a true cell counts as a cell of its own.
- A stack's score is the mean over its slices, and the challenge takes the best over thresholds of the probabilities.
"""

from collections.abc import Sequence

import numpy as np
from skimage.measure import label
from skimage.segmentation import watershed

from kerasseg.metrics._overlaps import Overlaps, overlaps


def isbi_rand_score(instances: np.ndarray, predicted: np.ndarray, *, thin: bool = True) -> float | None:
    """Returns V^Rand: 2 sum p_ij^2 / (sum s_i^2 + sum t_j^2) over the shares of the true cells' pixels.

    Unlike `adapted_rand_f_score` it counts pairs with themselves (N^2 instead of N (N - 1)), and predicted background
    as single pixels instead of one more object.

    Args:
        instances: True cells, integer [H, W], 0 = membrane; from a class map: `postprocess.objects`.
        predicted: Predicted cells, integer [H, W], 0 = membrane.
        thin: Grow predicted cells over membranes until these are one pixel wide, as the challenge does.
    Returns:
        0-1, 1 is best; None where the truth holds no cell.
    """
    return _rand(overlaps(instances, thin_borders(predicted) if thin else predicted))


def isbi_information_score(instances: np.ndarray, predicted: np.ndarray, *, thin: bool = True) -> float | None:
    """Returns V^Info: twice the mutual information of truth and prediction ÷ the sum of their entropies.

    Args:
        instances: True cells, integer [H, W], 0 = membrane.
        predicted: Predicted cells, integer [H, W], 0 = membrane.
        thin: As in `isbi_rand_score`.
    Returns:
        0-1, 1 is best; None where the truth holds no cell. Where truth and prediction are one and the same single
        cell, so that nothing is left to know, it is 1 (Fiji's code gives 0).
    """
    return _information(overlaps(instances, thin_borders(predicted) if thin else predicted))


def isbi_scores(
    instances: np.ndarray, inside: np.ndarray, thresholds: Sequence[float] = (0.5,)
) -> tuple[np.ndarray, np.ndarray]:
    """Returns V^Rand and V^Info after thinning, for cells cut out of a probability map at several thresholds.

    Cells are the connected components (4 neighbours) of `inside > threshold`. The challenge's figure for a stack is
    the best threshold's mean over slices: `np.mean([isbi_scores(...)[0] for each slice], 0).max()`, with thresholds
    0, 0.1, ..., 1 in Fiji's script.

    Args:
        instances: True cells, integer [H, W], 0 = membrane; at least one cell.
        inside: Probability of not being membrane, float [H, W].
        thresholds: T of them.
    Returns:
        Two arrays float64 [T].
    Raises:
        ValueError: `inside` is no map of the truth's size, or the truth holds no cell.
    """
    inside = np.asarray(inside)
    if inside.shape != np.shape(instances) or inside.ndim != 2:
        raise ValueError(f"expected probabilities of the truth's shape {np.shape(instances)}, received {inside.shape}")
    if not np.any(instances):
        raise ValueError("expected at least one true cell, received none: the scores are shares of their pixels")
    found = [overlaps(instances, thin_borders(label(inside > t, connectivity=1))) for t in thresholds]
    return np.array([_rand(each) for each in found]), np.array([_information(each) for each in found])


def thin_borders(instances: np.ndarray) -> np.ndarray:
    """Returns objects grown over the background until lines of it, one pixel wide, part them: watershed, 4 neighbours.

    Args:
        instances: Integer [H, W], 0 = background. Objects that touch stay as they are.
    Returns:
        int32 [H, W], numbered 1, 2, ... in the order of the labels; no background is left where there is one object.
    """
    instances = np.asarray(instances)
    if instances.ndim != 2 or instances.dtype.kind not in "uib":
        raise ValueError(f"expected objects as integers [H, W], received {instances.dtype} {instances.shape}")
    if not instances.any():
        return np.zeros(instances.shape, np.int32)
    values, numbers = np.unique(instances, return_inverse=True)
    numbers = (numbers.reshape(instances.shape) + (values[0] != 0)).astype(np.int32)
    # On a flat surface the flood rises by distance, as Fiji's does on the binary map.
    grown = watershed(np.zeros(instances.shape, np.uint8), numbers, connectivity=1, watershed_line=True)
    return np.where(numbers > 0, numbers, grown).astype(np.int32)


def _rand(found: Overlaps) -> float | None:
    total = found.true_sizes.sum()
    if not total:
        return None
    single = found.missed.sum() / total / total
    both = ((found.shared / total) ** 2).sum() + single
    predicted = ((_inside(found) / total) ** 2).sum() + single
    return float(2 * both / (((found.true_sizes / total) ** 2).sum() + predicted))


def _information(found: Overlaps) -> float | None:
    total = found.true_sizes.sum()
    if not total:
        return None
    single = found.missed.sum() / total * np.log(total)
    true = _entropy(found.true_sizes / total)
    predicted = _entropy(_inside(found) / total) + single
    both = _entropy(found.shared / total) + single
    if true + predicted <= 1e-12:
        return 1.0
    return float(max(0.0, 2 * (true + predicted - both) / (true + predicted)))


def _inside(found):
    """Pixels of each predicted object that lie in true objects."""
    return np.bincount(found.predicted, found.shared, len(found.predicted_sizes))


def _entropy(shares):
    shares = shares[shares > 0]
    return -(shares * np.log(shares)).sum()
