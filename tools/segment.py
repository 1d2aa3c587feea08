"""Segments images with a model behind TensorFlow Serving (REST); needs no TensorFlow here.

    python tools/segment.py --server localhost:8501 --model unet --images photo.jpg other.png --output segmented
    python tools/segment.py --server localhost:8501 --model unet --images slides/ --output segmented \\
        --classes exported/unet/kerasseg.json

Writes OUTPUT/masks/NAME.png (palette PNGs, pixels are class ids); files of these names are written over. JPEG and PNG
files are sent as they are. A file that cannot be read is named, the others are done, and the exit code is 1.
"""

import sys
from pathlib import Path

import _cli


def main(arguments=None):
    parser = _cli.parser(__doc__, tensorflow=False)
    parser.add_argument("--server", required=True, help="HOST:PORT of the REST interface (port 8501 by default)")
    parser.add_argument("--model", required=True, help="the name that the model is served by")
    parser.add_argument("--version", type=int, help="a version of the model (default: the newest served)")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--classes", type=Path, help="kerasseg.json of the export, for the colours (default: VOC's)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer")
    options = parser.parse_args(arguments)

    import _pictures
    from tqdm import tqdm

    from kerasseg.client import Client

    try:
        client = Client(options.server, options.model, version=options.version, timeout_s=options.timeout)
    except ValueError as error:
        parser.error(str(error))
    files = _pictures.image_files(options.images)
    classes = _pictures.Classes.of_export(options.classes) if options.classes else _pictures.Classes.numbered(256)
    (options.output / "masks").mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, path in tqdm(files.items(), desc="segment", unit="image"):
        try:
            mask = client.segment([path])[0]
        except _cli.DataError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        _pictures.save_mask(options.output / "masks" / f"{name}.png", mask, classes.palette)
    print(f"{len(files) - failed} of {len(files)} images segmented: {options.output / 'masks'}")
    if failed:
        raise _cli.DataError(f"{failed} of {len(files)} images could not be segmented; they are named above")


if __name__ == "__main__":
    _cli.run(main)
