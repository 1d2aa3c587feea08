"""How good a segmentation is: every score from one confusion matrix over the whole split.

`confusion_matrix` and `scores` work on NumPy arrays; `MeanIoU`, `PixelAccuracy`, `MeanAccuracy`,
`FrequencyWeightedIoU` and, all from one matrix, `AllScores` are the same inside `model.fit`. Where classes meet,
`boundary_f1` and `trimap_confusion_matrix` look closer. For objects of one class (cells), `adapted_rand_f_score`,
`instance_ious` and `detections` compare label images.
"""

from kerasseg.metrics._boundaries import (
    boundary_counts,
    boundary_f1,
    boundary_scores,
    trimap,
    trimap_confusion_matrix,
)
from kerasseg.metrics._confusion_metric import ConfusionMetric, class_ids
from kerasseg.metrics._instances import adapted_rand_f_score, detections, instance_ious
from kerasseg.metrics._keras_metrics import AllScores, FrequencyWeightedIoU, MeanAccuracy, MeanIoU, PixelAccuracy
from kerasseg.metrics._scores import confusion_matrix, scores

__all__ = [
    "AllScores",
    "ConfusionMetric",
    "FrequencyWeightedIoU",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "adapted_rand_f_score",
    "boundary_counts",
    "boundary_f1",
    "boundary_scores",
    "class_ids",
    "confusion_matrix",
    "detections",
    "instance_ious",
    "scores",
    "trimap",
    "trimap_confusion_matrix",
]
