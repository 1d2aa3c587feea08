"""Exports a trained model for TensorFlow Serving, as the next version in a folder; or to a LiteRT or ONNX file.

    python tools/export.py --model runs/voc/best.keras --output exported/deeplab
    python tools/export.py --model runs/voc/best.keras --output exported/deeplab --scales 0.75 1 1.25 --flip
    python tools/export.py --model runs/cells/best.keras --output exported/cells --tile-size 512
    saved_model_cli show --all --dir exported/deeplab/1
    python tools/export.py --model runs/voc/best.keras --output deeplab.tflite --lite int8 --size 513 513 \\
        --data tfrecords/voc2012 --max-drop .01
    python tools/export.py --model runs/voc/best.keras --output deeplab.onnx --onnx --data tfrecords/voc2012

Writes OUTPUT/<version>/ (a SavedModel with the signatures predict_images, serving_default and predict_bytes) and
OUTPUT/kerasseg.json (classes, colours, versions, training run). Versions count up and are never overwritten. What was
written is loaded again without Keras and compared with the model on random images or on yours; if it differs, nothing
is left.

With --lite or --onnx one file takes the folder's place, compared with the model likewise. With --data both are scored
on its labelled images; if the file's mean IoU is lower by more than --max-drop, nothing is left.
"""

import argparse
from pathlib import Path

import _cli
import _portable_export


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="trained model, such as runs/NAME/best.keras")
    parser.add_argument(
        "--output", type=Path, required=True, help="the servable's folder, such as exported/NAME; or a file"
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", help="images to compare the export with the model on (default: random ones)"
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=4096 * 4096,
        help="the served model refuses larger images (default: 4096 x 4096)",
    )
    parser.add_argument(
        "--weights", choices=("float32", "bfloat16", "float16"), default="float32", help="how kernels are stored"
    )
    parser.add_argument(
        "--scales",
        type=float,
        nargs="+",
        default=[1.0],
        metavar="S",
        help="factors of the image's sides; the served model answers the mean over all of them, such as 0.75 1 1.25",
    )
    parser.add_argument("--flip", action="store_true", help="the served model sees each image mirrored as well")
    parser.add_argument(
        "--tile-size",
        type=int,
        help="the served model cuts larger images into tiles of this side, one pass each (default: seen as a whole)",
    )
    parser.add_argument("--overlap", type=int, help="pixels that neighbouring tiles share (default: a quarter)")
    parser.add_argument(
        "--freeze",
        action=argparse.BooleanOptionalAction,
        help="weights as constants of the graph: up to 13 %% quicker on a CPU, at up to twenty times their memory; as "
        "variables beside it: no more memory than they need (default: constants up to 256 MiB)",
    )
    _portable_export.add(parser)
    options = parser.parse_args(arguments)
    _portable_export.check(parser, options)
    if options.max_pixels < 2**14:
        parser.error("--max-pixels must be at least 16384")

    import _pictures

    from kerasseg.export import ExportError, saved_model
    from kerasseg.inference import load_model
    from kerasseg.layers import num_classes_of

    model = load_model(options.model)
    classes = _pictures.Classes.of_model(options.model, max(num_classes_of(model), 2))
    run = _pictures.run_of(options.model)
    training = {key: run[key] for key in ("options", "scores", "versions") if key in run}
    trained_on = _pictures.dataset_of(options.model)
    images = [_compared(path, model) for path in options.images] if options.images else None
    described = {
        "class_names": classes.names,
        "palette": classes.colours,
        "value_range": trained_on and trained_on.value_range,
        "training": training,
    }
    try:
        if _portable_export.wanted(options):
            _portable_export.export(options, model, images, described)
            return
        version = saved_model(
            model,
            options.output,
            **described,
            max_pixels=options.max_pixels,
            weights=options.weights,
            freeze=options.freeze,
            scales=options.scales,
            flip=options.flip,
            tile_size=options.tile_size,
            overlap=options.overlap,
            images=images,
        )
    except ExportError as error:
        raise _cli.DataError(
            f"{options.model}: not exported, the result does not answer as the model: {error}"
        ) from error
    except _cli.DataError:
        raise
    except ValueError as error:  # Options that do not go with each other or with the model.
        parser.error(str(error))
    size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    print(f"{version}: {size / 1e6:.1f} MB, answers as {options.model} does")
    print(f"  serve it: see deploy/README.md; look at it: saved_model_cli show --all --dir {version}")


def _compared(path, model):
    """Returns an image as the served model's uint8 signature takes it."""
    import numpy as np

    from kerasseg.inference import prepared, read_image

    pixels = read_image(path)
    if pixels.dtype != np.uint8:
        raise _cli.DataError(f"{path}: expected an image of 8 bits to compare on, got {pixels.dtype}")
    try:
        return prepared(pixels, model.input_shape[-1]).astype(np.uint8)
    except ValueError as error:
        raise _cli.DataError(f"{path}: {error}") from error


if __name__ == "__main__":
    _cli.run(main)
