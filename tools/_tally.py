"""What the predictions of a split score together."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from _object_scores import ObjectScores
from _pictures import Classes

TRIMAP_WIDTHS = (3, 10)


@dataclasses.dataclass(frozen=True)
class Source:
    """Predictions to be scored, wherever they come from.

    Attributes:
        title: What they are predictions for.
        classes: Names and colours.
        has_instances: Whether single objects are known.
        num_images: How many there are.
        items: (`kerasseg.inference.Prediction`, true objects int32 [H, W] or None) of each image.
        described: What `report.json` says of them.
    """

    title: str
    classes: Classes
    has_instances: bool
    num_images: int
    items: Iterator
    described: dict


@dataclasses.dataclass(frozen=True)
class Scored:
    """An image with its score.

    Attributes:
        iou: Mean IoU of the image.
        prediction: A `kerasseg.inference.Prediction`; its image is None where there is none.
        objects: True and found objects, int32 [H, W] each, or None.
    """

    iou: float
    prediction: object
    objects: tuple[np.ndarray, np.ndarray] | None


class Tally:
    """Adds up predictions, image by image.

    Args:
        class_names: K names.
        borders: Whether to look at the borders between classes as well: boundary F1 and the IoU within trimaps.
        objects: Scores objects, too, where the data has them.
    """

    def __init__(self, class_names, *, borders: bool = True, objects: ObjectScores | None = None):
        K = len(class_names)
        self.class_names = tuple(class_names)
        self.matrix = np.zeros((K, K), np.int64)
        self.image_ious = {}
        """{key: mean IoU of the image}"""
        self._objects = objects
        self._count = 0
        self._images = []  # the scores of each image, as `per_image=True` takes them
        self._borders = [] if borders else None
        self._trimaps = {width: np.zeros((K, K), np.int64) for width in TRIMAP_WIDTHS} if borders else {}

    def add(self, prediction, instances: np.ndarray | None = None) -> Scored:
        """Takes a `kerasseg.inference.Prediction` and the true objects into account."""
        from kerasseg import metrics

        matrix, K = prediction.confusion_matrix, len(self.class_names)
        self.matrix += matrix
        self._count += 1
        iou = metrics.scores(matrix)["mean_iou"]
        self.image_ious[prediction.key] = iou
        if matrix.any():
            self._images.append(metrics.scores(matrix[None], per_image=True))
        if self._borders is not None:
            counts = metrics.boundary_counts(prediction.mask, prediction.predicted, K)
            self._borders.append(metrics.boundary_scores(counts, self.class_names))
            for width, trimap in self._trimaps.items():
                trimap += metrics.trimap_confusion_matrix(prediction.mask, prediction.predicted, K, width)
        if self._objects is None or instances is None:
            return Scored(iou, prediction, None)
        return Scored(iou, prediction, (instances, self._objects.add(prediction, instances)))

    def result(self) -> dict:
        """Returns the scores for `report.json`, and those of predicting the first class everywhere as `baseline`."""
        from kerasseg.metrics import scores

        baseline = self.baseline()
        return {
            "num_images": self._count,
            **scores(self.matrix, self.class_names),
            "confusion_matrix": self.matrix.tolist(),
            **(self._objects.result() if self._objects else {}),
            **self._of_borders(),
            "per_image": self._means(),
            "image_iou": self.image_ious,
            "baseline": {"predicts": self.class_names[0], **{k: baseline[k] for k in ("mean_iou", "pixel_accuracy")}},
        }

    def baseline(self) -> dict:
        """Returns the scores of predicting the first class everywhere, which follow from the truth's pixel counts."""
        from kerasseg.metrics import scores

        first = np.zeros_like(self.matrix)
        first[:, 0] = self.matrix.sum(axis=1)
        return scores(first, self.class_names)

    def _means(self):
        """The means over images, as the original DeepLab-v3 project reports them."""
        names = ("mean_iou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
        return {
            name: float(np.mean([image[name] for image in self._images])) if self._images else 0.0 for name in names
        }

    def _of_borders(self):
        """Boundary F1: the mean over images, of an image over its classes; of a class over the images that show it."""
        from kerasseg.metrics import scores

        if self._borders is None:
            return {}
        means = [image["mean_boundary_f1"] for image in self._borders if image["mean_boundary_f1"] is not None]
        per_class = {
            name: [
                image["per_class_boundary_f1"][name]
                for image in self._borders
                if name in image["per_class_boundary_f1"]
            ]
            for name in self.class_names
        }
        return {
            "mean_boundary_f1": float(np.mean(means)) if means else None,
            "per_class_boundary_f1": {name: float(np.mean(values)) for name, values in per_class.items() if values},
            "trimap_mean_iou": {
                str(width): scores(trimap)["mean_iou"] if trimap.any() else None
                for width, trimap in self._trimaps.items()
            },
        }
