"""How well single objects are told apart, from label images: 0 is no object, 1, 2, ... the objects."""

import numpy as np
from skimage.metrics import adapted_rand_error, contingency_table


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
    if np.bincount(instances[instances > 0], minlength=1).max(initial=0) < 2:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):  # Its precision, where nothing is predicted twice.
        return float(1 - adapted_rand_error(instances, predicted)[0])


def instance_ious(instances: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns, for each true object, the IoU of the predicted object that fits it best; 0 where none touches it.

    Args:
        instances: True objects, integer [H, W].
        predicted: Predicted objects, integer [H, W].

    Returns:
        float64 [number of true objects], 0-1, in the order of their labels.
    """
    table = contingency_table(instances, predicted).toarray()
    sizes, predicted_sizes = table.sum(axis=1), table.sum(axis=0)
    there = np.flatnonzero(sizes[1:]) + 1
    intersection = table[there, 1:]
    if not intersection.size:
        return np.zeros(len(there))
    return (intersection / (sizes[there, None] + predicted_sizes[None, 1:] - intersection)).max(axis=1)


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
    if not 0.5 <= min_iou < 1:
        raise ValueError(f"expected min_iou from 0.5 to below 1, received {min_iou}")
    table = contingency_table(instances, predicted).toarray()
    sizes, predicted_sizes = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    intersection = table[1:, 1:]
    union = sizes[:, None] + predicted_sizes[None] - intersection
    found = int((intersection > min_iou * union).sum())
    return found, int((predicted_sizes > 0).sum()) - found, int((sizes > 0).sum()) - found
