"""How good a segmentation is where classes meet: boundary F1, and confusion within a trimap around the true borders.

Void (the ignored label) is no class, and its edge is no border. But in data sets such as PASCAL VOC a rim of void
covers every border, so that no two classes touch: void must not simply be cut out either. Here every void pixel is
given the class of the labelled pixel that is nearest, which draws the true borders along the middle of such rims, and
draws none through void that lies within one class. How far each measure trusts those borders is said there.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from kerasseg.metrics._scores import check_pair, confusion_matrix
from kerasseg.spec import IGNORE_LABEL

TOLERANCE = 0.0075
"""Default distance within which boundaries match, as a share of the image's diagonal: 4.7 pixels of 500 x 375."""


def boundary_f1(
    mask: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    tolerance: float | None = None,
    ignore_label: int | None = IGNORE_LABEL,
) -> np.ndarray:
    """Returns the boundary F1 of each class in one image.

    Precision is the share of the predicted class's boundary pixels that have a true one within `tolerance`, recall the
    share of the true ones that have a predicted one; F1 is their harmonic mean. The authors' score of an image is the
    mean over its classes (`np.nanmean`), that of a set the mean over its images. Sums over a set, which give large
    objects their weight, are `boundary_counts` and `boundary_scores`.

    Args:
        mask: True class ids, integer [H, W], 0..K-1 or `ignore_label`.
        predicted: Class ids, integer [H, W], 0..K-1; where `mask` is ignored, other values are passed over.
        num_classes: K.
        tolerance: Pixels, Euclidean, included; default 0.0075 of the diagonal.
        ignore_label: Void; None: there is none.
    Returns:
        float64 [K], 0-1; NaN for a class with no boundary that counts in truth or prediction.
    Raises:
        ValueError, TypeError: As `confusion_matrix`.
    Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", §3; they too set the
        tolerance to 0.75 % of the diagonal.
    """
    return _f1(boundary_counts(mask, predicted, num_classes, tolerance, ignore_label))


def boundary_counts(
    mask: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    tolerance: float | None = None,
    ignore_label: int | None = IGNORE_LABEL,
) -> np.ndarray:
    """Counts boundary pixels per class and those that have a partner; counts of several images add up.

    A class's boundary pixels are its pixels with one of another class among their four neighbours; the image's edge is
    no boundary. True borders in void (see above) count where a labelled pixel lies within `tolerance` of them: where
    void is wider, nobody knows where the border is. Near such a border, and in void, a predicted boundary pixel is
    right where it is near a border that counts, and otherwise does not count: what cannot be judged costs nothing.
    VOC's rims are about five pixels wide, so a tolerance below 3 leaves little of them to count.

    Args:
        mask, predicted, num_classes, tolerance, ignore_label: As in `boundary_f1`.
    Returns:
        int64 [K, 4]: predicted boundary pixels, those of them that are right, true ones, those of them that were found.
    """
    mask, predicted = check_pair(mask, predicted, num_classes, ignore_label)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask [H, W], received {mask.shape}; count the images one by one")
    if tolerance is None:
        tolerance = TOLERANCE * np.hypot(*mask.shape)
    if not tolerance >= 0:
        raise ValueError(f"expected a tolerance of 0 pixels or more, received {tolerance}")
    counts = np.zeros((num_classes, 4), np.int64)
    void = np.zeros(mask.shape, bool) if ignore_label is None else mask == ignore_label
    if void.all():
        return counts
    filled, depth = _fill(mask, void)
    outside = (predicted < 0) | (predicted >= num_classes)  # In void only, where any value is admitted.
    guess = _fill(predicted, outside)[0] if outside.any() else predicted
    sure = depth <= tolerance
    for k in np.union1d(filled, guess):
        true, found = _inner_boundary(filled == k), _inner_boundary(guess == k)
        box = _box(true | found, int(np.ceil(tolerance)) + 1)
        if box is None:
            continue
        true, found = true[box], found[box]
        known = true & sure[box]
        right = found & _within(known, tolerance)
        unjudged = found & ~right & (void[box] | _within(true & ~known, tolerance))
        counts[k] = [
            np.count_nonzero(found) - np.count_nonzero(unjudged),
            np.count_nonzero(right),
            np.count_nonzero(known),
            np.count_nonzero(known & _within(found, tolerance)),
        ]
    return counts


def boundary_scores(counts: np.ndarray, class_names: Sequence[str] | None = None) -> dict:
    """Derives the boundary F1 over a set from summed `boundary_counts`.

    Args:
        counts: [K, 4].
        class_names: K names; default "0", "1", ...
    Returns:
        Plain Python values: `mean_boundary_f1`, over the classes that have a boundary (None where none has), and
        `per_class_boundary_f1` {name: 0-1} of those classes.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[1] != 4:
        raise ValueError(f"expected boundary counts [K, 4], received shape {counts.shape}")
    names = [str(k) for k in range(len(counts))] if class_names is None else [str(name) for name in class_names]
    if len(names) != len(counts):
        raise ValueError(f"expected {len(counts)} class names, one a row, received {len(names)}")
    values = {name: float(v) for name, v in zip(names, _f1(counts), strict=True) if not np.isnan(v)}
    return {
        "mean_boundary_f1": sum(values.values()) / len(values) if values else None,
        "per_class_boundary_f1": values,
    }


def trimap(mask: np.ndarray, width: float, ignore_label: int | None = IGNORE_LABEL) -> np.ndarray:
    """Marks the labelled pixels within `width` of a true border: a band on either side of it.

    A border is where labels of two classes meet, directly or across void: then the void between them is part of the
    border and the band begins at its edge (DeepLab measures the distance to void too). Void inside one class, and what
    sticks out of a rim farther than the rim is wide, has no band.

    Args:
        mask: True class ids, integer [H, W].
        width: Pixels, Euclidean, included: 1 marks the pixels that touch another class, or the rim, with an edge.
        ignore_label: Void; None: there is none.
    Returns:
        bool [H, W]; never True in void.
    """
    mask = np.asarray(mask)
    if not width >= 0:
        raise ValueError(f"expected a width of 0 pixels or more, received {width}")
    band = np.zeros(mask.shape, bool)
    void = np.zeros(mask.shape, bool) if ignore_label is None else mask == ignore_label
    if void.all():
        return band
    between = np.zeros(mask.shape, bool)
    if void.any():
        filled, depth = _fill(mask, void)
        middle = void & _touching(filled)
        if middle.any():
            distance, nearest = ndimage.distance_transform_edt(~middle, return_indices=True)
            between = void & (distance <= depth[tuple(nearest)])
    for k in np.unique(mask[~void]):
        own = (mask == k) | (void & ~between)
        band |= (mask == k) & _within(~own, width)
    return band


def trimap_confusion_matrix(
    mask: np.ndarray,
    predicted: np.ndarray,
    num_classes: int,
    width: float,
    ignore_label: int | None = IGNORE_LABEL,
) -> np.ndarray:
    """Counts pixels by true and predicted class, as `confusion_matrix` does, within `width` pixels of true borders.

    Matrices of several images add up; `scores` of the sum gives the trimap IoU of a set.

    Args:
        mask: True class ids, integer [H, W], 0..K-1 or `ignore_label`.
        predicted: Class ids, integer [H, W], 0..K-1.
        num_classes: K.
        width: Pixels on either side of a border, see `trimap`.
        ignore_label: Void; None: there is none.
    Returns:
        int64 [K, K].
    Raises:
        ValueError, TypeError: As `confusion_matrix`.
    Source: Kohli et al. 2009, "Robust higher order potentials for enforcing label consistency", §6; Chen et al. 2015
        (DeepLab), arXiv:1412.7062, §5.3, who take the mean IoU within a band around VOC's void.
    """
    mask, predicted = check_pair(mask, predicted, num_classes, ignore_label)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask [H, W], received {mask.shape}; count the images one by one")
    band = trimap(mask, width, ignore_label)
    return confusion_matrix(mask[band], predicted[band], num_classes, None)


def _fill(labels, missing):
    """Gives each missing pixel the label of the nearest other one; returns labels and the distances to those."""
    if not missing.any():
        return labels, np.zeros(labels.shape)
    distance, nearest = ndimage.distance_transform_edt(missing, return_indices=True)
    return labels[tuple(nearest)], distance


def _inner_boundary(inside):
    """Pixels inside with a 4-neighbour outside; what lies beyond the image is neither."""
    return _touching(inside) & inside


def _touching(labels):
    """Pixels with a 4-neighbour of another label."""
    touching = np.zeros(labels.shape, bool)
    differs = labels[1:] != labels[:-1]
    touching[1:] |= differs
    touching[:-1] |= differs
    differs = labels[:, 1:] != labels[:, :-1]
    touching[:, 1:] |= differs
    touching[:, :-1] |= differs
    return touching


def _box(there, margin):
    """The part of the image around what is there: all that distances up to the margin need."""
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    if not rows.size:
        return None
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(columns[0] - margin, 0), columns[-1] + margin + 1),
    )


def _within(targets, distance):
    """Pixels that have a target within the distance; 1e-9 for rounding."""
    if not targets.any():
        return np.zeros(targets.shape, bool)
    return ndimage.distance_transform_edt(~targets) <= distance + 1e-9


def _f1(counts):
    """2 PR / (P + R) of each row: 0 where one of both has no boundary, NaN where neither has."""
    found, right, true, recalled = np.asarray(counts, np.float64).T
    precision = np.divide(right, found, out=np.zeros(len(found)), where=found > 0)
    recall = np.divide(recalled, true, out=np.zeros(len(true)), where=true > 0)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros(len(total)), where=total > 0)
    return np.where((found > 0) | (true > 0), f1, np.nan)
