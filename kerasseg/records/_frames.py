"""TFRecord files frame by frame: TensorFlow's reader stops at the first damage, without saying where it is.

A frame is the record's length (8 bytes, little-endian), a checksum of the length (4), the record, and its checksum (4).
"""

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasseg.spec import DataError

FRAMING = 16
"""Bytes of a frame beside the record."""

_HEADER = 12
# What is copied at a time to be read after a damage: many damages cost so much each, not the rest of the file.
_COPIED = 2**24
# What is searched at a time for the next frame.
_SEARCHED = 2**20


class Frame(NamedTuple):
    """Where a record lies in its file.

    Attributes:
        start: First byte of the frame.
        stop: First byte after it.
        sound: Whether the length and its checksum agree and the frame ends within the file. If not, it is all that
            lies before the next frame that is sound.
    """

    start: int
    stop: int
    sound: bool


def frames(path) -> list[Frame]:
    """Returns the frames of a TFRecord file; the records themselves are not read."""
    found, position, size = [], 0, Path(path).stat().st_size
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(_HEADER)
            stop = position + FRAMING + int.from_bytes(header[:8], "little")
            sound = len(header) == _HEADER and stop <= size and bool(_agrees(np.frombuffer(header, np.uint8))[0])
            if not sound:
                stop = _next_frame(file, position + 1, size)
            found.append(Frame(position, stop, sound))
            position = stop
    return found


def scan(path) -> Iterator[bytes | DataError]:
    """Yields the raw records of a file, a `DataError` in the place of each damaged one, and goes on after it."""
    found, done = frames(path), 0
    with tempfile.TemporaryDirectory() as folder:
        while done < len(found):
            if not found[done].sound:
                yield _damaged()
                done += 1
                continue
            run = _run(found, done, None if not done else _COPIED)
            source = path if not done else _copy(path, run, folder)
            try:
                for record, _ in zip(tf.data.TFRecordDataset(str(source)).as_numpy_iterator(), run, strict=False):
                    yield record
                    done += 1
            except (tf.errors.DataLossError, tf.errors.OutOfRangeError):
                yield _damaged()
                done += 1


def read_frame(path, frame: Frame) -> bytes:
    """Returns the record of one frame of a file; raises `DataError` where it is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        if frame.sound:
            with contextlib.suppress(tf.errors.DataLossError, tf.errors.OutOfRangeError):
                for record in tf.data.TFRecordDataset(str(_copy(path, [frame], folder))).as_numpy_iterator():
                    return record
    raise _damaged()


def _damaged() -> DataError:
    return DataError("the file is damaged there or cut short (wrong checksum)")


def _run(found: list[Frame], first: int, limit: int | None) -> list[Frame]:
    """Returns sound frames from `first` on, of `limit` bytes or a few more."""
    run = []
    for frame in found[first:]:
        if not frame.sound or (limit and run and frame.stop - run[0].start > limit):
            break
        run.append(frame)
    return run


def _copy(path, run: list[Frame], folder) -> Path:
    """TensorFlow's reader begins at the beginning of a file: what follows a damage is given to it as another one."""
    copy = Path(folder) / "copy"
    with open(path, "rb") as file:
        file.seek(run[0].start)
        copy.write_bytes(file.read(run[-1].stop - run[0].start))
    return copy


def _next_frame(file, start: int, size: int) -> int:
    """Returns where a length with its checksum stands next, `size` where none does."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for first in range(start, size - FRAMING + 1, _SEARCHED):
            block = np.frombuffer(data[first : first + _SEARCHED + _HEADER - 1], np.uint8)
            for place in np.flatnonzero(_agrees(block)) + first:
                if place + FRAMING + int.from_bytes(data[place : place + 8], "little") <= size:
                    return int(place)
    return size


def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0x82F63B78), table >> 1)
    return table


_TABLE = _crc_table()


def _agrees(block: np.ndarray) -> np.ndarray:
    """Returns for each place of uint8 [N] whether 8 bytes are followed by their checksum, bool [N - 11].

    The checksum is CRC-32C, turned and shifted as TFRecord does ("masked").
    """
    count = max(len(block) - _HEADER + 1, 0)
    crc = np.full(count, 0xFFFFFFFF, np.uint32)
    for i in range(8):
        crc = _TABLE[(crc ^ block[i : i + count]) & 0xFF] ^ crc >> 8
    crc = ~crc
    masked = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)
    stored = sum(block[8 + i : 8 + i + count].astype(np.uint32) << np.uint32(8 * i) for i in range(4))
    return masked == stored
