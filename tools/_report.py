"""The pictures and the table of an evaluation."""

from collections.abc import Sequence

import numpy as np


def table(scores: dict, baseline: dict, class_names: Sequence[str]) -> str:
    """Returns the scores as text, those of predicting background everywhere beside them."""
    width = max(len("frequency-weighted IoU"), *(len(name) for name in class_names))
    lines = [f"{'':{width}}  {'model':>7}  {'all ' + class_names[0]:>{max(7, len(class_names[0]) + 4)}}"]

    def line(label, value, other):
        shown = [f"{v:7.4f}" if v is not None else f"{'-':>7}" for v in (value, other)]
        return f"{label:{width}}  {shown[0]}  {shown[1]:>{max(7, len(class_names[0]) + 4)}}"

    for name, label in (
        ("mean_iou", "mean IoU"),
        ("pixel_accuracy", "pixel accuracy"),
        ("mean_accuracy", "mean accuracy"),
        ("frequency_weighted_iou", "frequency-weighted IoU"),
    ):
        lines.append(line(label, scores[name], baseline[name]))
    for name, label in (
        ("adapted_rand_f_score", "adapted Rand F"),
        ("mean_instance_iou", "mean instance IoU"),
        ("average_precision_50", "objects' AP at IoU .5"),
    ):
        if name in scores:
            lines.append(line(label, scores[name], None))
    lines.append("IoU of")
    for name in class_names:
        ious = (scores["per_class_iou"].get(name), baseline["per_class_iou"].get(name))
        lines.append(line("  " + name, *ious))
    return "\n".join(lines)


class Extremes:
    """Keeps the images with the best and the worst scores of all that it is shown.

    Args:
        count: How many of each.
    """

    def __init__(self, count: int):
        self._count = count
        self._worst, self._best = [], []

    def add(self, score: float, prediction) -> None:
        """Takes a `kerasseg.inference.Prediction` with its score into account."""
        self._worst = sorted([*self._worst, (score, prediction)], key=lambda item: item[0])[: self._count]
        self._best = sorted([*self._best, (score, prediction)], key=lambda item: -item[0])[: self._count]

    def items(self):
        """Yields (name such as "worst_1", score, prediction); no image twice."""
        shown = set()
        for kind, items in (("worst", self._worst), ("best", self._best)):
            for number, (score, prediction) in enumerate(items, 1):
                if prediction.key not in shown:
                    shown.add(prediction.key)
                    yield f"{kind}_{number}", score, prediction


def sheet(prediction, score: float, classes) -> np.ndarray:
    """Draws image, truth and prediction side by side, with a legend of the classes that occur."""
    from kerasseg.postprocess import legend, montage, overlay

    truth, predicted = prediction.mask.astype(np.uint8), prediction.predicted
    pictures = [prediction.image, *(overlay(prediction.image, mask, classes.colours) for mask in (truth, predicted))]
    present = np.union1d(np.unique(truth), np.unique(predicted))
    return montage(
        [pictures],
        titles=["image", "truth", "prediction"],
        captions=[[prediction.key, "", f"IoU {score:.3f}"]],
        footer=lambda width: legend(classes.names, classes.colours, classes=present, width=width),
        side=320,
    )
