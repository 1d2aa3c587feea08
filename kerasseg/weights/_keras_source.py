"""Reads weights that Keras holds or wrote: models, .keras files, and HDF5 files of three layouts."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
from tensorflow import keras

from kerasseg.spec import DataError
from kerasseg.weights._keras_archive import archived
from kerasseg.weights._transfer import Source, flat_layers, leaf_name, numbered, variables

LEAVES = {
    1: ("kernel",),
    2: ("kernel", "bias"),
    3: ("beta", "moving_mean", "moving_variance"),
    4: ("gamma", "beta", "moving_mean", "moving_variance"),
}
"""By their number: a layer's variables, in the order in which Keras has always written them."""
NAMED = {name for names in LEAVES.values() for name in names}


def open_keras(source: keras.Model | str | Path | Source) -> Source:
    """Returns the variables "layer/variable" of a model or of a file that Keras wrote (as they are, if opened already).

    Takes a `.keras` file (also another Keras's), a model's `.h5`, and weights alone: the `.h5` that keras-applications
    publishes, and Keras 3's `.weights.h5`. What it is, is read from the file, not from its name.

    Raises:
        DataError: There is no such file, or it is none of these, or it is damaged.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, keras.Model):
        return _of_model(source, f"model {source.name!r}")
    if not Path(source).is_file():
        raise DataError(f"{source} does not exist; expected a .keras or .h5 file")
    if zipfile.is_zipfile(source):
        return _of_archive(source)
    try:
        with h5py.File(source) as file:
            places = _legacy_places(file) if _attribute(_root(file), "layer_names") else _vars_places(file)
            shapes = {name: file[place].shape for name, place in places.items()}
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{source} cannot be read as a .keras or HDF5 file of Keras ({error}); it may be damaged or incomplete: "
            "compare its size with the original's, or fetch it again"
        ) from error
    if not shapes:
        raise DataError(
            f"{source} names no layers with weights; expected a .keras file, a model's .h5, or weights that keep the "
            "names of their layers. Load the file into the model that wrote it, and give that model"
        )

    def read(name):
        with h5py.File(source) as file:
            return np.asarray(file[places[name]])

    return Source(str(source), shapes, read)


def _of_archive(path) -> Source:
    try:
        return _of_model(keras.models.load_model(str(path), compile=False), str(path))
    except (ValueError, TypeError, OSError, KeyError, ImportError, zipfile.BadZipFile) as error:
        # Another Keras may have written it, whose classes are not here.
        try:
            found = archived(path)
        except (ValueError, OSError, KeyError, RuntimeError, zipfile.BadZipFile):
            found = None
        if not found:
            raise DataError(f"{path} cannot be read as a model ({error}); expected a .keras file") from error
        file, places = found
    shapes = {name: file[place].shape for name, place in places.items()}
    return Source(str(path), shapes, lambda name: np.asarray(file[places[name]]))


def _of_model(model, described) -> Source:
    found = {f"{layer.name}/{leaf}": variable for layer in flat_layers(model) for leaf, variable in variables(layer)}
    return Source(described, {name: tuple(x.shape) for name, x in found.items()}, lambda name: found[name].numpy())


def _legacy_places(file) -> dict[str, str]:
    """Returns {"layer/variable": dataset} of the layout of Keras 1 and 2: a group and `weight_names` per layer."""
    root, places = _root(file), {}
    for layer in _attribute(root, "layer_names"):
        by_owner = {}
        for path in _attribute(root[layer], "weight_names"):
            by_owner.setdefault("/".join(path.split("/")[:-1]), []).append(path)
        for owner, paths in by_owner.items():
            # The group of a model within the model has the variables of several layers.
            name = owner.split("/")[-1] if len(by_owner) > 1 else layer
            for leaf, path in zip(_leaves(paths), paths, strict=True):
                places[f"{name}/{leaf}"] = f"{root.name}/{layer}/{path}"
    return places


def _vars_places(file) -> dict[str, str]:
    """Returns {"layer/variable": dataset} of Keras 3's layout: groups `vars` that know their layer's name."""
    places = {}

    def visit(path, item):
        if path.split("/")[-1] == "vars" and "name" in item.attrs:
            order = sorted(item, key=int)
            for leaf, key in zip(_leaves(order), order, strict=True):
                places[f"{item.attrs['name']}/{leaf}"] = f"{path}/{key}"

    file.visititems(visit)
    return places


def _root(file):
    return file.get("model_weights", file)


def _attribute(group, name: str) -> list[str]:
    """Returns a list of names, which Keras splits into name0, name1, ... where it is long."""
    keys = [name] if name in group.attrs else sorted(key for key in group.attrs if key.removeprefix(name).isdigit())
    found = [text for key in keys for text in group.attrs[key]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in found]


def _leaves(names) -> list[str]:
    """Returns the variables' names: theirs, or by their place where they have none of Keras's (block1_conv1_W_1:0)."""
    leaves = [leaf_name(name) for name in names]
    if not set(leaves) & NAMED:
        leaves = LEAVES.get(len(leaves), leaves)
    return numbered(leaves)
