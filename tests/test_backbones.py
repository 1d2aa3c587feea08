"""The backbones' structure, read from the graph that TensorFlow runs, and their values against other builders."""

import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.backbones import BACKBONES, normalization, resnet_v1
from kerasseg.models import deeplab_v3

WIDTH = {"resnet": 1 / 32}
SIDES = {32: 17, 16: 33, 8: 65, 4: 129}


def connect(name, size=None, width=None, **options):
    """Returns a model from the normalised image to the backbone's features, all of them."""
    image = keras.Input((size, size, 3))
    width = width or WIDTH[name.split("_")[0]]
    return keras.Model(image, BACKBONES[name](image, name, width=width, **options))


def count(model):
    """Returns the number of learned and of all parameters."""
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights), model.count_params()


def convolutions(model, size=65):
    """Returns {layer name: (rate, stride)} of the convolutions of the traced graph, depthwise ones included."""
    function = tf.function(lambda image: model(image, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((1, size, size, 3))).graph
    layers, found = {layer.name for layer in model.layers}, {}
    for operation in graph.get_operations():
        layer = operation.name.split("/")[-2] if "/" in operation.name else ""
        layer = layer if layer in layers else re.sub(r"_\d+$", "", layer)
        if operation.type == "SpaceToBatchND":  # a depthwise convolution of a rate above 1: its images, spread
            found[layer] = (int(tf.get_static_value(operation.inputs[1])[0]), 1)
        elif operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            rate, stride = operation.get_attr("dilations")[1], operation.get_attr("strides")[1]
            found.setdefault(layer, (rate, stride))
    return found


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v1_50_beta"])
def test_resnet_v1_strides_and_rates(name, output_stride):
    """The stride in the 3x3 convolution of the last unit, and in the shortcut of that unit."""
    found = convolutions(connect(name, output_stride=output_stride))
    rates = {32: (1, 1, (1, 2, 4)), 16: (1, 1, (2, 4, 8)), 8: (1, 2, (4, 8, 16))}[output_stride]
    strided = ["block1_unit3", "block2_unit4", "block3_unit6"][: {8: 1, 16: 2, 32: 3}[output_stride]]
    assert len(found) == (3 if "beta" in name else 1) + 3 * 16 + 4
    for layer, (rate, stride) in found.items():
        expected = 1
        if match := re.fullmatch(r"block(\d)_unit(\d)_conv2", layer):
            block, unit = int(match[1]), int(match[2])
            expected = rates[2][unit - 1] if block == 4 else (1, *rates)[block - 1]
        assert rate == expected, layer
        assert stride == (2 if layer in ("conv1", "conv1_1", *(f"{unit}_conv2" for unit in strided)) else 1), layer


def test_resnet_v1_root():
    beta = connect("resnet_v1_50_beta", width=1 / 16)
    shapes = [tuple(beta.get_layer(f"conv1_{i}").kernel.shape) for i in (1, 2, 3)]
    assert shapes == [(3, 3, 3, 4), (3, 3, 4, 4), (3, 3, 4, 8)]
    assert connect("resnet_v1_50", width=1 / 16).get_layer("conv1").kernel.shape == (7, 7, 3, 4)


def test_parameter_counts():
    """Of DeepLab-v3 with 21 classes: learned, and all."""
    counts = {
        "resnet_v1_50": (39_048_533, 39_104_725),
        "resnet_v1_101_beta": (58_164_437, 58_273_237),
    }
    for name, expected in counts.items():
        assert count(deeplab_v3(21, backbone=name)) == expected, name
        keras.backend.clear_session()


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_feature_sizes_at_513(name, output_stride):
    shapes = connect(name, output_stride=output_stride).compute_output_shape((1, 513, 513, 3))
    side = SIDES[output_stride]
    assert shapes["features"][1:3] == (side, side)
    assert shapes["low_level"][1:3] == (129, 129)


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v1_50_beta"])
def test_features_at_stride_16_are_those_of_stride_8_at_every_other_place(name):
    """Where the rates have taken the place of strides; with one set of weights. Up to block 3's end, on odd sides."""
    coarse, fine = (connect(name, output_stride=stride) for stride in (16, 8))
    keep = coarse.get_weights()
    fine.set_weights(keep)
    image = np.random.default_rng(0).standard_normal((1, 97, 65, 3)).astype(np.float32)
    one, two = (model(image, training=False) for model in (coarse, fine))
    np.testing.assert_allclose(one["features"], two["features"][:, ::2, ::2], atol=1e-4)


def test_resnet_v1_against_keras_up_to_its_first_stride():
    """Keras has the strides in the first units, so the two agree on the root and the units before block 1's last."""
    theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(65, 65, 3))
    rng = np.random.default_rng(0)
    image = keras.Input((65, 65, 3))
    features = resnet_v1(image, "resnet_v1_50", epsilon=1.001e-5)
    ours = keras.Model(image, {name: features[name] for name in ("block1", "low_level")})
    pairs = {"conv1": "conv1_conv", "conv1_norm": "conv1_bn"}
    for unit in (1, 2):
        for part, number in (("shortcut", 0), ("conv1", 1), ("conv2", 2), ("conv3", 3)):
            if part != "shortcut" or unit == 1:
                pairs[f"block1_unit{unit}_{part}"] = f"conv2_block{unit}_{number}_conv"
                pairs[f"block1_unit{unit}_{part}_norm"] = f"conv2_block{unit}_{number}_bn"
    for name, their_name in pairs.items():
        values = [
            rng.uniform(0.5, 1.5, w.shape) * (0.1 if w.ndim == 4 else 1) for w in ours.get_layer(name).get_weights()
        ]
        ours.get_layer(name).set_weights(values)
        biases = [np.zeros(values[0].shape[-1])] if len(values) == 1 else []  # our convolutions have none
        theirs.get_layer(their_name).set_weights(values + biases)
    tapped = keras.Model(theirs.input, [theirs.get_layer(f"conv2_block2_{tap}").output for tap in ("3_bn", "out")])
    x = rng.standard_normal((2, 65, 65, 3)).astype(np.float32)
    low_level, total = tapped(x, training=False)
    np.testing.assert_allclose(ours(x, training=False)["low_level"], low_level, rtol=1e-4)
    block1 = keras.Model(ours.input, ours.get_layer("block1_unit2_relu").output)
    np.testing.assert_allclose(block1(x, training=False), total, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_normalization(channels):
    image = np.full((1, 1, 1, channels), 200, np.float32)
    np.testing.assert_allclose(normalization("resnet_v1_50_beta", channels)(image), image / 127.5 - 1, rtol=1e-6)
    mean = {1: [114.036667], 3: [123.15, 115.90, 103.06], 5: [123.15, 115.90, 103.06, 0, 0]}[channels]
    np.testing.assert_allclose(
        normalization("resnet_v1_101", channels)(image)[0, 0, 0], 200 - np.array(mean), rtol=1e-6
    )
