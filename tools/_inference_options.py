"""The options of tools that segment images: tiles, memory and test-time recipes."""

import argparse
from pathlib import Path

EDGE_BOXES = "edge-boxes"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `segmenter` reads; wrong values are errors of the command line."""
    import _proposals

    group = parser.add_argument_group("inference")
    option = group.add_argument
    option("--tile-size", type=_positive, help="side of the tiles that large images are cut into (default: whole)")
    option("--overlap", type=_count, help="pixels that tiles share (default: a quarter of the tile)")
    option("--memory-gib", type=_size, default=2.0, help="where no tile size is given: memory for tiles and result")
    option(
        "--scales",
        type=_size,
        nargs="+",
        default=[1.0],
        metavar="FACTOR",
        help="see the image at several sizes and take the mean of the probabilities; DeepLab's: .5 .75 1 1.25 1.5 1.75",
    )
    option("--flip", action="store_true", help="see the image mirrored as well (twice the time)")
    option("--rotate", action="store_true", help="see it in four directions (U-Net's way with --flip, in eight views)")
    option(
        "--head",
        type=_head,
        help="of UNet++ with deep supervision: mean (accurate mode), or the number of a head, 1 the smallest network "
        "(fast mode)",
    )
    option(
        "--samples",
        type=_count,
        default=0,
        metavar="N",
        help="predict N times with dropout left on and take the mean (Bayesian SegNet: 40; 0: dropout is off)",
    )
    option("--seed", type=_count, help="of the samples (default: others each time)")
    option(
        "--crf",
        choices=("usual", "deconvnet"),
        help="draw the mask to the image's edges by a dense CRF of these parameters, after all else",
    )
    group = parser.add_argument_group(
        "proposals", "DeconvNet's way: boxes that may hold an object are segmented one by one, and put together"
    )
    group.add_argument(
        "--proposals",
        type=Path,
        metavar="SOURCE",
        help=f"{EDGE_BOXES} (found in the image; needs the extra `proposals`), or boxes from files: a folder with "
        "NAME.txt, .csv or .mat (array `boxes`) for each image, one table with the image's name in its first column, "
        "or one .mat with `images` and `boxes`; the best first, they may leave the image",
    )
    _proposals.add_format_options(group)
    group.add_argument(
        "--edges", type=Path, help=f"for {EDGE_BOXES}: OpenCV's forest of edges, model.yml.gz (default: the gradient)"
    )
    group.add_argument("--max-proposals", type=_positive, default=50, help="boxes to look at, at most")
    group.add_argument("--min-proposal-side", type=_positive, default=112, help="pixels; smaller boxes are passed over")
    group.add_argument(
        "--aggregate", choices=("max", "mean"), default="max", help="how the scores of boxes are put together"
    )
    group.add_argument("--whole-image", action="store_true", help="take the whole image for one more box")
    group = parser.add_argument_group("two networks")
    group.add_argument(
        "--and-model", type=Path, help="a second model, which sees the whole image (EDeconvNet: an FCN-8s)"
    )
    group.add_argument(
        "--combine",
        choices=("mean", "product"),
        default="mean",
        help="their probabilities' mean (paper), or the product of their scores above 0 (as released)",
    )


def segmenter(options: argparse.Namespace, model: Path, value_range: tuple[float, float] | None = None):
    """Returns the `kerasseg.inference.Segmenter` that the options ask for.

    Args:
        options: Of a parser that `add` was called with.
        model: The trained model's file.
        value_range: See `Segmenter`.

    Raises:
        DataError: A model cannot be loaded, or the options do not go with it or with each other.
    """
    from kerasseg.inference import Ensemble, Segmenter
    from kerasseg.spec import DataError

    if options.overlap is not None and options.overlap >= (options.tile_size or 0):
        raise DataError(f"--overlap needs a --tile-size that is larger, got {options.tile_size or 'none'}")
    if options.edges is not None and options.proposals != Path(EDGE_BOXES):
        raise DataError(f"--edges goes with --proposals {EDGE_BOXES}")
    if options.combine == "product" and options.and_model is None:
        raise DataError("--combine product needs a second network: --and-model FILE")
    shared = {
        "tile_size": options.tile_size,
        "overlap": options.overlap,
        "memory_budget": int(options.memory_gib * 2**30),
        "value_range": value_range,
    }
    recipe = {name: getattr(options, name) for name in ("scales", "flip", "rotate", "samples", "seed")}
    try:
        crf = None if options.and_model else options.crf
        first = Segmenter(model, **shared, **recipe, head=options.head, proposals=_boxes(options), crf=crf)
        if options.proposals == Path(EDGE_BOXES) and first.model.input_shape[-1] not in (1, 3):
            raise DataError(
                f"{EDGE_BOXES} needs images of 1 or 3 channels, {model} takes {first.model.input_shape[-1]}"
            )
        if options.and_model is None:
            return first
        return Ensemble([first, Segmenter(options.and_model, **shared, **recipe)], options.combine, options.crf)
    except (ValueError, ImportError) as error:
        raise error if isinstance(error, DataError) else DataError(str(error)) from error


def _boxes(options):
    """Returns the `kerasseg.inference.Proposals` that the options ask for, or None."""
    import _proposals

    from kerasseg.inference import EdgeBoxes, Proposals

    if options.proposals is None:
        return None
    found = options.proposals == Path(EDGE_BOXES)
    source = EdgeBoxes(options.edges) if found else _proposals.source(options)
    limits = options.max_proposals, options.min_proposal_side
    return Proposals(source, options.aggregate, *limits, whole_image=options.whole_image)


def described(options: argparse.Namespace) -> dict:
    """Returns the options that change what is predicted, for a report: those that are not as by default."""
    plain = argparse.ArgumentParser()
    add(plain)
    defaults = vars(plain.parse_args([]))
    changed = {name: getattr(options, name) for name in defaults if getattr(options, name) != defaults[name]}
    return {name: str(value) if isinstance(value, Path) else value for name, value in changed.items()}


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


def _count(text: str) -> int:
    return _whole(text, 0, "a whole number, 0 or more")


def _head(text: str) -> str | int:
    return text if text == "mean" else _whole(text, 1, "mean or the number of a head, 1 the smallest")


def _size(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text!r}")
    return number
