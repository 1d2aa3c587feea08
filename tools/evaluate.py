"""Scores a trained model on a split of a converted data set: whole images, one confusion matrix over all of them.

    python tools/evaluate.py --model runs/voc/best.keras --data tfrecords/voc2012 --split val --output reports/voc
    python tools/evaluate.py --model runs/cells/best.keras --data tfrecords/cells --output reports/cells --pictures 8
    python tools/evaluate.py --model runs/voc/best.keras --data tfrecords/voc2012 --output reports/voc_ms \
        --scales .5 .75 1 1.25 1.5 1.75 --flip

Writes OUTPUT/report.json, OUTPUT/confusion_matrix.png and OUTPUT/overlays/ (the worst and the best images: picture,
truth and prediction); files of these names, and the pictures in overlays/, are replaced, others are left alone. Beside
the scores the table shows those of predicting the first class everywhere. Data with instances (cells) is scored by
objects too: components of the predicted class 1 against the true instances, or what a model that knows rims parts.
"""

import json
import os
from pathlib import Path

import _cli
import _inference_options


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="trained model, such as runs/NAME/best.keras")
    parser.add_argument("--data", type=Path, required=True, help="converted data set, such as tfrecords/NAME")
    parser.add_argument("--split", default="val", help="split of the data set")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pictures", type=int, default=4, help="how many of the worst and of the best images to draw")
    _inference_options.add(parser)
    options = parser.parse_args(arguments)
    if options.pictures < 0:
        parser.error("--pictures must not be negative")

    from kerasseg.spec import DatasetSpec

    spec = DatasetSpec.load(options.data)
    spec.split(options.split)  # Refused before the model is loaded, which takes a while.

    import _pictures
    import _report

    from kerasseg.pipeline import naming_damage
    from kerasseg.postprocess import confusion_picture

    segmenter = _inference_options.segmenter(options, options.model)
    _check(segmenter.model, spec, options.model)
    extremes = _report.Extremes(options.pictures)
    with naming_damage(options.data, options.split):
        matrix, report = _evaluate(segmenter, spec, options, extremes)
    baseline = _everything_is_the_first_class(matrix, spec.class_names)
    report["baseline"] = {"predicts": spec.class_names[0], **{k: baseline[k] for k in ("mean_iou", "pixel_accuracy")}}

    overlays = options.output / "overlays"
    overlays.mkdir(parents=True, exist_ok=True)
    for old in overlays.glob("*.png"):
        old.unlink()
    for name, score, prediction in extremes.items():
        file = overlays / f"{name}_{Path(prediction.key).name}.png"
        _pictures.save_picture(file, _report.sheet(prediction, score, _pictures.Classes.of_data(spec)))
    _pictures.save_picture(options.output / "confusion_matrix.png", confusion_picture(matrix, spec.class_names))
    partial = options.output / "report.json.partial"
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, options.output / "report.json")
    print(_report.table(report, baseline, spec.class_names))
    if report["absent_classes"]:
        print(f"in neither truth nor prediction, left out of the mean: {', '.join(report['absent_classes'])}")
    print(f"{report['num_images']} images of {options.data}, split {options.split}: {options.output / 'report.json'}")


def _check(model, spec, path):
    from kerasseg.layers import num_classes_of

    found = (model.input_shape[-1], num_classes_of(model))
    expected = (spec.channels, spec.num_classes)
    if found != expected:
        raise _cli.DataError(
            f"{path} takes images of {found[0]} channels and tells {found[1]} classes apart, but the data set "
            f"{spec.name!r} has {expected[0]} channels and {expected[1]} classes; give the data it was trained on"
        )


def _evaluate(segmenter, spec, options, extremes):
    """Returns the confusion matrix and the content of report.json; shows the images to `extremes`."""
    import numpy as np
    from tqdm import tqdm

    from kerasseg.inference import predictions
    from kerasseg.metrics import scores
    from kerasseg.pipeline import eval_images

    images = eval_images(options.data, options.split, keys=True)
    total = np.zeros((spec.num_classes, spec.num_classes), np.int64)
    found = predictions(segmenter, images, spec.num_classes, spec.ignore_label)
    found = tqdm(found, desc="evaluate", unit="image", total=spec.split(options.split).num_examples)
    objects = _ObjectScores(options.data, options.split) if spec.has_instances else None
    count = 0
    for prediction in found:
        total += prediction.confusion_matrix
        count += 1
        extremes.add(scores(prediction.confusion_matrix)["mean_iou"], prediction)
        if objects:
            objects.add(prediction)
    report = {
        "model": str(options.model),
        "data": str(options.data),
        "split": options.split,
        "inference": _inference_options.described(options),
        "num_images": count,
        **scores(total, spec.class_names),
        "confusion_matrix": total.tolist(),
        **(objects.result() if objects else {}),
    }
    return total, report


class _ObjectScores:
    """Gathers the scores of single objects, image by image, from the instances in the records."""

    def __init__(self, data, split):
        from kerasseg.records import read

        self._examples = read(data, split)
        self._f_scores, self._ious, self._detections = [], [], []

    def add(self, prediction):
        from kerasseg.metrics import adapted_rand_f_score, detections, instance_ious
        from kerasseg.postprocess import objects

        example = next(self._examples)
        if example.key != prediction.key:  # Both read the records in their order.
            raise _cli.DataError(
                f"expected the record {prediction.key!r}, read {example.key!r}; convert the data again"
            )
        if example.instances is None:
            return
        instances = example.instances.astype(int)
        found = objects(prediction.predicted) if prediction.objects is None else prediction.objects
        score = adapted_rand_f_score(instances, found)
        if score is not None:
            self._f_scores.append(score)
        self._ious.extend(instance_ious(instances, found))
        counts = detections(instances, found)
        if sum(counts):
            self._detections.append(counts)

    def result(self):
        """Means: of F over the images that have objects, of IoU over all objects.

        Average precision is TP / (TP + FP + FN) at an IoU above 0.5, counted over all images, and its mean over images.
        """
        pooled = [sum(counts) for counts in zip(*self._detections, strict=True)]
        of_images = [found / (found + false + missed) for found, false, missed in self._detections]
        return {
            "average_precision_50": pooled[0] / sum(pooled) if pooled else None,
            "mean_average_precision_50": sum(of_images) / len(of_images) if of_images else None,
            "adapted_rand_f_score": sum(self._f_scores) / len(self._f_scores) if self._f_scores else None,
            "mean_instance_iou": float(sum(self._ious) / len(self._ious)) if self._ious else None,
        }


def _everything_is_the_first_class(matrix, class_names):
    """Returns the scores of predicting background everywhere, which follow from the truth's pixel counts."""
    import numpy as np

    from kerasseg.metrics import scores

    background = np.zeros_like(matrix)
    background[:, 0] = matrix.sum(axis=1)
    return scores(background, class_names)


if __name__ == "__main__":
    _cli.run(main)
