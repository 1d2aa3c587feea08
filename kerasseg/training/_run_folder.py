"""The folder of a run: checkpoints, log, options; whole at any moment, whenever the process is killed."""

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

from tensorflow import keras

from kerasseg._cluster import cluster
from kerasseg._version import versions
from kerasseg.spec import DataError, DatasetSpec
from kerasseg.training import _checkpoint as checkpoint
from kerasseg.training._files import flush, lock, name_also, write_text
from kerasseg.training._state import TrainingState
from kerasseg.training._update import averaged, has_averages


class RunFolder:
    """`directory` of one training run.

    Holds best.keras (highest val_mean_iou), last.keras (to resume from), previous.keras (the one before it, for when
    that is damaged), log.csv, run.json (options, data set, versions, scores), and to look at: curves.png,
    confusion_matrix.png, pictures/, tensorboard/, warnings.txt. A checkpoint is an ordinary `.keras` file with one more
    member, the `TrainingState`; so weights, optimiser and state are written, or not, in one step, and a full disk does
    not cost the previous one.
    """

    def __init__(self, directory: str | os.PathLike):
        self.directory = Path(directory)
        self.best = self.directory / "best.keras"
        self.last = self.directory / "last.keras"
        self.previous = self.directory / "previous.keras"
        self.log = self.directory / "log.csv"
        self.run_file = self.directory / "run.json"
        self._described = {"options": {}, "dataset": {}}
        self._write_to(self.directory)

    def _write_to(self, directory: Path) -> None:
        """Sets where files go: of several workers only the chief's to the folder, see `open`."""
        self._written = directory
        self.curves = directory / "curves.png"
        self.confusion_matrix = directory / "confusion_matrix.png"
        self.pictures = directory / "pictures"
        self.tensorboard = directory / "tensorboard"
        self.warnings = directory / "warnings.txt"

    @property
    def is_written(self) -> bool:
        """Whether this process writes the folder: always, but for workers other than the chief."""
        return self._written == self.directory

    @property
    def fingerprint(self) -> int:
        """A number of 32 bits that is another one with other options or another data set."""
        return zlib.crc32(json.dumps(self._described, sort_keys=True).encode())

    @contextlib.contextmanager
    def open(self, options: dict, dataset: dict | None = None):
        """Makes the folder, or takes up the run in it, and keeps other processes out until the block ends.

        Of several workers (see `strategy`) only the chief makes, locks and writes it. The others read its checkpoints,
        and what they save themselves (Keras needs all of them to do so) is deleted when the block ends.

        Args:
            options: All resolved options of the run; plain values.
            dataset: `DatasetSpec.to_dict()` of the data.
        Raises:
            DataError: The folder is not of a run, holds checkpoints of one with other options or data, or another
                process works in it.
        """
        self._described = described = json.loads(json.dumps({"options": options, "dataset": dataset or {}}))
        if not cluster().is_chief:
            if self._has_begun():
                self._refuse_strangers(described)
            with tempfile.TemporaryDirectory(prefix="kerasseg-worker-") as scratch:
                self._write_to(Path(scratch))
                yield self
            return
        self._refuse_strangers(described)
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / ".lock", "w", encoding="utf-8") as file:
            lock(file, self.directory)
            # Once more, under the lock: another process may have begun here in between.
            self._refuse_strangers(described)
            self._remove_partial()
            if not self._has_begun():
                self._write_run({})
            yield self

    def _has_begun(self) -> bool:
        """Whether there is a checkpoint, of this run or of a stage of it, in a folder within."""
        return self.last.exists() or any(self.directory.glob(f"*/{self.last.name}"))

    @property
    def options(self) -> dict:
        """All resolved options of the run, as it was opened with."""
        return self._described["options"]

    @property
    def dataset(self) -> DatasetSpec | None:
        """The data set that the run was opened with, if it was with one."""
        try:
            return DatasetSpec.from_dict(self._described["dataset"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def class_names(self, num_classes: int) -> list[str]:
        """Returns the names of K classes: those of the data set where it has as many, else "0", "1", ..."""
        spec = self.dataset
        same = spec is not None and spec.num_classes == num_classes
        return list(spec.class_names) if same else [str(label) for label in range(num_classes)]

    def _refuse_strangers(self, described: dict) -> None:
        if not self.run_file.exists():
            if self.directory.exists() and any(path.name != ".lock" for path in self.directory.iterdir()):
                raise DataError(f"{self.directory} exists and holds no run (no run.json); choose another output folder")
            return
        if not self._has_begun():  # broken off before its first checkpoint: nothing to mix up
            return
        try:
            there = json.loads(self.run_file.read_text(encoding="utf-8"))
            before, after = there["options"], described["options"]
            changed = [
                f"{name} was {before.get(name)!r}, is {after.get(name)!r}"
                for name in sorted({*before, *after})
                if before.get(name) != after.get(name)
            ]
            if there["dataset"] != described["dataset"]:
                changed.append("the data set has been converted anew")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.run_file} is damaged ({error}); choose another output folder") from error
        if changed:
            raise DataError(
                f"{self.directory} holds a run with other options ({'; '.join(changed)}); give those again to resume "
                "it, or choose another output folder"
            )

    def restore(self, model: keras.Model) -> TrainingState:
        """Loads weights, optimiser and state from last.keras into a compiled model; a fresh state where there is none.

        Where last.keras is damaged it says so, and takes previous.keras: the steps between the two are done again.

        Raises:
            DataError: Both files are damaged, or they are of another model.
        """
        if not self.last.exists():
            return TrainingState()
        path, stored = self._stored()
        try:
            state = checkpoint.load(path, stored, model)
        except checkpoint.UNREADABLE as error:
            raise self._damaged(error) from error
        if path == self.previous and self.is_written:  # so that the next `save` does not keep the damaged one
            name_also(self.previous, self.last)
        if state.history and self.scores.get("step") != state.step:  # killed before it could write them
            self._write_texts(state)
        return state

    def save(
        self,
        model: keras.Model,
        state: TrainingState,
        deliver: Callable[[keras.Model], keras.Model] | None = None,
    ) -> None:
        """Writes last.keras; best.keras too where the newest row is the best; then log.csv and run.json.

        best.keras holds what `deliver` makes of the model, if given, and the averages of the weights, if the optimiser
        keeps such: then it is not to be resumed from.

        Raises:
            DataError: It could not be written: the disk is full, say. The checkpoints are as they were before.
        """
        try:
            self._save(model, state, deliver)
        except OSError as error:
            self._remove_partial()
            raise DataError(
                f"the checkpoint of step {state.step} could not be written into {self.directory} ({error}); those "
                "before it are still there: make room, and start again with the same options to resume"
            ) from error

    def _save(self, model, state, deliver):
        partial = self._written / "partial.keras"
        checkpoint.write(partial, model, state)
        if state.best is state.history[-1]:
            best = self._written / "partial_best.keras"
            if deliver is None and not has_averages(model):
                shutil.copyfile(partial, best)
            else:
                with averaged(model):
                    (model if deliver is None else deliver(model)).save(str(best))
            flush(best)
            os.replace(best, self._written / self.best.name)
        last = self._written / self.last.name
        if last.exists():
            name_also(last, self._written / self.previous.name)
        # The last file to change is the one that a resumed run believes.
        os.replace(partial, last)
        self._write_texts(state)

    def _remove_partial(self) -> None:
        """Removes what was being written when a process ended."""
        for pattern in ("partial*.keras", "*.partial", f"{self.pictures.name}/*.partial"):
            for path in self._written.glob(pattern):
                path.unlink()

    def _write_texts(self, state: TrainingState) -> None:
        self.write_log(state)
        best = state.best or {}
        scores = {"step": state.step, "best_mean_iou": best.get("val_mean_iou"), "best_step": best.get("step")}
        self._write_run(scores)

    def _stored(self) -> tuple[Path, dict]:
        """Returns the newest whole checkpoint and the state in it."""
        try:
            return self.last, checkpoint.read(self.last)
        except checkpoint.UNREADABLE as error:
            if not self.previous.exists():
                raise self._damaged(error) from error
            try:
                stored = checkpoint.read(self.previous)
            except checkpoint.UNREADABLE as second:
                raise self._damaged(f"{error}; {self.previous.name}: {second}") from second
            warnings.warn(
                f"{self.last} is damaged ({error}): resuming from {self.previous.name}, of step {stored['step']}",
                stacklevel=3,
            )
            return self.previous, stored

    def _damaged(self, error: object) -> DataError:
        try:
            checkpoint.read(self.best)
            remedy = f"put {self.best.name} in its place to go on from the best checkpoint, or delete the folder"
        except checkpoint.UNREADABLE:
            remedy = "delete the folder"
        return DataError(f"{self.last} cannot be resumed from ({error}); {remedy} to start anew")

    @property
    def scores(self) -> dict:
        """What run.json says of the training so far; empty before the first checkpoint."""
        if not self.run_file.exists():  # a worker that is here before the chief
            return {}
        return json.loads(self.run_file.read_text(encoding="utf-8"))["scores"]

    def note(self, **scores) -> None:
        """Adds to the scores in run.json, which the next `save` writes anew."""
        self._write_run({**self.scores, **scores})

    def state(self) -> TrainingState:
        """Returns the state of last.keras without its weights; a fresh one where there is none."""
        if not self.last.exists():
            return TrainingState()
        _, stored = self._stored()
        return TrainingState(stored["step"], stored["history"])

    def put_best(self, source: Path) -> None:
        """Makes a copy of a `.keras` file the folder's best.keras, in one step."""
        if not self.is_written:
            return
        copy = self.directory / "partial_best.keras"
        shutil.copyfile(source, copy)
        flush(copy)
        os.replace(copy, self.best)

    def write_log(self, state: TrainingState) -> None:
        """Writes log.csv: a row for each of the state's."""
        text = io.StringIO()
        # The newest row's columns in their order, then what only others have (of another stage, or version).
        columns = dict.fromkeys(key for row in reversed(state.history) for key in row)
        writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(state.history)
        write_text(self._written / self.log.name, text.getvalue())

    def _write_run(self, scores: dict) -> None:
        content = {**self._described, "versions": versions(), "scores": scores}
        write_text(self._written / self.run_file.name, json.dumps(content, indent=1) + "\n")
