"""TensorFlow 1 checkpoints: TF-Slim's classifiers, TensorFlow's DeepLab, the original DeepLab-v3 repository's."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.spec import DataError
from kerasseg.weights._names import rename
from kerasseg.weights._report import LoadReport
from kerasseg.weights._tf1_names import BACKBONES, DEEPLAB_HEAD, ORIGINAL_HEAD, UNITS
from kerasseg.weights._transfer import Source, flat_layers, transfer


def load_tf1(model: keras.Model, source: str | Mapping[str, np.ndarray], *, exclude: Sequence[str] = ()) -> LoadReport:
    """Loads a TensorFlow 1 checkpoint into a DeepLab of the same backbone and width.

    Takes checkpoints of TensorFlow's DeepLab (its model zoo), of the repository that `variant="original"` reproduces,
    and TF-Slim's classifiers (`resnet_v2_50.ckpt`), of which only the backbone is there: then the head is reported as
    kept. Nothing is changed unless everything that matches fits. For images of other than three channels the first
    kernel is fitted as `load_keras_application` does.

    Args:
        model: A DeepLab; `variant="original"` for that repository's weights.
        source: Path of a checkpoint (the prefix that its .index and .data files share, or the folder with the newest),
            or TF1 variable names to arrays.
        exclude: Layers that stay as they are, by the start of their names: ("logits",) to fine-tune to other classes.
    Returns:
        LoadReport: What was loaded, what stayed, and what was left over (optimiser slots, the classifier, ...).
    Raises:
        DataError: There is no such checkpoint, its backbone is another or of another depth, a shape differs (both
            shapes are named), or nothing matches.
    """
    opened = _open(source)
    net, table = _backbone(opened.shapes, model)
    head = ORIGINAL_HEAD if any(name.startswith("DeepLab_v3/") for name in opened.shapes) else DEEPLAB_HEAD

    def name_of(layer: str, variable: str) -> str | None:
        scope = rename((*table, *head), layer, net=net, norm="/BatchNorm" if layer.endswith("_norm") else "")
        if scope is None:
            return None
        kernel = "depthwise_weights" if f"{scope}/depthwise_weights" in opened.shapes else "weights"
        return f"{scope}/{ {'kernel': kernel, 'bias': 'biases'}.get(variable, variable) }"

    return transfer(
        model,
        opened,
        name_of,
        exclude=exclude,
        expected="a model of the same backbone, width and number of classes as the checkpoint",
        units=UNITS,
    )


def _open(source) -> Source:
    if isinstance(source, Mapping):
        arrays = {name.removesuffix(":0"): value for name, value in source.items()}  # as `variable.name` has it
        shapes = {name: np.shape(value) for name, value in arrays.items()}
        return Source("the source", shapes, lambda name: np.asarray(arrays[name]))
    try:
        reader = tf.train.load_checkpoint(str(source).removesuffix(".index"))
        return Source(str(source), reader.get_variable_to_shape_map(), reader.get_tensor)
    except (ValueError, tf.errors.OpError, RuntimeError) as error:
        raise DataError(
            f"{source} is not a TensorFlow checkpoint that can be read; expected the prefix of its .index and .data "
            f"files, such as model.ckpt: {error}"
        ) from error


def _backbone(names, model):
    """Returns the scope of the backbone that the source has, and the table of its names; ("", ()) where it has none."""
    scopes = {name.split("/")[0] for name in names}
    found = [(scope, kind) for scope in sorted(scopes) for kind in BACKBONES if re.fullmatch(kind.net, scope)]
    if not found:
        return "", ()
    if len(found) > 1:
        raise DataError(f"expected one backbone in the source, found {', '.join(scope for scope, _ in found)}")
    scope, kind = found[0]
    if kind.ours not in {layer.name for layer in flat_layers(model)}:
        raise DataError(
            f"the source has the backbone {scope}, model {model.name!r} another (it has no layer {kind.ours}); "
            "expected a model of the same backbone"
        )
    return scope, kind.table
