"""Finds a split's record files and makes sure, before training starts, that they are whole."""

from pathlib import Path

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec


def checked_shards(data_dir, split: str) -> dict[Path, int]:
    """Returns the record files of a split, in order, each with its number of records.

    Only the frames are walked, not the records read: a file that was cut off or replaced shows at once; a byte that
    flipped shows when TensorFlow compares the record's checksum, in training.

    Raises:
        DataError: A file is missing or damaged, there is no record, or not the number that `dataset.json` says.
    """
    paths = records.shard_paths(data_dir, split)
    expected = DatasetSpec.load(data_dir).split(split).num_examples
    counts = {path: _count_records(path) for path in paths}
    found = sum(counts.values())
    if found != expected or not found:
        raise DataError(
            f"{data_dir}: split {split!r} holds {found} records, expected {expected or 'at least 1'} as dataset.json "
            "says; convert the data set again with --overwrite"
        )
    return counts


def share_of_worker(shards: dict[Path, int], index: int, workers: int) -> dict[Path, int]:
    """Returns the files of worker `index` of `workers`: every so many, so that each file is one worker's.

    Raises:
        DataError: There are fewer files than workers.
    """
    if len(shards) < workers:
        raise DataError(
            f"{next(iter(shards)).parent}: {len(shards)} record files cannot be shared out among {workers} workers; "
            f"convert the data set again with --num-shards {workers} --overwrite, or a multiple of it"
        )
    return dict(list(shards.items())[index::workers])


def _count_records(path: Path) -> int:
    found = records.frames(path)
    for number, frame in enumerate(found):
        if not frame.sound:
            raise DataError(
                f"{path}: record {number} is cut off or damaged; convert the data set again with --overwrite"
            )
    return len(found)
