"""The folder of a data set and the partial one beside it: what is in the way, what a killed run left, the last move."""

import os
import re
from pathlib import Path

from kerasseg.records._journal import JOURNAL
from kerasseg.spec import DATASET_FILE, DataError

_SHARD = re.compile(r".+\.tfrecord-\d{5}-of-\d{5}")

_UNFINISHED_SPEC = "dataset.partial"  # as `DatasetSpec.save` calls it


def refuse_existing(directory: Path, partial: Path, overwrite: bool) -> None:
    """Raises `DataError` where something other than a broken-off run's records is in the way."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise DataError(f"{directory} exists and is no folder; choose another --output")
    # Killed between the last steps: records, but no dataset.json.
    there = list(directory.iterdir())
    broken_off = all(map(_is_ours, there)) and (bool(there) or (partial / JOURNAL).is_file())
    if not overwrite and not broken_off:
        raise DataError(
            f"{directory} exists already; choose another --output, or replace what is there with --overwrite"
        )


def move(partial: Path, directory: Path) -> None:
    """Moves finished records to their place; an old data set there stops opening first."""
    if not directory.exists():
        os.replace(partial, directory)
        return
    (directory / DATASET_FILE).unlink(missing_ok=True)
    for path in directory.iterdir():
        if _is_ours(path):
            path.unlink()
    for path in sorted(partial.iterdir(), key=_is_journal):  # that last
        os.replace(path, directory / path.name)
    partial.rmdir()


def gather(directory: Path, partial: Path) -> None:
    """Makes the partial folder, and puts back there what a run that was killed while moving had moved."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    began = any((folder / JOURNAL).is_file() for folder in (directory, partial))
    if began and directory.exists() and not (directory / DATASET_FILE).exists():
        if not partial.exists() and all(_is_ours(path) for path in directory.iterdir()):
            os.replace(directory, partial)
            return
        partial.mkdir(exist_ok=True)
        for path in sorted(filter(_is_ours, directory.iterdir()), key=_is_journal):
            os.replace(path, partial / path.name)
    partial.mkdir(exist_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether a run that is killed in its last steps may leave such a file in the place of the data set."""
    return bool(_SHARD.fullmatch(path.name)) or path.name == _UNFINISHED_SPEC or _is_journal(path)


def _is_journal(path: Path) -> bool:
    return path.name == JOURNAL
