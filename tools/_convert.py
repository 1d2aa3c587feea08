"""What the converters share: common options, splitting, listing of folders, files of classes, and the closing lines."""

import os
import re
import sys
from pathlib import Path

import _cli
import numpy as np

from kerasseg._version import __version__
from kerasseg.spec import DataError, voc_palette


def run(main) -> None:
    """Runs a tool that only reads and writes files: it leaves the GPU's memory to those that train."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    _cli.run(main)


def add_output_options(parser) -> None:
    """Adds the options of every converter."""
    parser.add_argument(
        "--output", required=True, help="folder to make, tfrecords/NAME; its last part names the data set"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that is there")
    parser.add_argument("--num-shards", type=positive, default=4, help="record files per split")
    parser.add_argument("--workers", type=positive, help="threads that read and encode (default: one for each core)")


def positive(text: str) -> int:
    """An option's integer of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def share(text: str) -> float:
    """An option's number from 0 up to, not including, 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError(text)
    return value


def write(options, spec, splits) -> None:
    """Writes the data set that `options` ask for and says what it holds."""
    from kerasseg import records

    # What a run that was broken off wrote is kept only if it was called alike.
    incidental = ("output", "overwrite", "workers", "num_shards")
    called = {name: value for name, value in vars(options).items() if name not in incidental}
    spec = records.write(
        options.output,
        spec,
        splits,
        num_shards=options.num_shards,
        overwrite=options.overwrite,
        workers=options.workers,
        made_with={**called, "version": __version__},
        percentiles=options.percentiles if getattr(options, "scaling", "full") == "percentile" else None,
    )
    if spec.value_range:
        low, high = spec.value_range
        print(f"values {low:g} to {high:g} become 0 to 255, what lies outside is cut off")
    for name, split in spec.splits.items():
        print(f"{name}: {split.num_examples} images, {shares(spec.class_names, split)}")
        if split.ignored_pixels and not any(split.class_pixels[1:]):
            warn(
                f"{name}: the masks hold only 0 and {spec.ignore_label}, which is ignored. If {spec.ignore_label} "
                f"means {spec.class_names[-1]!r}, convert again with --map {spec.ignore_label}=1 --overwrite"
            )
    print(f"{options.output} is complete; look at it with: python tools/check_data.py {options.output}")


def first_readable(items, read):
    """Returns what `read` gives for the first item that it can read; raises the first fault where it can read none.

    What is wrong with the others is found, and said together, when all are read.
    """
    first = None
    for item in items:
        try:
            return read(item)
        except DataError as fault:
            first = first or fault
    raise first


def lenient(read, otherwise):
    """Returns a function that gives `otherwise` where `read` finds a fault, which is found again later."""

    def function(item):
        try:
            return read(item)
        except DataError:
            return otherwise

    return function


def shares(class_names, split) -> str:
    """Returns a line with the shares of the largest classes of a split and of what is ignored."""
    total = max(1, sum(split.class_pixels) + split.ignored_pixels)
    largest = np.argsort(split.class_pixels)[::-1][:4]
    parts = [f"{class_names[i]} {100 * split.class_pixels[i] / total:.1f} %" for i in largest if split.class_pixels[i]]
    return ", ".join([*parts, f"ignored {100 * split.ignored_pixels / total:.1f} %"])


def name_of(output) -> str:
    """Returns the data set's name, the last part of its folder."""
    name = Path(output).resolve().name
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise DataError(f"--output {output}: a data set's name has letters, digits, dots, dashes and underscores only")
    return name


def folder(path, what: str) -> Path:
    """Returns `path` as a folder that is there; raises `DataError` that says what was expected in it."""
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is no folder; expected {what}")
    return path


def natural_key(name) -> list:
    """Sorts `2` before `10`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(name))]


def images_in(path, what: str, suffix: str = "", deep: bool = False) -> dict[str, Path]:
    """Returns stem to path of the images in a folder, in natural order.

    Args:
        path: The folder.
        what: What was expected there, for the error.
        suffix: Only files whose stem ends so; it is cut off the stem.
        deep: Whether to look into folders below, too; the stem then holds the path from `path` on.

    Raises:
        DataError: The folder is missing, holds no image, or two of one stem.
    """
    from kerasseg.records import SUFFIXES

    found = {}
    entries = folder(path, what).rglob("*") if deep else folder(path, what).iterdir()
    for entry in sorted(entries, key=lambda p: natural_key(p.relative_to(path))):
        if entry.suffix.lower() not in SUFFIXES or entry.name.startswith(".") or not entry.stem.endswith(suffix):
            continue
        stem = entry.relative_to(path).with_suffix("").as_posix().removesuffix(suffix)
        if stem in found:
            raise DataError(f"{entry} and {found[stem].name} have the same stem; keep one of them")
        found[stem] = entry
    if not found:
        of = f" whose name ends in {suffix!r}" if suffix else ""
        raise DataError(f"{path} holds no image{of} ({', '.join(SUFFIXES)}); expected {what}")
    return found


def read_list(path) -> list[str]:
    """Returns the first word of each line that is not empty, as its file stem (CamVid's lists hold paths).

    Raises:
        DataError: The file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing; expected a list with one image name per line")
    lines = _read_text(path).splitlines()
    return [stem_of(line.split()[0]) for line in lines if line.strip()]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text file in UTF-8 ({error.reason} at byte {error.start}); save it so"
        ) from error


def stem_of(name: str) -> str:
    """Returns a file's name without its folder and, where that is an image's, its suffix."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.lower() in ("png", "jpg", "jpeg", "tif", "tiff", "bmp") else name


def seeded_split(items: list, val_share: float, seed: int, group=lambda item: item) -> dict[str, list]:
    """Splits into "train" and, where `val_share` is above 0, "val"; both keep the order of `items`.

    Items with the same `group` come into the same part, so that none is in both.

    Raises:
        DataError: There are too few groups for two parts.
    """
    if not val_share:
        return {"train": items}
    groups = list(dict.fromkeys(map(group, items)))
    count = max(1, round(len(groups) * val_share))
    if count >= len(groups):
        raise DataError(
            f"--val-share {val_share} of {len(groups)} images leaves none to train on; take a smaller share"
        )
    chosen = np.random.default_rng(seed).permutation(len(groups))[:count]
    val = {groups[i] for i in chosen}
    return {"train": [i for i in items if group(i) not in val], "val": [i for i in items if group(i) in val]}


_COLOUR_LAST = re.compile(r"(?P<name>.*?)[\s,;:]+(?P<rgb>\d{1,3}(?:[\s,;]+\d{1,3}){2})")
_COLOUR_FIRST = re.compile(r"(?P<rgb>\d{1,3}(?:[\s,;]+\d{1,3}){2})[\s,;:]+(?P<name>.*)")


def read_classes(path) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...] | None]:
    """Reads a list of classes: one name per line, in the order of the ids, each with an RGB colour or none.

    `road`, `road 128 64 128`, `road,128,64,128` and `128 64 128 road` are understood; lines that start with # are
    comments. The line `__ignore__` of labelme's lists, which stands for -1, is left out.

    Returns:
        Names, and colours (None where the lines have none).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path} is missing; expected a text file with one class name per line, in the order of the ids"
        )
    lines = [line.strip() for line in _read_text(path).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#") and line != "__ignore__"]
    names, colours = [], []
    for line in lines:
        match = _COLOUR_LAST.fullmatch(line) or _COLOUR_FIRST.fullmatch(line)
        names.append(match["name"].strip() if match else line)
        if match:
            colours.append(tuple(int(v) for v in re.findall(r"\d+", match["rgb"])))
    if not names:
        raise DataError(f"{path} names no class; expected one per line, in the order of the ids")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} names the class {twice!r} twice; each id needs a name of its own")
    if colours and len(colours) < len(names):
        raise DataError(f"{path} gives a colour for {len(colours)} of {len(names)} classes; give one for each, or none")
    if any(v > 255 for colour in colours for v in colour):
        raise DataError(f"{path} has a colour above 255; expected RGB values of 0 to 255")
    return tuple(names), tuple(colours) or None


def without_ignored_classes(names, colours, ignored: list[int]):
    """Returns names and colours without the last classes that are ignored: CamVid's "Unlabelled" is no class."""
    while len(names) > 1 and len(names) - 1 in ignored:
        names, colours = names[:-1], colours and colours[:-1]
    return names, colours


def default_palette(num_classes: int) -> tuple[tuple[int, int, int], ...]:
    """Returns the first colours of the VOC colour map."""
    return tuple(tuple(int(v) for v in colour) for colour in voc_palette()[:num_classes])


def warn(text: str) -> None:
    """Says something on stderr that does not stop the conversion."""
    print(f"note: {text}", file=sys.stderr)
