"""The options of tools that segment images: tiles, memory and test-time recipes."""

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `segmenter` reads; wrong values are errors of the command line."""
    group = parser.add_argument_group("inference")
    group.add_argument(
        "--tile-size", type=_positive, help="side of the tiles that large images are cut into (default: whole)"
    )
    group.add_argument("--overlap", type=_pixels, help="pixels that tiles share (default: a quarter of the tile)")
    group.add_argument("--memory-gib", type=_size, default=2.0, help="where no tile size is given: memory for a tile")
    group.add_argument(
        "--scales",
        type=_size,
        nargs="+",
        default=[1.0],
        metavar="FACTOR",
        help="see the image at several sizes and take the mean of the probabilities; DeepLab's: .5 .75 1 1.25 1.5 1.75",
    )
    group.add_argument("--flip", action="store_true", help="see the image mirrored as well (twice the time)")
    group.add_argument(
        "--rotate", action="store_true", help="see it in four directions (U-Net's way with --flip, in eight views)"
    )


def segmenter(options: argparse.Namespace, model: Path, value_range: tuple[float, float] | None = None):
    """Returns the `kerasseg.inference.Segmenter` that the options ask for.

    Args:
        options: Of a parser that `add` was called with.
        model: The trained model's file.
        value_range: See `Segmenter`.

    Raises:
        DataError: The model cannot be loaded, or the options do not go with it or with each other.
    """
    from kerasseg.inference import Segmenter
    from kerasseg.spec import DataError

    if options.overlap is not None and options.overlap >= (options.tile_size or 0):
        raise DataError(f"--overlap needs a --tile-size that is larger, got {options.tile_size or 'none'}")
    try:
        return Segmenter(
            model,
            tile_size=options.tile_size,
            overlap=options.overlap,
            memory_budget=int(options.memory_gib * 2**30),
            value_range=value_range,
            scales=options.scales,
            flip=options.flip,
            rotate=options.rotate,
        )
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(str(error)) from error


def described(options: argparse.Namespace) -> dict:
    """Returns the options that change what is predicted, for a report: those that are not as by default."""
    plain = argparse.ArgumentParser()
    add(plain)
    defaults = vars(plain.parse_args([]))
    return {name: getattr(options, name) for name in defaults if getattr(options, name) != defaults[name]}


def _whole(text: str, least: int, expected: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}")
    return number


def _positive(text: str) -> int:
    return _whole(text, 1, "a positive whole number")


def _pixels(text: str) -> int:
    return _whole(text, 0, "a whole number of pixels")


def _size(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return number
