"""The option that says what size samples are cut to."""

import argparse


def add_option(parser, default: int | None, more: str = "") -> None:
    """Adds `--crop-size N`, `--crop-size H W` or `--crop-size whole`; `size` turns it into what the pipeline takes.

    With a default of None, None says that the option was not given; `more` goes behind the help.
    """
    parser.add_argument(
        "--crop-size",
        nargs="+",
        type=_side,
        default=None if default is None else [default],
        metavar="N",
        help="side of the training crops, or height and width, pixels; or whole: no crops, for batches of one image"
        + more,
    )


def _side(text: str) -> int | None:
    if text == "whole":
        return None
    side = int(text)
    if side < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, received {text}")
    return side


def size(parser, options) -> tuple[int, int] | None:
    """Returns (height, width), or None for whole images; ends the tool where the option makes no sense."""
    sides = options.crop_size
    if sides == [None]:
        return None
    if len(sides) > 2 or None in sides:
        parser.error("--crop-size: expected one side, height and width, or whole")
    return (sides[0], sides[-1])
