"""The backbones' structure, read from the graph that TensorFlow runs, and their values against other builders."""

import functools
import re

import numpy as np
import pytest
from tensorflow import keras

from kerasseg import inspection
from kerasseg.backbones import BACKBONES, normalization, resnet_v1
from kerasseg.models import deeplab_v3

WIDTH = {"resnet": 1 / 32, "mobilenet": 1 / 16, "xception": 1 / 8}
SIDES = {32: 17, 16: 33, 8: 65, 4: 129}


def connect(name, size=None, width=None, **options):
    """Returns a model from the normalised image to the backbone's features, all of them."""
    image = keras.Input((size, size, 3))
    width = width or WIDTH[name.split("_")[0]]
    return keras.Model(image, BACKBONES[name](image, name, width=width, **options))


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


@functools.cache
def connected(name, output_stride):
    """Returns a model that is shared: nothing may change it. Its weights are drawn from the same seed at any stride."""
    keras.utils.set_random_seed(0)
    grid = {"multi_grid": (1, 2, 4)} if name == "xception_71" else {}
    return connect(name, output_stride=output_stride, norm=identity, **grid)


def count(model):
    """Returns the number of learned and of all parameters."""
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights), model.count_params()


def convolutions(model, size=65):
    """Returns {layer name: (rate, stride)} of the convolutions of the traced graph."""
    return {each.layer: (each.dilations[0], each.strides[0]) for each in inspection.convolutions(model, size)}


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *(("resnet_v1_50", stride) for stride in (8, 16, 32)),
        *(("resnet_v1_50_beta", stride) for stride in (8, 16)),
        pytest.param("resnet_v1_50_beta", 32, marks=pytest.mark.slow),
    ],
)
def test_resnet_v1_strides_and_rates(name, output_stride):
    """The stride in the 3x3 convolution of the last unit, and in the shortcut of that unit."""
    found = convolutions(connected(name, output_stride))
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
    beta = connected("resnet_v1_50_beta", 16)
    shapes = [tuple(beta.get_layer(f"conv1_{i}").kernel.shape) for i in (1, 2, 3)]
    assert shapes == [(3, 3, 3, 2), (3, 3, 2, 2), (3, 3, 2, 4)]
    assert connected("resnet_v1_50", 16).get_layer("conv1").kernel.shape == (7, 7, 3, 2)


def test_parameter_counts(zero_weights):
    """Of DeepLab-v3 with 21 classes: learned, and all."""
    counts = {
        "resnet_v1_50": (39_048_533, 39_104_725),
        "resnet_v1_101_beta": (58_164_437, 58_273_237),
    }
    with zero_weights():
        for name, expected in counts.items():
            assert count(deeplab_v3(21, backbone=name)) == expected, name

        # Keras' MobileNetV2 without its classifier goes on to 1280 channels.
        assert count(connect("mobilenet_v2", width=1.0))[1] == 2_257_984 - (320 * 1280 + 4 * 1280)


@pytest.mark.parametrize(
    ("output_stride", "strided", "rates"),
    [
        (32, (1, 3, 6, 13), {}),
        (16, (1, 3, 6), {13: 1, 14: 2, 15: 2, 16: 2}),
        (8, (1, 3), {6: 1, **dict.fromkeys(range(7, 14), 2), 14: 4, 15: 4, 16: 4}),
    ],
)
def test_mobilenet_v2_strides_and_rates(output_stride, strided, rates):
    found = convolutions(connected("mobilenet_v2", output_stride))
    assert len(found) == 1 + 2 + 16 * 3
    for layer, (rate, stride) in found.items():
        unit = int(re.match(r"unit(\d+)_depthwise$", layer)[1]) if layer.endswith("depthwise") else None
        assert rate == rates.get(unit, 1), layer
        assert stride == (2 if layer == "conv1" or unit in strided else 1), layer


@pytest.mark.parametrize(
    ("output_stride", "strided", "rates"),
    [
        (32, ("entry_block1", "entry_block2", "entry_block3", "exit_block1"), {}),
        (16, ("entry_block1", "entry_block2", "entry_block3"), {"exit_block2": 2}),
        (8, ("entry_block1", "entry_block2"), {"middle_block1": 2, "exit_block1": 2, "exit_block2": 4}),
    ],
)
def test_xception_strides_and_rates(output_stride, strided, rates):
    """The stride in the third separable convolution of a block, and in its shortcut."""
    found = convolutions(connected("xception_41", output_stride))
    assert len(found) == 2 + 6 * (3 + 8 + 2) + 4  # root, three separable convolutions in a unit, shortcuts
    for layer, (rate, stride) in found.items():
        block = "_".join(layer.split("_")[:2])
        assert rate == (rates.get(block, 1) if layer.endswith("depthwise") else 1), layer
        last = layer.endswith(("conv3_depthwise", "shortcut"))
        assert stride == (2 if layer == "entry_conv1_1" or (last and block in strided) else 1), layer


def test_xception_71_has_two_more_entry_blocks():
    found = convolutions(connected("xception_71", 16))
    strided = [f"entry_block{i}" for i in range(1, 6) if found[f"entry_block{i}_unit1_shortcut"][1] == 2]
    assert strided == ["entry_block1", "entry_block3", "entry_block5"]
    assert [found[f"exit_block2_unit1_conv{i}_depthwise"][0] for i in (1, 2, 3)] == [2, 4, 8]


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *((name, stride) for name in ("resnet_v1_50", "mobilenet_v2", "xception_41") for stride in (8, 16)),
        ("resnet_v2_50", 8),
        ("xception_71", 16),
        pytest.param("resnet_v2_50", 16, marks=pytest.mark.slow),
        pytest.param("xception_71", 8, marks=pytest.mark.slow),
    ],
)
def test_feature_sizes_at_513(name, output_stride):
    shapes = connected(name, output_stride).compute_output_shape((1, 513, 513, 3))
    side = SIDES[output_stride]
    assert shapes["features"][1:3] == (side, side)
    assert shapes["low_level"][1:3] == (129, 129)


@pytest.mark.parametrize("name", ["resnet_v1_50", "resnet_v1_50_beta", "mobilenet_v2", "xception_41"])
def test_features_at_stride_16_are_those_of_stride_8_at_every_other_place(name):
    """Where the rates have taken the place of strides; with one set of weights, on odd sides."""
    coarse, fine = (connected(name, stride) for stride in (16, 8))
    for one, two in zip(coarse.get_weights(), fine.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    image = np.random.default_rng(0).standard_normal((1, 97, 65, 3)).astype(np.float32)
    one, two = (model(image, training=False) for model in (coarse, fine))
    one, two = one["features"], two["features"][:, ::2, ::2]
    np.testing.assert_allclose(one, two, atol=1e-5 * np.abs(one).max())


def test_resnet_v1_against_keras_up_to_its_first_stride(zero_weights):
    """Keras has the strides in the first units, so the two agree on the root and the units before block 1's last."""
    with zero_weights():
        theirs = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(65, 65, 3))
    rng = np.random.default_rng(0)
    image = keras.Input((65, 65, 3))
    with zero_weights():
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


@pytest.mark.parametrize(("alpha", "size"), [(1.0, 97), (0.5, 64)])
def test_mobilenet_v2_against_keras(alpha, size):
    """With Keras' weights, at stride 32; on even sides too, which both pad at the bottom and right."""
    theirs = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(size, size, 3), alpha=alpha)
    ours = connect("mobilenet_v2", size, width=alpha, output_stride=32, divisible_by=8)
    rng = np.random.default_rng(0)
    for layer in (layer for layer in ours.layers if layer.weights):
        layer.set_weights([w * rng.uniform(0.9, 1.1, w.shape) for w in layer.get_weights()])
        base, norm = re.fullmatch(r"(.+?)(_norm)?", layer.name).groups()
        their_name = re.sub(r"unit(\d+)", r"block_\1", base).replace("block_0", "expanded_conv")
        if base == "conv1":
            their_name = "bn_Conv1" if norm else "Conv1"
        else:
            their_name += "_BN" if norm else ""
        theirs.get_layer(their_name).set_weights(layer.get_weights())
    taps = [theirs.get_layer(name).output for name in ("block_16_project_BN", "block_2_depthwise_relu")]
    image = rng.standard_normal((1, size, size, 3)).astype(np.float32)
    features, low_level = keras.Model(theirs.input, taps)(image, training=False)
    result = ours(image, training=False)
    np.testing.assert_allclose(result["features"], features, rtol=1e-3, atol=1e-5 * np.abs(features).max())
    np.testing.assert_allclose(result["low_level"], low_level, rtol=1e-3, atol=1e-5 * np.abs(low_level).max())


def test_mobilenet_v2_channels():
    """Rounded to a multiple of 8 where asked for, by at most a tenth downwards; whole numbers in DeepLab's release."""
    channels = {
        divisor: [model.get_layer(name).kernel.shape[-1] for name in ("conv1", "unit1_project", "unit16_project")]
        for divisor in (None, 8)
        for model in [connect("mobilenet_v2", width=0.35, divisible_by=divisor, norm=identity)]
    }
    assert channels == {None: [11, 8, 112], 8: [16, 8, 112]}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenet_v2", {"multi_grid": (1, 2, 4)}, "mobilenet_v2 has no multi-grid"),
        ("xception_41", {"multi_grid": (1, 2)}, "multi_grid must have 3 entries, one per convolution"),
        ("xception_41", {"output_stride": 12}, "output_stride must be one of 2, 4, 8, 16, 32, got 12"),
        ("xception_41", {"width": 1 / 16}, "width must make 728 . width a whole number"),
        ("resnet_v1_50", {"blocks": 3}, "blocks must be at least 4, got 3"),
    ],
)
def test_an_illegal_option_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        connect(name, **options)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_normalization(channels):
    image = np.full((1, 1, 1, channels), 200, np.float32)
    np.testing.assert_allclose(normalization("resnet_v1_50_beta", channels)(image), image / 127.5 - 1, rtol=1e-6)
    mean = {1: [114.036667], 3: [123.15, 115.90, 103.06], 5: [123.15, 115.90, 103.06, 114.036667, 114.036667]}[channels]
    np.testing.assert_allclose(
        normalization("resnet_v1_101", channels)(image)[0, 0, 0], 200 - np.array(mean), rtol=1e-6
    )
