"""Record files that others made: which they are, and what their classes and images are like."""

from pathlib import Path

import _convert

from kerasseg.spec import VOC_CLASS_NAMES, DataError


def find(folder: Path, patterns: dict[str, list[str]]) -> dict[str, list[Path]]:
    """Returns the files of each split, in natural order.

    Args:
        folder: Where they lie.
        patterns: Of each split, names or shell patterns (`train-*`), relative to the folder.

    Raises:
        DataError: A pattern matches nothing, or a file is matched twice.
    """
    _convert.folder(folder, "the folder of the record files")
    found: dict[str, list[Path]] = {}
    owner: dict[Path, str] = {}
    for split, globs in patterns.items():
        found[split] = []
        for pattern in globs:
            if Path(pattern).is_absolute():
                raise DataError(f"--{split} {pattern}: expected a name or a pattern relative to {folder}")
            matches = sorted((p for p in folder.glob(pattern) if p.is_file()), key=lambda p: _convert.natural_key(p))
            if not matches:
                there = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
                raise DataError(f"--{split} {pattern!r} matches no file in {folder}, which holds {there}")
            for path in matches:
                if path in owner:
                    raise DataError(f"{path} is matched twice, by --{owner[path]} and --{split}; each file is of one")
                owner[path] = split
            found[split] += matches
    return found


def classes(text: str):
    """Returns names and colours (None: the VOC map) of `--classes`: a file, or "voc"."""
    if text == "voc":
        return VOC_CLASS_NAMES, None
    return _convert.read_classes(text)


def pixel_format(paths: list[Path]) -> tuple[int, int]:
    """Returns channels and bits of the first image that can be read; raises the fault of the first if none can."""
    from kerasseg import records

    fault = None
    for path in paths:
        for number, record in enumerate(records.scan(path)):
            try:
                if isinstance(record, DataError):
                    raise record
                image = records.from_record(record).image
            except DataError as error:
                fault = fault or DataError(f"{path}, record {number}: {error}")
                continue
            return image.shape[2], {"uint8": 8, "uint16": 16, "float32": 32}[image.dtype.name]
    raise fault or DataError(f"{paths[0]} and {len(paths) - 1} other files hold no record")
