"""Which shards of an unfinished data set are whole and what they were made from, so that a rerun can keep them."""

import dataclasses
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from kerasseg.records._example import Example
from kerasseg.records._tally import Tally

JOURNAL = "conversion.journal"
"""Name of the file, one JSON object a line; it lies beside the shards until the data set is complete."""

_FORMAT = 1  # of the records and of the journal: another number, and a run that was broken off starts over
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Deferred:
    """An example that is read in its turn, in a worker thread.

    Attributes:
        key: Its name, as the example's.
        files: Every file that it is made from. While these keep their size and time, its record stays good.
        make: Returns the example.
    """

    key: str
    files: tuple[Path, ...]
    make: Callable[[], Example]

    def __call__(self) -> Example:
        """Returns the example."""
        return self.make()


class Journal:
    """The journal of a folder of shards.

    A shard enters it when all its bytes are on disk, together with its counts, its checksum, and a fingerprint of what
    it was made from: the plan, and the key and files (path, size, time) of each of its examples.
    """

    def __init__(self, folder: Path, plan: dict | None):
        """Reads what an earlier run left.

        Args:
            folder: Of the shards.
            plan: All that the records depend on beside their files, in JSON's types; None: nothing is known of that,
                so nothing of an earlier run is kept, and nothing noted.
        """
        self._path = folder / JOURNAL
        self._plan = None if plan is None else json.dumps([_FORMAT, plan], sort_keys=True, default=str)
        self._made_from = {}

    def take_over(self, shards: dict[str, list]) -> dict[str, Tally]:
        """Returns the counts of those shards that an earlier run finished, and removes everything else of its files.

        Args:
            shards: The examples of each shard, in order.
        """
        self._made_from = {name: self._fingerprint(name, examples) for name, examples in shards.items()}
        entries = {name: entry for name, entry in self._read().items() if self._is_good(entry)}
        renewed = self._path.with_suffix(".renewed")
        renewed.unlink(missing_ok=True)
        for entry in entries.values():
            _append(renewed, entry)
        if entries:
            os.replace(renewed, self._path)
        for path in self._path.parent.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in entries and (path != self._path or not entries):
                path.unlink()
        return {name: Tally.from_dict(entry["tally"]) for name, entry in entries.items()}

    def add(self, name: str, tally: Tally) -> None:
        """Notes that a shard is finished: its bytes must be on disk."""
        if self._made_from[name] is None:
            return
        size, crc = _checksum(self._path.parent / name)
        made_from, content = self._made_from[name], tally.to_dict()
        _append(self._path, {"file": name, "made_from": made_from, "bytes": size, "crc32": crc, "tally": content})

    def _read(self) -> dict[str, dict]:
        """Returns the entries by file; lines that were not finished or are no entries are left out."""
        entries = {}
        for line in self._path.read_bytes().splitlines() if self._path.is_file() else ():
            try:
                entry = json.loads(line)
                entries[entry["file"]] = entry
            except (ValueError, KeyError, TypeError):
                continue
        return entries

    def _is_good(self, entry: dict) -> bool:
        made_from = self._made_from.get(entry["file"])
        path = self._path.parent / entry["file"]
        if made_from is None or entry.get("made_from") != made_from or not path.is_file():
            return False
        return _checksum(path) == (entry.get("bytes"), entry.get("crc32"))

    def _fingerprint(self, name: str, examples: list) -> str | None:
        if self._plan is None or not all(isinstance(example, Deferred) for example in examples):
            return None
        digest = hashlib.sha256(f"{self._plan}\n{name}\n".encode())
        for example in examples:
            digest.update(json.dumps([example.key, [_state(path) for path in example.files]]).encode())
        return digest.hexdigest()


def _append(path: Path, entry: dict) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _state(path) -> list:
    try:
        stat = os.stat(path)
    except OSError:
        return [str(path), None]
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _checksum(path: Path) -> tuple[int, int]:
    """Returns size and CRC-32 of a file."""
    size, crc = 0, 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            crc = zlib.crc32(block, crc)
    return size, crc
