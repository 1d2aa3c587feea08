"""Predictions that lie in a folder, whoever made them, beside the labels in another."""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import _convert
import _pictures
import numpy as np
from _tally import Source

from kerasseg.spec import IGNORE_LABEL, VOC_CLASS_NAMES, DataError, voc_palette


def add_options(parser) -> None:
    """Adds what says where predictions and labels are and how to read them."""
    group = parser.add_argument_group("scoring files of predictions, without a model")
    group.add_argument("--predictions", type=Path, help="folder of predicted masks, named as the labels are")
    group.add_argument("--labels", type=Path, help="folder of the true masks")
    group.add_argument("--images", type=Path, help="folder of the images, for the pictures only")
    group.add_argument("--classes", type=Path, help="text file, a class a line, as convert_pairs.py takes it")
    group.add_argument("--voc-colours", action="store_true", help="decode colours by the VOC colour map")
    group.add_argument("--ignore-label", type=int, default=IGNORE_LABEL, help="true label that does not count, as 255")
    group.add_argument("--instances", action="store_true", help="the masks hold numbers of objects (16-bit PNG, TIFF)")
    group.add_argument("--list", type=Path, help="text file of the names to score, one a line (default: all labels)")
    for kind in ("prediction", "label", "image"):
        group.add_argument(f"--{kind}-suffix", default="", help=f"end of every {kind}'s stem that the others have not")
        group.add_argument(f"--{kind}-prefix", default="", help="its beginning, such as mask and man_seg (CTC)")


def described(options) -> dict:
    """Returns those of the options above that are not as by default."""
    plain = argparse.ArgumentParser()
    add_options(plain)
    defaults = vars(plain.parse_args([]))
    return {name: getattr(options, name) for name in defaults if getattr(options, name) != defaults[name]}


def source(options) -> Source:
    """Returns the predictions in a folder, with the truth in another.

    Raises:
        DataError: The classes are not named, or files are missing; see `_items` for what is found when they are read.
    """
    names, palette, colours = _classes(options)
    pairs = _pairs(options)
    return Source(
        title=f"{options.predictions} against {options.labels}",
        classes=_pictures.Classes(names, palette),
        has_instances=options.instances,
        num_images=len(pairs),
        items=_items(pairs, names, colours, options),
        described={name: str(v) if isinstance(v, Path) else v for name, v in described(options).items()},
    )


def _classes(options):
    """Returns names, palette uint8 [256, 3] for drawing, and the RGB of each class that decodes masks, or None."""
    if options.instances and not options.classes:
        names, colours = ("background", "object"), None
    elif options.classes:
        names, colours = _convert.read_classes(options.classes)
    elif options.voc_colours:
        names, colours = VOC_CLASS_NAMES, None
    else:
        raise DataError(
            "the classes are not named; give --classes with a file that holds one a line, --voc-colours for the 21 of "
            "PASCAL VOC, or --instances for numbers of objects"
        )
    names, colours = _convert.without_ignored_classes(names, colours, [options.ignore_label])
    if len(names) > IGNORE_LABEL:
        raise DataError(f"{options.classes} names {len(names)} classes; expected at most {IGNORE_LABEL}")
    if options.instances and len(names) != 2:
        raise DataError(f"{options.classes} names {len(names)} classes; --instances has 2: background and objects")
    palette = voc_palette()
    if colours:
        palette[: len(colours)] = colours
    if options.voc_colours:
        colours = _convert.default_palette(len(names))
    return tuple(names), palette, colours


@dataclasses.dataclass(frozen=True)
class Pair:
    """The files of one image; `image` is None where there is none to show."""

    key: str
    label: Path
    prediction: Path
    image: Path | None


def _pairs(options) -> list[Pair]:
    """Returns the files to score, in natural order.

    Raises:
        DataError: A folder is missing, holds no masks, or lacks the prediction of a label.
    """
    labels = _files(options, "label", "the true masks")
    predictions = _files(options, "prediction", "predicted masks")
    images = _files(options, "image", "images") if options.images else {}
    if options.list:
        names = _convert.read_list(options.list)
        by_name = {key: key for key in labels} | {key.rsplit("/", 1)[-1]: key for key in labels}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise DataError(
                f"{options.list} names {unknown[0]!r}, which is not in {options.labels} ({len(unknown)} such)"
            )
        labels = {by_name[name]: labels[by_name[name]] for name in names}
        if not labels:
            raise DataError(f"{options.list} names no image; expected one name a line")
    lacking = [stem for stem in labels if stem not in predictions]
    if lacking:
        raise DataError(
            f"{labels[lacking[0]]} has no prediction: expected {options.predictions / _file_name(lacking[0], options)} "
            f"({len(lacking)} of {len(labels)} labels lack theirs); add it, name the images to score with --list, or "
            "the difference of the names with --prediction-suffix, --prediction-prefix and those of labels"
        )
    surplus = [stem for stem in predictions if stem not in labels]
    if surplus:
        _convert.warn(f"{len(surplus)} predictions have no label and are left out, first {predictions[surplus[0]]}")
    unseen = [stem for stem in labels if stem not in images] if options.images else []
    if unseen:
        _convert.warn(f"{len(unseen)} of {len(labels)} labels have no image in {options.images}, first {unseen[0]}")
    return [Pair(stem, path, predictions[stem], images.get(stem)) for stem, path in labels.items()]


def _file_name(name: str, options) -> str:
    above, slash, last = name.rpartition("/")
    return f"{above}{slash}{options.prediction_prefix}{last}{options.prediction_suffix}.png"


def _files(options, kind: str, what: str) -> dict[str, Path]:
    """Returns {name that the kinds share: file}."""
    folder, prefix = getattr(options, kind + "s"), getattr(options, kind + "_prefix")
    found = _convert.images_in(folder, what, getattr(options, kind + "_suffix"), deep=True)
    if not prefix:
        return found
    named = {stem: stem.rpartition("/") for stem in found}
    named = {
        stem: f"{above}{slash}{name.removeprefix(prefix)}"
        for stem, (above, slash, name) in named.items()
        if name.startswith(prefix)
    }
    if not named:
        raise DataError(f"{folder} holds no file whose name begins with {prefix!r}; expected {what}")
    return {name: found[stem] for stem, name in named.items()}


def _items(pairs: list[Pair], names, colours, options) -> Iterator:
    """Yields (`kerasseg.inference.Prediction`, true objects int32 [H, W] or None) of each pair.

    Raises:
        DataError: A file is damaged or no mask, sizes differ, or a label that counts is none of the classes.
    """
    from kerasseg.inference import Prediction
    from kerasseg.metrics import confusion_matrix
    from kerasseg.records import read_mask

    for pair in pairs:
        if options.instances:
            true_objects, found = _objects(pair.label), _objects(pair.prediction)
            truth, predicted = (true_objects > 0).astype(np.uint8), (found > 0).astype(np.uint8)
        else:
            true_objects, found = None, None
            truth = read_mask(pair.label, mapping={options.ignore_label: IGNORE_LABEL}, colours=colours)
            predicted = read_mask(pair.prediction, colours=colours)
        if truth.shape != predicted.shape:
            raise DataError(
                f"{pair.prediction} has {_size(predicted)} pixels, {pair.label} has {_size(truth)}; "
                "a prediction must have its label's size"
            )
        _check_labels(pair.label, truth, truth != IGNORE_LABEL, names)
        _check_labels(pair.prediction, predicted, truth != IGNORE_LABEL, names)
        # Where nothing counts, anything may be predicted: CamVid's void is a class of some models.
        predicted = np.where(predicted < len(names), predicted, IGNORE_LABEL).astype(np.uint8)
        counts = confusion_matrix(truth, predicted, len(names))
        yield Prediction(pair.key, _image(pair, truth), truth.astype(np.int32), predicted, counts, found), true_objects


def _objects(path):
    from kerasseg.records import read_labels

    labels = read_labels(path)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= 2**31:
        raise DataError(f"{path} holds {labels.min()} to {labels.max()}; expected numbers of objects, 0 = none")
    return labels.astype(np.int32)


def _check_labels(path, labels, counts, names):
    outside = (labels >= len(names)) & counts
    if outside.any():
        raise DataError(
            f"{path} holds the label {labels[outside].min()} in {np.count_nonzero(outside)} pixels that count; "
            f"expected 0 to {len(names) - 1} ({names[0]} to {names[-1]}): check the list of classes and --ignore-label"
        )


def _image(pair, truth):
    """Returns the image to draw on, or None."""
    from kerasseg.records import read_image

    if pair.image is None:
        return None
    image = read_image(pair.image).image
    if image.shape[:2] != truth.shape:
        raise DataError(f"{pair.image} has {_size(image)} pixels, {pair.label} has {_size(truth)}; expected one size")
    return image


def _size(array) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
