"""Writing a data set: checked, in parallel, in order, and complete or not there at all."""

import collections
import dataclasses
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from kerasseg.records._check import check
from kerasseg.records._example import Example, encode
from kerasseg.records._journal import JOURNAL, Journal
from kerasseg.records._place import gather, move, refuse_existing
from kerasseg.records._scaling import count_values, percentile_range
from kerasseg.records._tally import Prepared, Tally
from kerasseg.spec import CollectedDataError, DataError, DatasetSpec, SplitSpec

_PARTS = ("mask", "instances", "weight", "proposals")
"""What an example may hold beside its image."""


def write(
    directory,
    spec: DatasetSpec,
    splits: dict[str, Iterable[Example | Callable[[], Example]]],
    *,
    num_shards: int = 4,
    overwrite: bool = False,
    progress: bool = True,
    workers: int | None = None,
    made_with: dict | None = None,
    percentiles: tuple[float, float] | None = None,
) -> DatasetSpec:
    """Writes a data set.

    The records are written into `<directory>.partial` beside it and moved when all are there; `dataset.json` comes
    last. With `overwrite` the old data set stays whole until the new one is written.

    A run that finds a fault writes no further, but reads on to the end, raises all faults together, and removes what
    it wrote. One that is killed (or stopped with Ctrl-C) leaves the partial folder, which does not open as a data set.
    With `made_with`, and where all examples of a shard are `Deferred`, the next run keeps the shards that were
    finished, as long as nothing that they were made from has changed; otherwise it starts over.

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
        made_with: All that the records depend on beside `spec` and the files of the examples (options, versions), in
            JSON's types. None: nothing of a run that was broken off is kept.
        percentiles: For images of 16 bits: the `value_range` of the data set becomes these percentiles (0 <= low <
            high <= 100) of all values of all images in the split "train" (the first split where there is none). The
            images are stored as they are.

    Returns:
        The `DatasetSpec` as written to `dataset.json`.

    Raises:
        DataError: The folder exists, a split is empty, or an example contradicts `spec` (then its key, what was
            expected and what was found) or cannot be read; `CollectedDataError` where several do. Whatever else the
            callables raise ends the run at once.
        ValueError: `num_shards` or `workers` is below 1, or the percentiles are none or not for such images.
    """
    if num_shards < 1 or (workers is not None and workers < 1):
        raise ValueError(f"num_shards and workers must be at least 1; received {num_shards} and {workers}")
    if percentiles and not (spec.bit_depth == 16 and 0 <= percentiles[0] < percentiles[1] <= 100):
        raise ValueError(f"expected percentiles 0 <= low < high <= 100 for 16 bits; received {percentiles}")
    if not splits:
        raise DataError(f"nothing to write to {directory}: no split was given")
    directory = Path(directory)
    partial = directory.with_name(directory.name + ".partial")
    refuse_existing(directory, partial, overwrite)
    shards = {split: _shards(directory, spec, split, examples, num_shards) for split, examples in splits.items()}
    counted = "train" if "train" in splits else next(iter(splits))
    try:
        gather(directory, partial)
        plan = {"spec": spec.to_dict(), "made_with": made_with, "percentiles": percentiles}
        journal = Journal(partial, None if made_with is None else plan)
        kept = journal.take_over({name: examples for split in shards.values() for name, examples in split.items()})
        with ThreadPoolExecutor(workers or _cores()) as pool, ThreadPoolExecutor(1) as closer:
            writer = _Writer(partial, spec, journal, kept, (pool, closer), progress, counted if percentiles else None)
            tallies = {split: writer.write(split, files) for split, files in shards.items()}
        writer.raise_faults()
        if percentiles:
            spec = dataclasses.replace(spec, value_range=percentile_range(tallies[counted].values, percentiles))
        spec = _complete_spec(spec, tallies, shards)
        move(partial, directory)
        spec.save(directory)
        (directory / JOURNAL).unlink(missing_ok=True)
    except KeyboardInterrupt:
        raise  # the next run goes on from there
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return spec


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _shards(directory: Path, spec: DatasetSpec, split: str, examples: Iterable, count: int) -> dict[str, list]:
    """Returns the examples of each of a split's files."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise DataError(f"split {split!r} of {directory}: expected a name of letters, digits and underscores")
    examples = list(examples)
    if not examples:
        raise DataError(f"split {split!r} of {directory} is empty: no image was found for it; check its list or folder")
    count = min(count, len(examples))
    bounds = [len(examples) * i // count for i in range(count + 1)]
    return {
        f"{spec.name}-{split}.tfrecord-{i:05d}-of-{count:05d}": examples[bounds[i] : bounds[i + 1]]
        for i in range(count)
    }


class _Writer:
    """Writes the splits of one data set, and collects what is wrong with them."""

    def __init__(self, folder: Path, spec: DatasetSpec, journal: Journal, kept: dict, pools, progress: bool, counted):
        self._folder, self._spec, self._journal, self._kept = folder, spec, journal, kept
        self._pool, self._closer = pools
        self._progress, self._counted = progress, counted
        self._faults: list[DataError] = []

    def write(self, split: str, shards: dict[str, list]) -> Tally:
        """Writes the shards that are not kept; after the first fault it only reads."""
        rest = [example for name, examples in shards.items() if name not in self._kept for example in examples]
        total = sum(map(len, shards.values()))
        tally = Tally.of(self._spec)
        for name in shards.keys() & self._kept.keys():
            tally.merge(self._kept[name])
        done = _in_order(self._pool, lambda item: self._prepare(item, split == self._counted), rest)
        closing = None
        with self._bar(split, total, total - len(rest)) as bar:
            for name, examples in shards.items():
                if name in self._kept:
                    continue
                part = Tally.of(self._spec)
                with tf.io.TFRecordWriter(str(self._folder / name)) as file:
                    for prepared in (next(done) for _ in examples):
                        self._take(prepared, tally if tally.num_examples else part, part, file)
                        bar.update()
                tally.merge(part)
                # The disk takes a shard in while the next one is read, and no more than that: what fails ends the run.
                if closing:
                    closing.result()
                closing = self._closer.submit(self._finish, name, part)
            if closing:
                closing.result()
        return tally

    def raise_faults(self) -> None:
        """Raises what was found, one fault as it is, several together."""
        if self._faults:
            raise CollectedDataError.of("{} faults, so nothing was written:", self._faults)

    def _prepare(self, item, count: bool = False) -> Prepared | DataError:
        """Reads, checks and encodes; runs in a worker thread."""
        try:
            example = item() if callable(item) else item
            counts = check(example, self._spec)
            values = count_values(example.image) if count else None
            serialized = b"" if self._faults else encode(example, self._spec.ignore_label)
        except DataError as fault:
            return fault
        parts = tuple(name for name in _PARTS if getattr(example, name) is not None)
        return Prepared(example.label, parts, counts, serialized, values)

    def _take(self, prepared: Prepared | DataError, before: Tally, part: Tally, file) -> None:
        if isinstance(prepared, DataError):
            self._faults.append(prepared)
        elif before.num_examples and prepared.parts != before.parts:
            has, others = (" and ".join(parts) or "no mask" for parts in (prepared.parts, before.parts))
            text = f"{prepared.label} has {has}, but {before.first} has {others}"
            self._faults.append(DataError(f"{text}; all images of a data set must have the same"))
        elif not self._faults:
            part.add(prepared, self._spec.ignore_label)
            file.write(prepared.serialized)

    def _finish(self, name: str, tally: Tally) -> None:
        if self._faults:
            return
        with open(self._folder / name, "rb+") as file:
            os.fsync(file.fileno())
        self._journal.add(name, tally)

    def _bar(self, split: str, total: int, kept: int) -> tqdm:
        bar = tqdm(
            total=total,
            initial=kept,
            desc=f"{self._spec.name} {split}",
            unit="images",
            disable=not self._progress,
            mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file wants few lines
        )
        if kept and self._progress:
            bar.write(f"note: {kept} of {total} records of {split} were finished before and are kept", file=sys.stderr)
        return bar


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


def _complete_spec(spec: DatasetSpec, tallies: dict[str, Tally], shards: dict[str, dict]) -> DatasetSpec:
    kinds = {tally.parts for tally in tallies.values()}
    if len(kinds) > 1:
        raise DataError(f"the splits differ in what they hold beside the image: {sorted(kinds)}")
    parts = next(iter(kinds))
    splits = {
        name: SplitSpec(
            num_examples=tally.num_examples,
            files=tuple(shards[name]),
            class_pixels=tuple(int(v) for v in tally.class_pixels),
            ignored_pixels=tally.ignored_pixels,
            class_image_pixels=tuple(int(v) for v in tally.class_image_pixels),
        )
        for name, tally in tallies.items()
    }
    return dataclasses.replace(
        spec,
        splits=splits,
        has_instances="instances" in parts,
        has_weights="weight" in parts,
        has_objects={"instances", "mask"} <= set(parts),
        has_proposals="proposals" in parts,
    )
