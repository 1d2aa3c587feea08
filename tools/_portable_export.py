"""Exports to one file: LiteRT and ONNX."""

import itertools
from pathlib import Path

import _cli

CALIBRATION_IMAGES = 100
_SERVED = ("max_pixels", "weights", "scales", "flip", "tile_size", "overlap", "freeze")


def add(parser) -> None:
    """Adds the options that `wanted`, `check` and `export` read."""
    group = parser.add_argument_group(
        "LiteRT and ONNX", "one file OUTPUT (.tflite or .onnx) and beside it a .json, in place of a SavedModel"
    )
    kind = group.add_mutually_exclusive_group()
    kind.add_argument(
        "--lite",
        choices=("float32", "float16", "dynamic", "int8"),
        metavar="KIND",
        help="write a LiteRT (TFLite) file: float32, float16 (weights), dynamic (kernels of 8 bits) or int8 (all)",
    )
    kind.add_argument("--onnx", action="store_true", help="write an ONNX file; needs the extra `onnx`")
    option = group.add_argument
    option("--size", type=int, nargs=2, metavar=("H", "W"), help="of all images of a LiteRT file (default: any)")
    option("--logits", action="store_true", help="a LiteRT file has the logits as a second output (ONNX always has)")
    option(
        "--data",
        type=Path,
        help="converted data set that both models are scored on; needed for dynamic and int8",
    )
    option("--split", default="val", help="of --data")
    option("--max-drop", type=float, default=0.01, help="what the mean IoU may lose, 0 to 1; else nothing is written")
    option(
        "--calibration",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help=f"images, or folders of such, that tell int8 the range of every tensor (default: {CALIBRATION_IMAGES} of "
        "--data, of its split train if it has one)",
    )


def wanted(options) -> bool:
    """Tells whether this is an export to one file."""
    return bool(options.lite or options.onnx)


def check(parser, options) -> None:
    """Ends the program where options do not go together."""
    what = "--onnx" if options.onnx else f"--lite {options.lite}"

    def given(names):
        return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != parser.get_default(name)]

    if not wanted(options):
        if spare := given(("size", "logits", "data", "split", "max_drop", "calibration")):
            parser.error(f"{', '.join(spare)} is for --lite or --onnx")
        return
    if spare := given(_SERVED):
        parser.error(f"{', '.join(spare)} is for a SavedModel, not for {what}")
    if options.onnx and (spare := given(("size", "logits"))):
        parser.error(f"{', '.join(spare)} is for --lite; an ONNX file takes any size and gives the logits too")
    if options.calibration and options.lite != "int8":
        parser.error(f"--calibration is for --lite int8, not for {what}")
    if options.lite in ("dynamic", "int8") and not options.data:
        parser.error(f"{what} needs --data, labelled images to tell what rounding to 8 bits costs")
    if not options.data and (spare := given(("split", "max_drop"))):
        parser.error(f"{', '.join(spare)} goes with --data")


def export(options, model, images, described: dict) -> None:
    """Writes the file and says what it is."""
    from kerasseg.export import lite, onnx
    from kerasseg.pipeline import naming_damage
    from kerasseg.spec import DatasetSpec

    arguments = {**described, "images": images, "max_drop": options.max_drop}
    if not options.data:
        path = _written(lite, onnx, options, model, arguments)
    else:
        arguments["data"] = _progress(_judged(options, model), "compare")
        arguments["ignore_label"] = DatasetSpec.load(options.data).ignore_label
        if options.lite == "int8":
            arguments["calibration"] = _calibration(options, model)
        with naming_damage(options.data, options.split):
            path = _written(lite, onnx, options, model, arguments)
    _tell(path)


def _written(lite, onnx, options, model, arguments) -> Path:
    if options.onnx:
        return onnx(model, options.output, **arguments)
    return lite(model, options.output, options.lite, size=options.size, logits=options.logits, **arguments)


def _tell(path):
    import json

    found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["comparison"]
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; what it is: {path.with_suffix('.json')}")
    if "mean_iou" in found:
        print(
            f"  mean IoU on {found['num_images']} images {found['mean_iou']:.4f}, of the Keras model "
            f"{found['mean_iou_of_keras']:.4f}; {found['pixels_equal']:.2%} of the pixels are of the same class"
        )
    else:
        print(f"  {found['pixels_equal_on_images']:.2%} of the pixels compared are of the Keras model's class")


def _judged(options, model):
    """Returns the labelled images of a split."""
    from kerasseg.layers import num_classes_of
    from kerasseg.pipeline import eval_images
    from kerasseg.spec import DatasetSpec

    spec = DatasetSpec.load(options.data)
    spec.split(options.split)  # Refused here if it is not there.
    found = (model.input_shape[-1], max(num_classes_of(model), 2))
    if found != (spec.channels, spec.num_classes):
        raise _cli.DataError(
            f"{options.model} takes images of {found[0]} channels and tells {found[1]} classes apart, but the data set "
            f"{spec.name!r} has {spec.channels} and {spec.num_classes}; give the data it was trained on"
        )
    return eval_images(options.data, options.split)


def _calibration(options, model):
    """Yields images to measure the ranges of tensors on."""
    from kerasseg.inference import prepared, read_image
    from kerasseg.pipeline import eval_images
    from kerasseg.spec import DatasetSpec

    if not options.calibration:
        split = "train" if "train" in DatasetSpec.load(options.data).splits else options.split
        images = (image for image, *_ in eval_images(options.data, split))
        return _progress(itertools.islice(images, CALIBRATION_IMAGES), "calibrate")

    import _pictures

    files = list(_pictures.image_files(options.calibration).values())

    def read(path):
        try:
            return prepared(read_image(path), model.input_shape[-1])
        except ValueError as error:
            fault = error if str(path) in str(error) else f"{path}: {error}"
            raise _cli.DataError(str(fault)) from error

    return _progress(map(read, files), "calibrate", len(files))


def _progress(images, what, total=None):
    from tqdm import tqdm

    return tqdm(images, desc=what, unit="image", total=total)
