"""Segments images with a model behind TensorFlow Serving, over REST or gRPC; needs no TensorFlow here.

    python tools/segment.py --server localhost:8501 --model unet --images photo.jpg other.png --output segmented
    python tools/segment.py --server localhost:8500 --protocol grpc --model unet --images slides/ --output segmented \\
        --tile-size 1024
    python tools/segment.py --server localhost:8501 --model unet --images slides/ --output segmented \\
        --classes exported/unet/kerasseg.json

Writes OUTPUT/masks/NAME.png (palette PNGs, pixels are class ids); files of these names are written over. JPEG and PNG
files are sent as they are, several at a time. While the server is down or busy, requests are repeated. A file that
cannot be read, or that the server refuses, is named, the others are done, and the exit code is 1.
"""

import sys
from pathlib import Path

import _cli


def main(arguments=None):
    parser = _cli.parser(__doc__, tensorflow=False)
    parser.add_argument(
        "--server", required=True, help="HOST:PORT (by default REST has 8501 and gRPC 8500), or https://HOST:PORT"
    )
    parser.add_argument("--protocol", choices=("rest", "grpc"), default="rest")
    parser.add_argument("--model", required=True, help="the name that the model is served by")
    parser.add_argument("--version", type=int, help="a version of the model (default: the newest served)")
    parser.add_argument("--label", help="the label of a version, such as stable, in place of its number")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--classes", type=Path, help="kerasseg.json of the export, for the colours (default: VOC's)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds to go on asking an unavailable server")
    parser.add_argument("--concurrency", type=int, default=4, help="requests under way at a time")
    parser.add_argument("--batch-size", type=int, default=4, help="images in a request")
    parser.add_argument("--tile-size", type=int, help="cut larger images into tiles of this side (default: sent whole)")
    parser.add_argument("--overlap", type=int, default=128, help="pixels that neighbouring tiles share")
    options = parser.parse_args(arguments)

    import _pictures
    from tqdm import tqdm

    from kerasseg.client import Client, RefusedError, ServerError

    try:
        client = Client(
            options.server,
            options.model,
            version=options.version,
            label=options.label,
            protocol=options.protocol,
            timeout_s=options.timeout,
            patience_s=options.patience,
            batch_size=options.batch_size,
            concurrency=options.concurrency,
            tile_size=options.tile_size,
            overlap=options.overlap,
        )
    except ValueError as error:
        parser.error(str(error))
    files = _pictures.image_files(options.images)
    classes = _pictures.Classes.of_export(options.classes) if options.classes else _pictures.Classes.numbered(256)
    (options.output / "masks").mkdir(parents=True, exist_ok=True)
    failed = 0
    results = zip(files.items(), client.segment_each(files.values()), strict=True)
    for (name, path), mask in tqdm(results, desc="segment", unit="image", total=len(files)):
        if isinstance(mask, RefusedError):
            mask = _cli.DataError(f"{path}: {mask}")
        elif isinstance(mask, ServerError):
            raise mask  # It is the server's fault, and the other images would meet with the same.
        if isinstance(mask, Exception):
            tqdm.write(f"error: {mask}", file=sys.stderr)
            failed += 1
            continue
        _pictures.save_mask(options.output / "masks" / f"{name}.png", mask, classes.palette)
    print(f"{len(files) - failed} of {len(files)} images segmented: {options.output / 'masks'}")
    if failed:
        raise _cli.DataError(f"{failed} of {len(files)} images could not be segmented; they are named above")


if __name__ == "__main__":
    _cli.run(main)
