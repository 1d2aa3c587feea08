"""TensorFlow 1 checkpoints: the original DeepLab-v3 repository's, and TF-Slim's ResNet-v2 classifiers."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.spec import DataError
from kerasseg.weights._report import LoadReport

# Our layer name -> TF1 scope. `{net}` is the scope that the checkpoint's backbone has, resnet_v2_50 for one.
SCOPES = (
    (r"conv1", "{net}/conv1"),
    (r"block(\d)_unit(\d+)_preact_norm", r"{net}/block\1/unit_\2/bottleneck_v2/preact"),
    (r"block(\d)_unit(\d+)_(shortcut|conv[123])", r"{net}/block\1/unit_\2/bottleneck_v2/\3"),
    (r"block(\d)_unit(\d+)_(conv[12])_norm", r"{net}/block\1/unit_\2/bottleneck_v2/\3/BatchNorm"),
    (r"postnorm_norm", "{net}/postnorm"),
    (r"aspp_pool_(conv|norm)", r"DeepLab_v3/ASPP_layer/image_level_conv_1x1/\1"),
    (r"aspp_branch0_(conv|norm)", r"DeepLab_v3/ASPP_layer/conv_1x1_0/\1"),
    (r"aspp_branch(\d)_(conv|norm)", r"DeepLab_v3/ASPP_layer/conv_3x3_\1/\2"),
    (r"aspp_projection_(conv|norm)", r"DeepLab_v3/ASPP_layer/conv_1x1_output/\1"),
    (r"logits_conv", "DeepLab_v3/logits"),
)
# In the head a convolution has its scope to itself, and its normalisation a scope within.
HEAD_PARTS = {"/conv": "", "/norm": "/BatchNorm"}
LEAVES = {"kernel": "weights", "bias": "biases"}


def load_tf1(model: keras.Model, source: str | Mapping[str, np.ndarray], *, exclude: Sequence[str] = ()) -> LoadReport:
    """Loads a TensorFlow 1 checkpoint into a DeepLab-v3 of the same backbone and width.

    Takes whole checkpoints of the original repository, and TF-Slim's `resnet_v2_*.ckpt`, of which only the backbone is
    there: then the head is reported as kept. Nothing is changed unless everything that matches fits.

    Args:
        model: From `kerasseg.models.deeplab_v3`; `variant="original"` for the original's weights.
        source: Path of a checkpoint (the prefix that its .index and .data files share, or the folder with the newest),
            or TF1 variable names to arrays.
        exclude: Layers that stay as they are, by the start of their names: ("logits",) to fine-tune to other classes.
    Returns:
        LoadReport: What was loaded, what stayed, and what was left over (optimiser slots, the classifier, ...).
    Raises:
        DataError: There is no such checkpoint, a shape differs (both shapes are named), or nothing matches.
    """
    shapes, read = _open(source)
    net = _backbone_scope(shapes)
    loaded, kept, values = {}, [], []
    for layer in model.layers:
        scope = None if layer.name.startswith(tuple(exclude)) else _scope(layer.name, net)
        for variable in layer.weights:
            leaf = variable.name.split("/")[-1].split(":")[0]
            ours, theirs = f"{layer.name}/{leaf}", f"{scope}/{LEAVES.get(leaf, leaf)}"
            if scope is None or theirs not in shapes:
                kept.append(ours)
                continue
            if tuple(variable.shape) != tuple(shapes[theirs]):
                raise DataError(
                    f"{ours} has shape {tuple(variable.shape)}, but {theirs} in the source has "
                    f"{tuple(shapes[theirs])}; expected a model of the same backbone, width and number of classes, or "
                    "exclude=() naming the layer"
                )
            loaded[ours] = theirs
            values.append((variable, read(theirs)))
    if not loaded:
        raise DataError(
            f"no variable of the source belongs to model {model.name!r}; expected names such as "
            f"resnet_v2_50/conv1/weights, got {', '.join(sorted(shapes)[:3])}"
        )
    for variable, value in values:
        variable.assign(value)
    leftover = sorted(set(shapes) - set(loaded.values()))
    return LoadReport(loaded, tuple(kept), tuple(leftover))


def _open(source):
    """Returns the shapes by name, and a function that reads one array."""
    if isinstance(source, Mapping):
        arrays = {name.removesuffix(":0"): value for name, value in source.items()}  # as `variable.name` has it
        return {name: np.shape(value) for name, value in arrays.items()}, lambda name: np.asarray(arrays[name])
    try:
        reader = tf.train.load_checkpoint(str(source).removesuffix(".index"))
        return reader.get_variable_to_shape_map(), reader.get_tensor
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        raise DataError(
            f"{source} is not a TensorFlow checkpoint that can be read; expected the prefix of its .index and .data "
            f"files, such as model.ckpt: {error}"
        ) from error


def _backbone_scope(names) -> str:
    """Returns the scope of the backbone that the source has; any name will do where it has none."""
    found = sorted({match[0] for name in names if (match := re.match(r"resnet_v2_\d+(?=/)", name))})
    if len(found) > 1:
        raise DataError(f"expected one backbone in the source, found {', '.join(found)}")
    return found[0] if found else "resnet_v2"


def _scope(layer_name: str, net: str) -> str | None:
    for pattern, scope in SCOPES:
        match = re.fullmatch(pattern, layer_name)
        if match:
            scope = match.expand(scope).replace("{net}", net)
            for part, place in HEAD_PARTS.items():
                if scope.startswith("DeepLab_v3/ASPP") and scope.endswith(part):
                    return scope.removesuffix(part) + place
            return scope
    return None
