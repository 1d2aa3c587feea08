"""Scores of single objects (cells), gathered image by image."""

import numpy as np

OBJECTS_BY = ("auto", "components", "watershed")


def add_option(parser) -> None:
    """Adds the option that says how objects are made."""
    parser.add_argument(
        "--objects-by",
        choices=OBJECTS_BY,
        default="auto",
        help="how the predicted class 1 becomes objects; auto: by rims where the model knows them, else components",
    )


def objects_of(predicted: np.ndarray, objects: np.ndarray | None, objects_by: str) -> np.ndarray:
    """Returns the objects in a predicted class map, int32 [H, W].

    Args:
        predicted: Class ids, integer [H, W]; 1 are the objects.
        objects: As the model itself told them apart, if it can.
        objects_by: "components", "watershed" (`postprocess.split_by_distance`), or "auto": `objects` where there are,
            else components.
    """
    from kerasseg import postprocess

    if objects_by == "watershed":
        return postprocess.split_by_distance(predicted)
    return objects if objects_by == "auto" and objects is not None else postprocess.objects(predicted)


class ObjectScores:
    """Compares predicted objects with true ones.

    Args:
        objects_by: As for `objects_of`.
        membranes: Whether to add the scores of the ISBI-2012 challenge.
    """

    def __init__(self, objects_by: str = "auto", membranes: bool = False):
        self._objects_by, self._membranes = objects_by, membranes
        self._image_ious = []
        self._by = objects_by
        self._values = {name: [] for name in ("f", "ious", "seg", "rand", "information")}
        self._counts = []  # int64 [T, 3] of each image

    def add(self, prediction, instances: np.ndarray) -> np.ndarray:
        """Takes a `kerasseg.inference.Prediction` and the true objects into account; returns those found."""
        from kerasseg import metrics

        found = objects_of(prediction.predicted, prediction.objects, self._objects_by)
        values = self._values
        if self._objects_by == "auto":
            self._by = "components" if prediction.objects is None else "prediction"
        score = metrics.adapted_rand_f_score(instances, found)
        if score is not None:
            values["f"].append(score)
        values["ious"].extend(metrics.instance_ious(instances, found))
        values["seg"].extend(metrics.seg_values(instances, found))
        counts = metrics.detection_counts(instances, found)
        if counts.any():  # Not an image without true and predicted objects: there is nothing to find.
            self._counts.append(counts)
        matrix = prediction.confusion_matrix
        union = matrix[1].sum() + matrix[:, 1].sum() - matrix[1, 1]
        if union:
            self._image_ious.append(matrix[1, 1] / union)
        if self._membranes and instances.any():
            values["rand"].append(metrics.isbi_rand_score(instances, found))
            values["information"].append(metrics.isbi_information_score(instances, found))
        return found

    def result(self) -> dict:
        """Returns the scores for `report.json`; None where nothing could be scored.

        `objects_by` is "prediction" where the model, or the files, told objects apart.

        Means: of F, of `mean_image_iou` (the IoU of class 1), of the challenge's scores over the images that have such
        objects; of `mean_instance_iou` and `seg_score` over all objects. Average precision is TP / (TP + FP + FN) at an
        IoU above a threshold, counted over all images; the `mean_` ones are the means of each image's;
        `mean_average_precision` takes the mean over the thresholds as well, as the Data Science Bowl 2018 does.
        """
        from kerasseg.metrics import IOU_THRESHOLDS

        pooled, mean = [], []  # [T]
        if self._counts:
            counts = np.array(self._counts, np.float64)  # [N, T, 3]
            pooled = (counts.sum(0)[:, 0] / counts.sum((0, 2))).tolist()
            mean = (counts[:, :, 0] / counts.sum(2)).mean(0).tolist()
        values = {name: float(np.mean(each)) if each else None for name, each in self._values.items()}
        return {
            "objects_by": self._by,
            "average_precision_50": pooled[0] if pooled else None,
            "mean_average_precision_50": mean[0] if mean else None,
            "mean_average_precision": float(np.mean(mean)) if mean else None,
            "mean_average_precision_by_iou": {f"{t:.2f}": v for t, v in zip(IOU_THRESHOLDS, mean, strict=False)},
            "seg_score": values["seg"],
            "adapted_rand_f_score": values["f"],
            "mean_instance_iou": values["ious"],
            "mean_image_iou": float(np.mean(self._image_ious)) if self._image_ious else None,
            **(
                {"isbi_rand_score": values["rand"], "isbi_information_score": values["information"]}
                if self._membranes
                else {}
            ),
        }
