"""Names the file and the record behind an error of tf.data, which itself names neither."""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec

# What reading and decoding raise; an operation in Python, UnknownError. Where TensorFlow quotes the bytes of a record
# that is no tf.train.Example, its own message does not decode.
_OF_DATA = (
    UnicodeDecodeError,
    tf.errors.DataLossError,
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


@contextlib.contextmanager
def naming_damage(data_dir, *splits: str) -> Iterator[None]:
    """Turns an error that a damaged record causes into a `DataError` that names its file and number.

    with pipeline.naming_damage("tfrecords/voc2012"):
        model.fit(data, steps_per_epoch=1000)

    TensorFlow finds a flipped byte by the record's checksum, and damaged JPEG or PNG data by decoding, but says neither
    where nor in which file. When it raises within the `with`, the record files are read once more, a thread for each
    file, until the damage is found; an error that no record explains is raised as it was.

    Args:
        data_dir: Folder of the data set that is read.
        splits: Those that are read; none: all of them.

    Raises:
        DataError: A record is damaged.
    """
    try:
        yield
    except _OF_DATA as error:
        fault = _find(data_dir, splits, decode=False)
        if fault is None and not isinstance(error, tf.errors.DataLossError):
            fault = _find(data_dir, splits, decode=True)
        if fault is None:
            raise
        raise fault from error


def _find(data_dir, splits, decode: bool) -> DataError | None:
    """Returns the error for the first damaged record; with `decode` for one that does not decode, too."""
    spec = DatasetSpec.load(data_dir)
    paths = [path for split in splits or spec.splits for path in records.shard_paths(data_dir, split)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        faults = pool.map(lambda path: _first_fault(path, spec, decode), paths)
        return next((fault for fault in faults if fault is not None), None)


def _first_fault(path: Path, spec: DatasetSpec, decode: bool) -> DataError | None:
    for number, record in enumerate(records.scan(path)):
        fault = record if isinstance(record, DataError) else None
        if decode and fault is None:
            try:
                records.from_record(record, spec.channels, default_key=path.name)
            except DataError as error:
                fault = error
        if fault is not None:
            return DataError(
                f"{path}, record {number}: {fault}; replace the file, or make the data set again "
                "(tools/check_data.py lists all faults)"
            )
    return None
