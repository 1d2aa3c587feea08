"""Classifiers of keras-applications into the backbones of our models."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tensorflow import keras

from kerasseg.spec import DataError
from kerasseg.weights._keras_source import open_keras
from kerasseg.weights._names import rename
from kerasseg.weights._report import LoadReport
from kerasseg.weights._transfer import Source, flat_layers, transfer


@dataclasses.dataclass(frozen=True)
class Family:
    """How keras-applications names a network.

    Attributes:
        theirs: A layer that only it has.
        ours: A layer that only our backbone of this kind has.
        table: Our layers to its.
        units: Pattern of a stage and a unit in its names.
    """

    theirs: str
    ours: str
    table: tuple[tuple[str, str], ...]
    units: str


def _resnet_block(block: int) -> tuple[tuple[str, str], ...]:
    ours, theirs = rf"block{block}_unit(\d+)", f"conv{block + 1}_block{{0}}"  # Keras counts the root as the first
    return (
        (rf"{ours}_preact_norm", f"{theirs}_preact_bn"),
        (rf"{ours}_shortcut", f"{theirs}_0_conv"),
        (rf"{ours}_conv(\d)", f"{theirs}_{{1}}_conv"),
        (rf"{ours}_conv(\d)_norm", f"{theirs}_{{1}}_bn"),
    )


FAMILIES = {
    "VGG16": Family(
        "block5_conv3",
        "conv2_1",
        ((r"conv(\d)_(\d)", "block{0}_conv{1}"), ("fc6", "fc1"), ("fc7", "fc2")),
        r"(block\d)_conv(\d)/",
    ),
    "ResNetV2": Family(
        "conv2_block1_preact_bn",
        "block1_unit1_preact_relu",
        (
            ("conv1", "conv1_conv"),
            ("postnorm_norm", "post_bn"),
            *(row for i in (1, 2, 3, 4) for row in _resnet_block(i)),
        ),
        r"(conv\d)_block(\d+)_",
    ),
    "MobileNetV2": Family(
        "block_1_expand",
        "unit0_depthwise_relu",
        (
            ("conv1", "Conv1"),
            ("conv1_norm", "bn_Conv1"),
            (r"unit0_(depthwise|project)", "expanded_conv_{0}"),
            (r"unit0_(depthwise|project)_norm", "expanded_conv_{0}_BN"),
            (r"unit(\d+)_(expand|depthwise|project)", "block_{0}_{1}"),
            (r"unit(\d+)_(expand|depthwise|project)_norm", "block_{0}_{1}_BN"),
        ),
        r"(block)_(\d+)_",
    ),
}


def load_keras_application(
    model: keras.Model, source: keras.Model | str | Path, *, exclude: Sequence[str] = ()
) -> LoadReport:
    """Loads a classifier of `keras.applications` into the backbone of a model.

    VGG16, with or without its dense layers, goes into FCN, DeconvNet and SegNet; its dense layers `fc1` (25088, 4096)
    and `fc2` become the convolutions fc6 (7, 7, 512, 4096) and fc7. ResNet50V2, ResNet101V2 and ResNet152V2 go into the
    resnet_v2 backbones, MobileNetV2 into mobilenet_v2. The rest of the model stays as it was. Nothing is changed unless
    everything that matches fits.

    Images of other than three channels: the first kernel's slices for red, green and blue (or blue, green and red)
    stay where they are, and each further channel gets their mean, as in FCN's early fusion of colour and depth. With
    fewer than three, every slice is their sum divided by C: a grey image gives what the classifier gives for its RGB
    copy.

    Args:
        model: Of ours, of the classifier's width.
        source: The classifier; or a file of it: `.keras`, `.h5` (model or weights, as keras-applications publishes
            them), Keras 3's `.weights.h5`.
        exclude: Layers that stay as they are, by the start of their names.
    Returns:
        LoadReport: What was loaded, what stayed, and what was left over (the classifier's last layer, ...).
    Raises:
        DataError: There is no such file, it is damaged or of none of these networks, a shape differs (both shapes are
            named), the depth differs, or nothing matches.
    Differs: The features are those of the classifier except for two things in ResNetV2. Its normalisation adds 1.001e-5
        to the variance, ours 1e-5. Before its first pooling it pads with zeros, ours with nothing ("same" in
        TensorFlow), which differs at the edge where all of a window is negative; and where a side of the image modulo 4
        is 0 or 3, its windows begin one pixel earlier. Keras' ResNet50 (the first version) is refused: its strides sit
        in other convolutions than those of our resnet_v1.
    """
    opened = open_keras(source)
    family = application(opened)
    if family is None:
        raise DataError(
            f"{opened.described} is none of {', '.join(FAMILIES)} of keras.applications; "
            f"it has {', '.join(sorted(opened.shapes)[:3])}"
        )
    known = FAMILIES[family]
    if known.ours not in {layer.name for layer in flat_layers(model)}:
        raise DataError(
            f"{opened.described} is a {family}, but model {model.name!r} has no backbone of that kind "
            f"(no layer {known.ours})"
        )

    def name_of(layer: str, variable: str) -> str | None:
        theirs = rename(known.table, layer)
        return theirs and f"{theirs}/{variable}"

    return transfer(
        model,
        opened,
        name_of,
        exclude=exclude,
        expected=f"a model with a full-width {family} backbone",
        units=known.units,
    )


def application(source: Source) -> str | None:
    """Returns the key of `FAMILIES` that the source is; None for anything else."""
    layers = {name.split("/")[0] for name in source.shapes}
    return next((name for name, family in FAMILIES.items() if family.theirs in layers), None)
