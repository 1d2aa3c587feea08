"""How good a segmentation is: every score from one confusion matrix over the whole split.

`confusion_matrix` and `scores` work on NumPy arrays; `MeanIoU`, `PixelAccuracy`, `MeanAccuracy`,
`FrequencyWeightedIoU` and, all from one matrix, `AllScores` are the same inside `model.fit`. Where classes meet,
`boundary_f1` and `trimap_confusion_matrix` look closer. For objects of one class (cells), `adapted_rand_f_score`,
`instance_ious`, `average_precision`, `seg_score`, `isbi_rand_score` and `isbi_information_score` compare label images.
"""

from kerasseg.metrics._boundaries import (
    boundary_counts,
    boundary_f1,
    boundary_scores,
    trimap,
    trimap_confusion_matrix,
)
from kerasseg.metrics._confusion_metric import ConfusionMetric, class_ids
from kerasseg.metrics._instances import (
    IOU_THRESHOLDS,
    adapted_rand_f_score,
    average_precision,
    counts_precision,
    detection_counts,
    detections,
    instance_ious,
    seg_score,
    seg_values,
)
from kerasseg.metrics._isbi import isbi_information_score, isbi_rand_score, isbi_scores, thin_borders
from kerasseg.metrics._keras_metrics import AllScores, FrequencyWeightedIoU, MeanAccuracy, MeanIoU, PixelAccuracy
from kerasseg.metrics._scores import confusion_matrix, scores

__all__ = [
    "AllScores",
    "ConfusionMetric",
    "FrequencyWeightedIoU",
    "IOU_THRESHOLDS",
    "MeanAccuracy",
    "MeanIoU",
    "PixelAccuracy",
    "adapted_rand_f_score",
    "average_precision",
    "boundary_counts",
    "boundary_f1",
    "boundary_scores",
    "class_ids",
    "confusion_matrix",
    "counts_precision",
    "detection_counts",
    "detections",
    "instance_ious",
    "isbi_information_score",
    "isbi_rand_score",
    "isbi_scores",
    "scores",
    "seg_score",
    "seg_values",
    "thin_borders",
    "trimap",
    "trimap_confusion_matrix",
]
