"""Weights of whatever kind a source turns out to be."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from tensorflow import keras

from kerasseg.weights._by_name import load_by_name
from kerasseg.weights._keras_application import application, load_keras_application
from kerasseg.weights._keras_source import open_keras
from kerasseg.weights._report import LoadReport
from kerasseg.weights._tf1 import load_tf1

SUFFIXES = (".keras", ".h5", ".hdf5")


def load(
    model: keras.Model, source: keras.Model | str | Path | Mapping[str, np.ndarray], *, exclude: Sequence[str] = ()
) -> LoadReport:
    """Loads weights with the function that fits the source: by what is in it, not by its name.

    A classifier of keras-applications goes the way of `load_keras_application`, any other model or file of Keras that
    of `load_by_name`, the rest (a checkpoint, or a mapping) that of `load_tf1`.

    Args:
        model: Whose weights are loaded.
        source: What one of the three takes.
        exclude: Layers that stay as they are, by the start of their names.
    Returns:
        LoadReport: What was loaded, what stayed, and what was left over.
    Raises:
        DataError: As the three do.
    """
    if not _of_keras(source):
        return load_tf1(model, source, exclude=exclude)
    opened = open_keras(source)
    how = load_keras_application if application(opened) else load_by_name
    return how(model, opened, exclude=exclude)


def _of_keras(source) -> bool:
    if isinstance(source, (keras.Model, Mapping)):
        return isinstance(source, keras.Model)
    path = Path(source)
    return path.suffix in SUFFIXES or (path.is_file() and (zipfile.is_zipfile(path) or h5py.is_hdf5(path)))
