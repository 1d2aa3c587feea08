"""Examining record files: every record decoded and compared with what the data set says of itself, in threads."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _data_faults
import numpy as np

from kerasseg.spec import DataError, DatasetSpec

PARTS = ("mask", "instances", "weight", "proposals")
_BIT_DEPTHS = {"uint8": 8, "uint16": 16, "float32": 32}


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with one record, or with a split.

    Attributes:
        text: For people.
        file: Record file.
        record: Its number in the file, from 0.
        key: Of the image.
    """

    text: str
    file: str = ""
    record: int | None = None
    key: str = ""

    def __str__(self):
        place = f"{self.file}, record {self.record}: " if self.record is not None else ""
        return f"{place}{self.key}{': ' if self.key else ''}{self.text}"


@dataclasses.dataclass
class Record:
    """What is found out about one record.

    Attributes:
        faults: All of them.
        key: Of the image, "" where it does not decode.
        counts: Of its mask.
        parts: What it holds beside its image.
        digest: Of the image's pixels.
        example: The decoded record, where it was asked for.
    """

    faults: list[Fault]
    key: str = ""
    counts: _data_faults.Counts = dataclasses.field(default_factory=_data_faults.Counts)
    parts: frozenset = frozenset()
    digest: bytes = b""
    example: object = None


class Split:
    """The records of a split: what is wrong with them, and what is counted.

    Attributes:
        faults: Of all records.
        counts: Of all masks.
        keys: How often each occurs.
        digests: Digest of an image's pixels to the keys of the images that have it.
        parts: How many records hold what.
        shown: Examples for a sheet.
        files: Path to number of records.
    """

    def __init__(self, spec: DatasetSpec, name: str):
        self.spec, self.name = spec, name
        self.faults: list[Fault] = []
        self.counts = _data_faults.Counts()
        self.keys: collections.Counter = collections.Counter()
        self.digests: dict[bytes, list[str]] = {}
        self.parts: collections.Counter = collections.Counter()
        self.shown: list = []
        self.files: dict[Path, int] = {}

    def read(self, paths: Iterable[Path], total: int | None, shown: Iterable[int] = (), workers: int | None = None):
        """Examines all records of files, with progress on stderr; keeps those of the numbers `shown`."""
        from tqdm import tqdm

        with tqdm(total=total, desc=f"{self.spec.name} {self.name}", unit="images") as bar:
            for record in self._records(paths, frozenset(shown), workers):
                self.faults += record.faults
                bar.update()
                if not record.digest:
                    continue
                self.keys[record.key] += 1
                self.counts.merge(record.counts)
                self.parts[record.parts] += 1
                self.digests.setdefault(record.digest, []).append(record.key)
                if record.example is not None:
                    self.shown.append(record.example)

    def _records(self, paths, shown, workers) -> Iterator[Record]:
        """Yields the records in order; only a few are in memory at once."""
        from kerasseg import records

        count = workers or os.cpu_count() or 1
        waiting, index = collections.deque(), 0
        with ThreadPoolExecutor(count) as pool:
            for path in paths:
                self.files[path] = 0
                for number, record in enumerate(records.scan(path)):
                    self.files[path] += 1
                    waiting.append(pool.submit(examine, self.spec, path, number, record, index in shown))
                    index += 1
                    if len(waiting) > 4 * count:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def examine(spec: DatasetSpec, path: Path, number: int, record, keep: bool = False) -> Record:
    """Returns what is found out about a record of a file, or about the `DataError` that stands for it."""
    from kerasseg import records

    def fault(text: str, key: str = "") -> Fault:
        return Fault(text, str(path), number, key)

    if isinstance(record, DataError):
        return Record([fault(str(record))])
    try:
        example = records.from_record(record, spec.channels, default_key=f"{path.name}-{number}")
    except DataError as error:
        return Record([fault(str(error))])
    found = Record(
        [fault(text, example.key) for text in _faults(example, record, spec)],
        example.key,
        parts=frozenset(name for name in PARTS if getattr(example, name) is not None),
        digest=hashlib.blake2b(np.ascontiguousarray(example.image), digest_size=16, key=_shape(example.image)).digest(),
        example=example if keep else None,
    )
    if example.mask is not None:
        found.counts.add(example.key, example.mask, example.image, example.instances)
    return found


def _shape(image: np.ndarray) -> bytes:
    return f"{image.dtype} {image.shape}".encode()


def _faults(example, record: bytes, spec: DatasetSpec) -> list[str]:
    """Returns in what a decoded example contradicts `dataset.json`, or itself."""
    depth, found = _BIT_DEPTHS[example.image.dtype.name], []
    if depth != spec.bit_depth:
        found.append(f"the image has {depth} bits, but the data set {spec.bit_depth}")
    if example.image.shape[2] != spec.channels:
        found.append(f"the image has {example.image.shape[2]} channels, but the data set {spec.channels}")
    if example.mask is None:
        found.append("the record has no mask")
    else:
        shown = np.flatnonzero(np.bincount(example.mask.ravel(), minlength=256)).tolist()
        illegal = [v for v in shown if v >= spec.num_classes and v != spec.ignore_label]
        if illegal:
            found.append(f"labels {illegal[:6]}; expected 0 to {spec.num_classes - 1} or {spec.ignore_label}")
    parts = {"instances": spec.has_instances, "weight": spec.has_weights, "proposals": spec.has_proposals}
    for name, expected in parts.items():
        if (getattr(example, name) is not None) != expected:
            found.append(f"{name} {'missing' if expected else 'there'}, against dataset.json")
    return found + _size_faults(example, record) + _object_faults(example, record, spec)


def _size_faults(example, record: bytes) -> list[str]:
    """Returns whether the record states another size than its image has; readers of other projects go by it."""
    import tensorflow as tf

    features = tf.train.Example.FromString(record).features.feature
    stated = [list(features[f"image/{side}"].int64_list.value) for side in ("height", "width")]
    height, width = example.image.shape[:2]
    if [[height], [width]] == stated or stated == [[], []] or stated == [[0], [0]]:
        return []
    swapped = "; width and height are swapped" if stated == [[width], [height]] else ""
    return [f"the record states height {stated[0]} and width {stated[1]}, but the image is {width}x{height}{swapped}"]


def _object_faults(example, record: bytes, spec: DatasetSpec) -> list[str]:
    """Returns whether the stored boxes and classes of objects are other than those of the instances."""
    import tensorflow as tf

    from kerasseg import records

    if not spec.has_objects or example.instances is None or example.mask is None:
        return []
    try:
        stored = records.parse_features(record, objects=True)
    except tf.errors.InvalidArgumentError:
        return ["the boxes of its objects have not the same number of sides each"]
    expected = records.object_boxes(example.instances, example.mask, spec.ignore_label)
    found = [stored[name].numpy() for name in ("objects", "object_labels")]
    if not all(map(np.array_equal, found, expected)):
        return [f"the boxes or classes of its {len(expected[1])} objects are not those of its instances"]
    return []
