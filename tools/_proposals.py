"""Boxes that may hold an object, made elsewhere (EdgeBox, Selective Search), read from files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import _convert
import _proposal_files
import numpy as np
from _proposal_files import ORDERS

from kerasseg.spec import DataError

SUFFIXES = (".txt", ".csv", ".mat")


def add_options(parser) -> None:
    """Adds the options of converters that take proposals."""
    parser.add_argument(
        "--proposals",
        type=Path,
        help="boxes that may hold an object: a folder with NAME.txt, .csv or .mat (array `boxes`) for each image, one "
        "table with the image's name in its first column, or one .mat with `images` and `boxes`",
    )
    add_format_options(parser)
    parser.add_argument("--clip-proposals", action="store_true", help="cut boxes that leave the image at its edges")


def add_format_options(parser) -> None:
    """Adds the options that say how boxes are written in files."""
    parser.add_argument(
        "--proposals-order",
        choices=tuple(ORDERS),
        default="xyxy",
        help="columns of a box: corners, or corner and size (EdgeBox: xywh, Selective Search: yxyx)",
    )
    parser.add_argument(
        "--proposals-base",
        type=int,
        choices=(0, 1),
        default=1,
        help="number of the first pixel: 1 as in MATLAB, or 0; the last pixel of a box belongs to it",
    )


def added(options, named: dict[str, list[tuple]]) -> dict[str, list]:
    """Returns the deferred examples of each split, with proposals where they are asked for.

    Args:
        options: With `proposals` and the other options of `add_options`, and `allow_missing`: an image without
            proposals then gets none, else it is an error.
        named: For each split, pairs of name and `records.Deferred`, in order.

    Raises:
        DataError: The file is missing or unreadable, or images lack proposals.
    """
    if options.proposals is None:
        return {split: [make for _, make in pairs] for split, pairs in named.items()}
    source = _open(options)
    names = list(dict.fromkeys(name for pairs in named.values() for name, _ in pairs))
    _say_what_is_missing(options, source, names)

    def maker(name, deferred):
        def make():
            example = deferred.make()
            boxes = _boxes(options, source, name, example.image.shape[:2])
            return dataclasses.replace(example, proposals=boxes)

        file = source.get(name)
        files = (*deferred.files, file if isinstance(file, Path) else options.proposals)
        return dataclasses.replace(deferred, files=files, make=make)

    return {split: [maker(*pair) for pair in pairs] for split, pairs in named.items()}


def source(options) -> Callable:
    """Returns what gives the boxes of an image that is to be segmented, for `kerasseg.inference.Proposals`.

    Unlike those of a data set, the boxes may leave the image by as much as its longer side.

    Args:
        options: With `proposals`, `proposals_order` and `proposals_base`.

    Raises:
        DataError: The file is missing or unreadable; of the function: the image has no boxes, or they lie elsewhere.
    """
    found = _open(options)

    def boxes(pixels: np.ndarray, key: str) -> np.ndarray:
        name = _convert.stem_of(key)
        if name not in found:
            raise DataError(f"{options.proposals} has no proposals for {name!r}; found {_first(found)}")
        file, values = _read(options, found[name])
        edges = _edges(options, values, f"{file}, image {name!r}")
        size = np.array(pixels.shape[:2] * 2)
        reach = max(pixels.shape[:2])
        outside = ((edges < -reach) | (edges > size + reach)).any(axis=1)
        if outside.any():
            raise _leaves(options, f"{file}, image {name!r}", values, outside, pixels.shape[:2])
        return (edges / size).astype(np.float32)

    return boxes


def _first(found: dict) -> str:
    return ", ".join(map(repr, list(found)[:3])) or "none"


def _say_what_is_missing(options, source: dict, names: list[str]) -> None:
    lacking = [name for name in names if name not in source]
    if len(lacking) == len(names):
        raise DataError(
            f"{options.proposals} has no proposals for any of the {len(names)} images; expected names as "
            f"{names[0]!r}, found {_first(source)}"
        )
    if lacking and not options.allow_missing:
        raise DataError(
            f"{options.proposals} has no proposals for {len(lacking)} of {len(names)} images, first {lacking[0]!r}; "
            "make them, or convert without with --allow-missing"
        )
    if lacking:
        _convert.warn(f"{len(lacking)} of {len(names)} images have no proposals: {', '.join(lacking)}")


def _open(options) -> dict:
    """Returns image name to a file of its own, or to its rows of one file: float64 [N, 4] with names for errors."""
    path = options.proposals
    if path.is_dir():
        files = [entry for entry in sorted(path.iterdir()) if entry.suffix.lower() in SUFFIXES]
        found = {}
        for entry in files:
            if entry.stem in found:
                raise DataError(f"{entry} and {found[entry.stem].name} are of the same image; keep one of them")
            found[entry.stem] = entry
        if not found:
            raise DataError(f"{path} holds no {', '.join(SUFFIXES)}; expected one file of proposals for each image")
        return found
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected a folder or a file of proposals (--proposals)")
    if path.suffix.lower() == ".mat":
        return _proposal_files.read_mat_of_all(path)
    return _proposal_files.read_table_of_all(path, options.proposals_order)


def _boxes(options, source: dict, name: str, size: tuple[int, int]) -> np.ndarray:
    """Returns an image's proposals as records hold them, float32 [N, 4]."""
    if name not in source:
        return np.zeros((0, 4), np.float32)
    file, values = _read(options, source[name])
    if not len(values) and not options.allow_missing:
        raise DataError(f"{file} has no proposal for {name!r}; make some, or convert without with --allow-missing")
    edges = _edges(options, values, f"{file}, image {name!r}")
    height, width = size
    limits = np.array([height, width, height, width])
    outside = ((edges < 0) | (edges > limits)).any(axis=1)
    if options.clip_proposals:
        edges = edges.clip(0, limits)
        outside = (edges[:, 2:] <= edges[:, :2]).any(axis=1)
    if outside.any():
        raise _leaves(
            options, f"{file}, image {name!r}", values, outside, size, "? To cut boxes at its edges: --clip-proposals"
        )
    return (edges / limits).astype(np.float32)


def _read(options, entry: Path | np.ndarray) -> tuple[Path, np.ndarray]:
    """Returns the file that holds an image's boxes, and these as they are there, float64 [N, 4]."""
    if not isinstance(entry, Path):
        return options.proposals, entry
    if entry.suffix.lower() == ".mat":
        return entry, _proposal_files.read_mat(entry)
    return entry, _proposal_files.read_table(entry, options.proposals_order)


def _leaves(options, source, values, outside, size, remedy="?") -> DataError:
    row, (height, width) = int(np.flatnonzero(outside)[0]), size
    return DataError(
        f"{source}: box {row + 1} ({_as_text(options, values[row])}) leaves the image of "
        f"{width}x{height} pixels, as do {int(outside.sum()) - 1} more of {len(values)}; are the columns "
        f"{options.proposals_order} (--proposals-order), the first pixel {options.proposals_base} "
        f"(--proposals-base){remedy}"
    )


def _edges(options, values: np.ndarray, source: str) -> np.ndarray:
    """Returns the outer edges of boxes in pixels, float64 [N, 4]: ymin, xmin, ymax, xmax."""
    first, second, third, fourth = (values - (options.proposals_base, options.proposals_base, 0, 0)).T
    if options.proposals_order == "xywh":
        edges = np.stack([second, first, second + fourth, first + third], axis=1)
    else:
        third, fourth = (side - options.proposals_base + 1 for side in (third, fourth))
        corners = (
            (second, first, fourth, third) if options.proposals_order == "xyxy" else (first, second, third, fourth)
        )
        edges = np.stack(corners, axis=1)
    wrong = ~(edges[:, 2:] > edges[:, :2]).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{source}: box {row + 1} ({_as_text(options, values[row])}) ends before it begins, as do "
            f"{int(wrong.sum()) - 1} more of {len(values)}; are the columns {options.proposals_order}? See "
            f"--proposals-order ({', '.join(ORDERS)})"
        )
    return edges


def _as_text(options, row) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in zip(ORDERS[options.proposals_order], row, strict=True))
