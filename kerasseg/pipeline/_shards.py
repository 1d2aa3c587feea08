"""Finds a split's record files and makes sure, before training starts, that they are whole."""

from pathlib import Path

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec


def checked_shards(data_dir, split: str) -> list[Path]:
    """Returns the record files of a split, in order.

    Only the frames are walked, not the records read: a file that was cut off or replaced shows at once; a byte that
    flipped shows when TensorFlow compares the record's checksum, in training.

    Raises:
        DataError: A file is missing or damaged, there is no record, or not the number that `dataset.json` says.
    """
    paths = records.shard_paths(data_dir, split)
    expected = DatasetSpec.load(data_dir).split(split).num_examples
    found = sum(_count_records(path) for path in paths)
    if found != expected or not found:
        raise DataError(
            f"{data_dir}: split {split!r} holds {found} records, expected {expected or 'at least 1'} as dataset.json "
            "says; convert the data set again with --overwrite"
        )
    return paths


def _count_records(path: Path) -> int:
    found = records.frames(path)
    for number, frame in enumerate(found):
        if not frame.sound:
            raise DataError(
                f"{path}: record {number} is cut off or damaged; convert the data set again with --overwrite"
            )
    return len(found)
