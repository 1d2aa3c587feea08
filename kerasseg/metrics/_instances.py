"""How well single objects are told apart, from label images: 0 is no object, 1, 2, ... the objects.

Labels may have gaps and be of any integer type. Nothing here is of the order (true objects) x (predicted objects).
"""

from collections.abc import Sequence

import numpy as np
from skimage.metrics import adapted_rand_error

from kerasseg.metrics._overlaps import numbered, overlaps

IOU_THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))
"""0.5, 0.55, ..., 0.95: those of the Data Science Bowl 2018 and of COCO."""


def adapted_rand_f_score(instances: np.ndarray, predicted: np.ndarray) -> float | None:
    """Returns the adapted Rand F-score of an image: 1 - `skimage.metrics.adapted_rand_error`.

    That is the harmonic mean of precision and recall over pairs of pixels that lie in one object in the prediction and
    in the truth. Pixels outside true objects do not count; predicted background counts as one more object.

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].

    Returns:
        0-1, or None where the truth holds no object of two pixels or more, so that there is no pair.
    """
    true, num_true = numbered(np.asarray(instances), "true objects")
    other, _ = numbered(np.asarray(predicted), "predicted objects")
    if np.bincount(true, minlength=num_true + 1)[1:].max(initial=0) < 2:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # Its precision, where nothing is predicted twice.
        return float(1 - adapted_rand_error(true, other)[0])


def instance_ious(instances: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns, for each true object, the IoU of the predicted object that fits it best; 0 where none touches it.

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].

    Returns:
        float64 [number of true objects], 0-1, in the order of their labels.
    """
    found = overlaps(instances, predicted)
    best = np.zeros(len(found.true_sizes))
    np.maximum.at(best, found.true, found.ious())
    return best


def seg_values(instances: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns SEG of the Cell Tracking Challenge for each true object.

    That is the Jaccard index (IoU) with the predicted object that covers more than half of the true object's pixels,
    of which there can be only one; 0 where none does. The challenge's score is the mean over the true objects of all
    images: concatenate the values of the images. Predicted objects without a true partner cost nothing, so images in
    which only some of the cells are annotated can be scored.

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].

    Returns:
        float64 [number of true objects], 0-1, in the order of their labels.
    Source: Maška et al. 2014, "A benchmark for comparison of cell tracking algorithms", and the challenge's SEGMeasure.
    """
    found = overlaps(instances, predicted)
    covered = 2 * found.shared > found.true_sizes[found.true]
    values = np.zeros(len(found.true_sizes))
    values[found.true[covered]] = found.ious()[covered]
    return values


def seg_score(instances: np.ndarray, predicted: np.ndarray) -> float | None:
    """Returns the mean of `seg_values` of one image, 0-1, or None where the truth holds no object."""
    values = seg_values(instances, predicted)
    return float(values.mean()) if values.size else None


def detections(instances: np.ndarray, predicted: np.ndarray, min_iou: float = 0.5) -> tuple[int, int, int]:
    """Returns true positives, false positives and false negatives: objects that have a partner of IoU above `min_iou`.

    From 0.5 on, no object can have two partners. The average precision of the Data Science Bowl 2018 at one threshold
    is TP / (TP + FP + FN).

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].
        min_iou: At least 0.5.
    Raises:
        ValueError: `min_iou` is lower.
    """
    return tuple(detection_counts(instances, predicted, [min_iou])[0].tolist())


def detection_counts(
    instances: np.ndarray, predicted: np.ndarray, min_ious: Sequence[float] = IOU_THRESHOLDS
) -> np.ndarray:
    """Counts true positives, false positives and false negatives at several IoUs, as `detections` at one.

    Counts of several images add up; `counts_precision` of the sum is the pooled average precision of them all.

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].
        min_ious: T thresholds from 0.5 to below 1; an IoU of exactly a threshold is no hit, as in the challenge.
    Returns:
        int64 [T, 3].
    Raises:
        ValueError: A threshold is outside.
    """
    outside = [min_iou for min_iou in min_ious if not 0.5 <= min_iou < 1]
    if outside:
        raise ValueError(f"expected min_iou from 0.5 to below 1, received {outside[0]}")
    found = overlaps(instances, predicted)
    unions = found.unions()
    # An IoU is a fraction of whole pixels: 1e-12 is far below what two of them differ by, and above rounding errors.
    hits = np.array([(found.shared > (min_iou + 1e-12) * unions).sum() for min_iou in min_ious], np.int64)
    return np.stack([hits, len(found.predicted_sizes) - hits, len(found.true_sizes) - hits], axis=1)


def average_precision(
    instances: np.ndarray, predicted: np.ndarray, min_ious: Sequence[float] = IOU_THRESHOLDS
) -> float:
    """Returns the average precision of one image: the mean over IoU thresholds of TP / (TP + FP + FN).

    The score of a set is the mean over its images. Source: the evaluation of the Data Science Bowl 2018 (Kaggle).

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].
        min_ious: Thresholds, see `detection_counts`.
    Returns:
        0-1. Where neither holds an object it is 1, since nothing was missed and nothing made up; the challenge has no
        such image and leaves it open.
    """
    return counts_precision(detection_counts(instances, predicted, min_ious))


def counts_precision(counts: np.ndarray) -> float:
    """Returns the mean over thresholds of TP / (TP + FP + FN), 0-1; a row of zeros counts as 1.

    Args:
        counts: [T, 3], of `detection_counts`: of one image, or summed over a set for the pooled average precision.
    """
    counts = np.asarray(counts, np.float64)
    total = counts.sum(axis=1)
    return float(np.divide(counts[:, 0], total, out=np.ones(len(counts)), where=total > 0).mean())
