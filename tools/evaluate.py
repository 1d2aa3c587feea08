"""Scores a trained model on a split of a converted data set, or a folder of predicted masks against one of labels.

    python tools/evaluate.py --model runs/voc/best.keras --data tfrecords/voc2012 --split val --output reports/voc
    python tools/evaluate.py --model runs/cells/best.keras --data tfrecords/cells --output reports/cells --pictures 8
    python tools/evaluate.py --model runs/voc/best.keras --data tfrecords/voc2012 --output reports/voc_ms \\
        --scales .5 .75 1 1.25 1.5 1.75 --flip
    python tools/evaluate.py --predictions theirs --labels VOC2012/SegmentationClass --list val.txt --voc-colours \\
        --output reports/theirs
    python tools/evaluate.py --predictions found --labels truth --instances --output reports/nuclei
    python tools/evaluate.py --predictions 01_RES --prediction-prefix mask --labels 01_GT/SEG --label-prefix man_seg \\
        --instances --output reports/hela

Whole images, one confusion matrix over all of them. Writes OUTPUT/report.html, a page that shows everything and needs
nothing else, OUTPUT/report.json, OUTPUT/confusion_matrix.png and OUTPUT/overlays/ (the worst and the best images:
picture, truth, prediction and errors); files of these names, and the pictures in overlays/, are replaced, others are
left alone. Beside the scores the table shows those of predicting the first class everywhere.

Data with instances (cells) is scored by objects too: components of the predicted class 1 against the true instances,
what a model that knows rims parts, or with --objects-by watershed what a watershed parts. The scores at borders take
about 0.1 s for an image of 500 x 375; --no-borders leaves them out.

Predicted masks and labels are ids in palette or grey PNG or TIFF, or colours with --classes (`road 128 64 128` a line)
or --voc-colours; each kind may be either. A prediction has its label's name but for beginnings and
ends that are told.
"""

import json
import os
import shlex
import sys
import time
from pathlib import Path

import _cli
import _folder_predictions
import _inference_options
import _object_scores
import _voc_submission


def main(arguments=None):
    options = _options(arguments)
    started = time.time()
    import _model_predictions
    import _report
    import _tally
    from tqdm import tqdm

    source = (_folder_predictions if options.predictions else _model_predictions).source(options)
    objects = _object_scores.ObjectScores(options.objects_by, options.membranes) if source.has_instances else None
    if options.membranes and objects is None:
        raise _cli.DataError("--membranes compares objects, and the data has none; convert it with its instances")
    tally = _tally.Tally(source.classes.names, borders=not options.no_borders, objects=objects)
    extremes = _report.Extremes(options.pictures)
    with _voc_submission.of(options, len(source.classes.names)) as submission:
        for prediction, instances in tqdm(source.items, desc="evaluate", unit="image", total=source.num_images):
            extremes.add(tally.add(prediction, instances))
            if submission:
                submission.add(prediction.key, prediction.predicted)
    report = {**source.described, **tally.result(), "made": _made(arguments, started)}
    _write(options.output, report, source.classes, extremes, tally)
    print(_report.table(report, tally.baseline(), source.classes.names))
    if report["absent_classes"]:
        print(f"in neither truth nor prediction, left out of the mean: {', '.join(report['absent_classes'])}")
    print(f"{report['num_images']} images of {source.title}: {options.output / 'report.html'}, report.json")


def _options(arguments):
    parser = _cli.parser(__doc__)
    parser.add_argument("--model", type=Path, help="trained model, such as runs/NAME/best.keras")
    parser.add_argument("--data", type=Path, help="converted data set, such as tfrecords/NAME")
    parser.add_argument("--split", default="val", help="split of the data set")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pictures", type=int, default=4, help="how many of the worst and of the best images to draw")
    parser.add_argument("--no-borders", action="store_true", help="leave out the scores at the borders between classes")
    _object_scores.add_option(parser)
    parser.add_argument(
        "--membranes",
        action="store_true",
        help="add the scores of the ISBI-2012 challenge, without its search for the best threshold",
    )
    _inference_options.add(parser)
    _folder_predictions.add_options(parser)
    _voc_submission.add_options(parser)
    options = parser.parse_args(arguments)
    if options.pictures < 0:
        parser.error("--pictures must not be negative")
    of_model, of_folder = (options.model, options.data), (options.predictions, options.labels)
    if not (all(of_model) and not any(of_folder)) and not (all(of_folder) and not any(of_model)):
        parser.error("give --model and --data, or --predictions and --labels")
    foreign = (_inference_options if options.predictions else _folder_predictions).described(options)
    if foreign:
        names = ", ".join("--" + name.replace("_", "-") for name in foreign)
        parser.error(f"{names} would change nothing with {'--predictions' if options.predictions else '--model'}")
    return options


def _made(arguments, started: float) -> dict:
    """Returns when, with what and by which command the report was made."""
    import platform
    from importlib.metadata import version

    import tensorflow as tf
    from tensorflow import keras

    from kerasseg import __version__

    given = sys.argv[1:] if arguments is None else [str(argument) for argument in arguments]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(started)),
        "seconds": round(time.time() - started, 1),
        "command": shlex.join(["python", "tools/evaluate.py", *given]),
        "kerasseg": __version__,
        "tensorflow": tf.__version__,
        # Not every Keras tells its version itself; the package is keras, or tf_keras where that was chosen.
        "keras": version(keras.Model.__module__.split(".")[0]),
        "python": platform.python_version(),
    }


def _write(output: Path, report: dict, classes, extremes, tally) -> None:
    """Writes the report and its pictures; report.json comes last, so that it being there means all is."""
    import _page
    import _pictures
    import _report

    from kerasseg.postprocess import confusion_picture

    overlays = output / "overlays"
    overlays.mkdir(parents=True, exist_ok=True)
    for old in overlays.glob("*.png"):
        old.unlink()
    for name, scored in extremes.items():
        file = overlays / f"{name}_{Path(scored.prediction.key).name}.png"
        _pictures.save_picture(file, _report.sheet(scored, classes))
    confusions = confusion_picture(tally.matrix, classes.names)
    _pictures.save_picture(output / "confusion_matrix.png", confusions)
    page = _page.page(report, tally.baseline(), classes, confusions, list(extremes.items()))
    for name, text in (("report.html", page), ("report.json", json.dumps(report, indent=1) + "\n")):
        partial = output / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, output / name)


if __name__ == "__main__":
    _cli.run(main)
