"""How good a segmentation is: every score from one confusion matrix over the whole split.

`confusion_matrix` and `scores` work on NumPy arrays; `MeanIoU` is the same inside `model.fit`. For objects of one class
(cells), `adapted_rand_f_score` and `instance_ious` compare label images.
"""

from kerasseg.metrics._instances import adapted_rand_f_score, detections, instance_ious
from kerasseg.metrics._mean_iou import MeanIoU
from kerasseg.metrics._scores import confusion_matrix, scores

__all__ = ["MeanIoU", "adapted_rand_f_score", "confusion_matrix", "detections", "instance_ious", "scores"]
