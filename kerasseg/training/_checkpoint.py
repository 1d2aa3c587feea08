"""A checkpoint: a `.keras` file with one more member, the `TrainingState`."""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path

from tensorflow import keras

from kerasseg.training._files import flush
from kerasseg.training._state import TrainingState

_STATE_FILE = "training.json"
UNREADABLE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, TypeError, OSError)
"""What reading a damaged checkpoint, or one of another model, raises."""


def write(path: Path, model: keras.Model, state: TrainingState) -> None:
    """Writes a checkpoint, to the disk itself."""
    model.save(str(path))
    with zipfile.ZipFile(path, "a") as archive:
        seeds = [variable.numpy().tolist() for variable in _seed_states(model)]
        archive.writestr(_STATE_FILE, json.dumps({**dataclasses.asdict(state), "seed_states": seeds}))
    flush(path)


def load(path: Path, stored: dict, model: keras.Model) -> TrainingState:
    """Loads weights, optimiser and the state of dropout into a compiled model; `stored` is what `read` returned."""
    # Only an optimiser that has its variables takes them from the file.
    model.optimizer.build(model.trainable_variables)
    model.load_weights(str(path))
    for variable, value in zip(_seed_states(model), stored["seed_states"], strict=True):
        variable.assign(value)
    return TrainingState(stored["step"], stored["history"])


def read(path: Path) -> dict:
    """Returns the state in a checkpoint, after all of the file has proved whole."""
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"checksum of {broken}")
        return json.loads(archive.read(_STATE_FILE))


def _seed_states(model: keras.Model) -> list:
    """Returns the variables that dropout draws from, which Keras does not save. (Keras 2 keeps them out of sight.)"""
    return [variable for variable in model.variables if "seed_generator_state" in variable.name]
