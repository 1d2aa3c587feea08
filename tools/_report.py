"""The pictures and the table of an evaluation."""

from collections.abc import Sequence

import numpy as np

from kerasseg.spec import IGNORE_LABEL

MOST_LISTED = 40

MEASURES = {
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "frequency_weighted_iou": "frequency-weighted IoU",
}
BORDERS = {"mean_boundary_f1": "boundary F1"}
OBJECTS = {
    "average_precision_50": "objects' AP at IoU .5",
    "mean_average_precision": "objects' AP, IoU .5 to .95",
    "seg_score": "SEG",
    "adapted_rand_f_score": "adapted Rand F",
    "mean_instance_iou": "mean instance IoU",
    "mean_image_iou": "IoU of class 1, by image",
    "isbi_rand_score": "ISBI Rand score",
    "isbi_information_score": "ISBI information score",
}


def measures(report: dict) -> dict[str, float | None]:
    """Returns {label: value} of the scores beside the four usual ones that a report holds."""
    found = {label: report[name] for name, label in BORDERS.items() if name in report}
    for width, value in report.get("trimap_mean_iou", {}).items():
        found[f"mean IoU {width} px from borders"] = value
    found["mean IoU, by image"] = report["per_image"]["mean_iou"]
    return found | {label: report[name] for name, label in OBJECTS.items() if name in report}


def table(report: dict, baseline: dict, class_names: Sequence[str]) -> str:
    """Returns the scores as text, those of predicting background everywhere beside them.

    Classes that occur nowhere have no line; of more than `MOST_LISTED` classes only the worst are listed.
    """
    others = measures(report)
    shown = [name for name in class_names if name in report["per_class_iou"]]
    if len(class_names) > MOST_LISTED:
        shown = sorted(shown, key=report["per_class_iou"].get)[: MOST_LISTED // 2]
    width = max(len(label) for label in [*MEASURES.values(), *others, *("  " + name for name in shown)])
    second = max(7, len(class_names[0]) + 4)
    lines = [f"{'':{width}}  {'model':>7}  {'all ' + class_names[0]:>{second}}"]

    def line(label, value, other=None):
        texts = [f"{v:7.4f}" if v is not None else f"{'-':>7}" for v in (value, other)]
        return f"{label:{width}}  {texts[0]}  {texts[1]:>{second}}".rstrip()

    lines += [line(label, report[name], baseline[name]) for name, label in MEASURES.items()]
    lines += [line(label, value) for label, value in others.items()]
    some = f" (the {len(shown)} worst of {len(class_names)} classes)" if len(class_names) > MOST_LISTED else ""
    lines.append(f"IoU of{some}")
    for name in shown:
        lines.append(line("  " + name, report["per_class_iou"][name], baseline["per_class_iou"].get(name)))
    return "\n".join(lines)


class Extremes:
    """Keeps the images with the best and the worst scores of all that it is shown.

    Args:
        count: How many of each.
    """

    def __init__(self, count: int):
        self._count = count
        self._worst, self._best = [], []

    def add(self, scored) -> None:
        """Takes a `_tally.Scored` into account."""
        self._worst = sorted([*self._worst, scored], key=lambda item: item.iou)[: self._count]
        self._best = sorted([*self._best, scored], key=lambda item: -item.iou)[: self._count]

    def items(self):
        """Yields (name such as "worst_1", `_tally.Scored`); no image twice."""
        shown = set()
        for kind, items in (("worst", self._worst), ("best", self._best)):
            for number, scored in enumerate(items, 1):
                if scored.prediction.key not in shown:
                    shown.add(scored.prediction.key)
                    yield f"{kind}_{number}", scored


def views(scored, classes) -> dict[str, np.ndarray]:
    """Returns the pictures of a `_tally.Scored`: image, truth, prediction and errors, uint8 [H, W, 3].

    Where single objects are known, they are coloured one by one. Without an image there is none of it.
    """
    from kerasseg.postprocess import displayable, error_map, overlay

    prediction = scored.prediction
    truth, predicted = prediction.mask.astype(np.uint8), prediction.predicted
    image, colours = prediction.image, classes.colours
    errors = error_map(truth, predicted, image)
    if scored.objects is not None:
        void = truth == IGNORE_LABEL
        truth, predicted = (_cycled(objects) for objects in scored.objects)
        truth[void] = IGNORE_LABEL
        colours = _OBJECT_COLOURS
    below = np.full((*truth.shape, 3), 128, np.uint8) if image is None else image
    pictures = {
        "truth": overlay(below, truth, colours),
        "prediction": overlay(below, predicted, colours),
        "errors": errors,
    }
    return pictures if image is None else {"image": displayable(image), **pictures}


# By number, in turn; black is the background.
_OBJECT_COLOURS = np.array(
    [(0, 0, 0), (31, 119, 220), (255, 127, 14), (44, 180, 44), (230, 30, 120), (150, 90, 220), (190, 190, 20),
     (23, 190, 207), (200, 60, 40)], np.uint8
)  # fmt: skip


def _cycled(objects):
    """Returns uint8 [H, W]: which of the colours each object gets, 0 for none."""
    return np.where(objects > 0, 1 + (objects - 1) % (len(_OBJECT_COLOURS) - 1), 0).astype(np.uint8)


def objects_said(scored) -> tuple[str, str] | None:
    """Returns how many objects are true and how many were found, in words; None where there are no objects."""
    if scored.objects is None:
        return None
    numbers = [np.count_nonzero(np.unique(objects)) for objects in scored.objects]
    return f"{numbers[0]} true objects", f"{numbers[1]} found"


def classes_in(prediction) -> np.ndarray:
    """Returns the labels that occur in the truth or in the prediction of an image."""
    return np.union1d(np.unique(prediction.mask), np.unique(prediction.predicted))


def sheet(scored, classes) -> np.ndarray:
    """Draws the pictures of a `_tally.Scored` side by side, with a legend of the classes that occur."""
    from kerasseg.postprocess import legend, montage

    prediction, said = scored.prediction, objects_said(scored) or ("", "")
    pictures = views(scored, classes)
    captions = {"image": prediction.key, "truth": said[0], "errors": "wrong pixels amber"}
    captions["prediction"] = f"IoU {scored.iou:.3f}{', ' * bool(said[1])}{said[1]}"
    there = classes_in(prediction)
    return montage(
        [list(pictures.values())],
        titles=list(pictures),
        captions=[[captions[name] for name in pictures]],
        footer=None
        if scored.objects is not None
        else lambda width: legend(classes.names, classes.colours, classes=there, width=width),
        side=320,
    )
