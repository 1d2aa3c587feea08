"""Variables of a `.keras` file by the names of their layers, without making its model: whichever Keras wrote it."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py

from kerasseg.weights._transfer import numbered

_ORDERS = {"SeparableConv2D": ("kernel", "pointwise_kernel", "bias")}
"""Variables of layers that are neither a normalisation nor have a kernel and a bias."""


def archived(path: str | Path) -> tuple[h5py.File, dict[str, str]] | None:
    """Returns the file's weights, in memory, and {"layer/variable": dataset in them}.

    Keras 2, tf_keras and Keras 3 all file a layer's variables under its class and its number among those of this class,
    and list the layers with their names, in the same order, in the model's configuration. A class may be one that this
    process does not have. Variables that a layer keeps in layers of its own are not found.

    Returns:
        None where the file does not hold a model of layers in this form.
    Raises:
        OSError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile: It is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        if not {"config.json", "model.weights.h5"} <= set(archive.namelist()):
            return None
        config = json.loads(archive.read("config.json"))
        if not isinstance(config, dict) or "layers" not in config.get("config", {}):
            return None
        file = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    places = dict(_places(file, config["config"]["layers"], ""))
    return (file, places) if places else None


def _places(file: h5py.File, layers: list[dict], parent: str) -> Iterator[tuple[str, str]]:
    kinds = numbered([_filed(layer["class_name"]) for layer in layers])
    for layer, kind in zip(layers, kinds, strict=True):
        group = f"{parent}layers/{kind}"
        if "layers" in layer["config"]:
            yield from _places(file, layer["config"]["layers"], f"{group}/")
            continue
        order = sorted(file[f"{group}/vars"], key=int) if f"{group}/vars" in file else []
        for leaf, key in zip(_leaves(layer, len(order)), order, strict=True):
            yield f"{layer['config']['name']}/{leaf}", f"{group}/vars/{key}"


def _filed(class_name: str) -> str:
    """Returns how Keras files a class: AtrousConv2D as atrous_conv2d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", class_name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _leaves(layer: dict, count: int) -> list[str]:
    """Returns the names of a layer's variables, in the order in which Keras writes them."""
    name, config = layer["class_name"], layer["config"]
    if "Norm" in name:
        names = [leaf for leaf, has in (("gamma", "scale"), ("beta", "center")) if config.get(has, True)]
        names += ["moving_mean", "moving_variance"]
    else:
        names = _ORDERS.get(name, ("kernel", "bias"))
    return [names[i] if i < len(names) else str(i) for i in range(count)]
