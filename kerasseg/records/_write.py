"""Writing a data set: checked, in parallel, in order, and complete or not there at all."""

import collections
import dataclasses
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kerasseg.records._check import check
from kerasseg.records._example import Example, encode
from kerasseg.spec import DATASET_FILE, DataError, DatasetSpec, SplitSpec

_PARTS = ("mask", "instances", "weight", "proposals")
"""What an example may hold beside its image."""

_SHARD = re.compile(r".+\.tfrecord-\d{5}-of-\d{5}")


def write(
    directory,
    spec: DatasetSpec,
    splits: dict[str, Iterable[Example | Callable[[], Example]]],
    *,
    num_shards: int = 4,
    overwrite: bool = False,
    progress: bool = True,
    workers: int | None = None,
) -> DatasetSpec:
    """Writes a data set.

    The records are written into `<directory>.partial` beside it and moved when all are there; `dataset.json` comes
    last. A run that fails removes what it wrote; one that is killed leaves only the partial folder, which does not
    open as a data set and which the next run replaces. With `overwrite` the old data set stays whole until the
    new one is written.

    Args:
        directory: Folder to make.
        spec: Name, classes, channels and bit depth; its splits are filled in here, as is whether there are
            instances, objects, weights and proposals.
        splits: For each split its examples, in order. Callables are called in parallel, so that reading and decoding
            run on all cores and only a few examples are in memory at once.
        num_shards: Files per split (fewer where there are fewer examples), of equal length to within one record.
        overwrite: Whether to replace a data set that is there. Files of other kinds in the folder are left alone.
        progress: Whether to show a bar on stderr.
        workers: Threads; default: one for each core.

    Returns:
        The `DatasetSpec` as written to `dataset.json`.

    Raises:
        DataError: The folder exists, a split is empty, or an example contradicts `spec` (then its key, what was
            expected and what was found); also whatever the callables raise.
        ValueError: `num_shards` or `workers` is below 1.
    """
    if num_shards < 1 or (workers is not None and workers < 1):
        raise ValueError(f"num_shards and workers must be at least 1; received {num_shards} and {workers}")
    if not splits:
        raise DataError(f"nothing to write to {directory}: no split was given")
    directory = Path(directory)
    _refuse_existing(directory, overwrite)
    splits = {name: _non_empty(directory, name, examples) for name, examples in splits.items()}
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        tally = {}
        with ThreadPoolExecutor(workers or _cores()) as pool:
            for name, examples in splits.items():
                tally[name] = _write_split(partial, spec, name, examples, num_shards, pool, progress)
        spec = _complete_spec(spec, tally)
        _move(partial, directory)
        spec.save(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return spec


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _refuse_existing(directory: Path, overwrite: bool) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise DataError(f"{directory} exists and is no folder; choose another --output")
    # Killed between the last two steps: records, but no dataset.json.
    names = {path.name for path in directory.iterdir()} - {"dataset.partial"}
    broken_off = bool(names) and all(_SHARD.fullmatch(name) for name in names)
    if not overwrite and not broken_off:
        raise DataError(
            f"{directory} exists already; choose another --output, or replace what is there with --overwrite"
        )


def _non_empty(directory: Path, name: str, examples: Iterable) -> list:
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise DataError(f"split {name!r} of {directory}: expected a name of letters, digits and underscores")
    examples = list(examples)
    if not examples:
        raise DataError(f"split {name!r} of {directory} is empty: no image was found for it; check its list or folder")
    return examples


@dataclasses.dataclass
class _Tally:
    """What is counted while a split is written."""

    files: list[str]
    num_examples: int
    class_pixels: np.ndarray
    class_image_pixels: np.ndarray
    ignored_pixels: int = 0
    parts: set = dataclasses.field(default_factory=set)
    first: str = ""

    def add(self, example: Example, counts: np.ndarray, ignore_label: int) -> None:
        """Counts one example; `counts` int64 [256] of its mask's labels."""
        parts = tuple(name for name in _PARTS if getattr(example, name) is not None)
        self.first = self.first or example.label
        if self.parts and parts not in self.parts:
            raise DataError(
                f"{example.label} has {' and '.join(parts) or 'no mask'}, but {self.first} has "
                f"{' and '.join(next(iter(self.parts))) or 'no mask'}; all images of a data set must have the same"
            )
        self.parts.add(parts)
        classes = counts[: len(self.class_pixels)]
        self.class_pixels += classes
        self.class_image_pixels += np.where(classes > 0, classes.sum(), 0)
        self.ignored_pixels += int(counts[ignore_label])


def _write_split(folder, spec, split, examples, num_shards, pool, progress) -> _Tally:
    num_shards = min(num_shards, len(examples))
    files = [f"{spec.name}-{split}.tfrecord-{i:05d}-of-{num_shards:05d}" for i in range(num_shards)]
    zeros = np.zeros(spec.num_classes, np.int64)
    tally = _Tally(files, len(examples), zeros, zeros.copy())
    bounds = [len(examples) * i // num_shards for i in range(num_shards + 1)]
    done = _in_order(pool, lambda item: _prepare(spec, item), examples)
    with tqdm(total=len(examples), desc=f"{spec.name} {split}", unit="images", disable=not progress) as bar:
        for name, start, stop in zip(files, bounds, bounds[1:], strict=False):
            with tf.io.TFRecordWriter(str(folder / name)) as writer:
                for _ in range(start, stop):
                    example, counts, serialized = next(done)
                    tally.add(example, counts, spec.ignore_label)
                    writer.write(serialized)
                    bar.update()
            with open(folder / name, "rb+") as file:
                os.fsync(file.fileno())
    return tally


def _in_order(pool: ThreadPoolExecutor, function, items: list) -> Iterator:
    """Yields `function(item)` in order, a bounded number of items ahead; stops the rest at the first error."""
    waiting = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 4 * pool._max_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _prepare(spec: DatasetSpec, item):
    """Returns the example without its arrays, its label counts and its record; runs in a worker thread."""
    example = item() if callable(item) else item
    counts = check(example, spec)
    serialized = encode(example, spec.ignore_label)
    present = {name: True for name in _PARTS if getattr(example, name) is not None}
    return Example(example.key, image=None, source=example.source, **present), counts, serialized


def _complete_spec(spec: DatasetSpec, tally: dict[str, _Tally]) -> DatasetSpec:
    kinds = {parts for counts in tally.values() for parts in counts.parts}
    if len(kinds) > 1:
        raise DataError(f"the splits differ in what they hold beside the image: {sorted(kinds)}")
    parts = next(iter(kinds))
    splits = {
        name: SplitSpec(
            num_examples=counts.num_examples,
            files=tuple(counts.files),
            class_pixels=tuple(int(v) for v in counts.class_pixels),
            ignored_pixels=counts.ignored_pixels,
            class_image_pixels=tuple(int(v) for v in counts.class_image_pixels),
        )
        for name, counts in tally.items()
    }
    return dataclasses.replace(
        spec,
        splits=splits,
        has_instances="instances" in parts,
        has_weights="weight" in parts,
        has_objects={"instances", "mask"} <= set(parts),
        has_proposals="proposals" in parts,
    )


def _move(partial: Path, directory: Path) -> None:
    """Moves finished records to their place; an old data set there stops opening first."""
    if not directory.exists():
        os.replace(partial, directory)
        return
    (directory / DATASET_FILE).unlink(missing_ok=True)
    for path in directory.iterdir():
        if _SHARD.fullmatch(path.name):
            path.unlink()
    for path in partial.iterdir():
        os.replace(path, directory / path.name)
    partial.rmdir()
