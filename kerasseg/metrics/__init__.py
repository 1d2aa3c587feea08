"""How good a segmentation is: every score from one confusion matrix over the whole split.

`confusion_matrix` and `scores` work on NumPy arrays; `MeanIoU` is the same inside `model.fit`.
"""

from kerasseg.metrics._mean_iou import MeanIoU
from kerasseg.metrics._scores import confusion_matrix, scores

__all__ = ["MeanIoU", "confusion_matrix", "scores"]
