"""Checkpoints of TensorFlow's DeepLab, made here under the names that its release gives them."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.models import deeplab_v3, deeplab_v3_plus
from kerasseg.weights import load_tf1

WIDTH = 1 / 32
HEAD = {
    "aspp_pool": "image_pooling",
    "aspp_branch0": "aspp0",
    "aspp_branch1": "aspp1",
    "aspp_branch2": "aspp2",
    "aspp_branch3": "aspp3",
    "aspp_projection": "concat_projection",
}


def resnet_v1(name, units, beta):
    """Yields (our convolution, its scope), block by block."""
    for i in (1, 2, 3) if beta else ("",):
        yield (f"conv1_{i}", f"{name}/conv1_{i}") if beta else ("conv1", f"{name}/conv1")
    for block, number in enumerate(units, start=1):
        for unit in range(1, number + 1):
            for part in ("conv1", "conv2", "conv3", "shortcut") if unit == 1 else ("conv1", "conv2", "conv3"):
                yield f"block{block}_unit{unit}_{part}", f"{name}/block{block}/unit_{unit}/bottleneck_v1/{part}"


def xception_65():
    yield from ((f"entry_conv1_{i}", f"xception_65/entry_flow/conv1_{i}") for i in (1, 2))
    for flow, blocks in (("entry", (1, 1, 1)), ("middle", (16,)), ("exit", (1, 1))):
        for block, number in enumerate(blocks, start=1):
            for unit in range(1, number + 1):
                ours = f"{flow}_block{block}_unit{unit}"
                theirs = f"xception_65/{flow}_flow/block{block}/unit_{unit}/xception_module"
                for i in (1, 2, 3):
                    for part in ("depthwise", "pointwise"):
                        yield f"{ours}_conv{i}_{part}", f"{theirs}/separable_conv{i}_{part}"
                if flow == "entry" or (flow, block) == ("exit", 1):
                    yield f"{ours}_shortcut", f"{theirs}/shortcut"


def mobilenet_v2():
    yield "conv1", "MobilenetV2/Conv"
    for unit in range(17):
        for part in ("expand", "depthwise", "project") if unit else ("depthwise", "project"):
            yield f"unit{unit}_{part}", f"MobilenetV2/expanded_conv{f'_{unit}' if unit else ''}/{part}"


SEPARABLE = {
    f"{ours}_{part}": f"{theirs}_{part}"
    for ours, theirs in (
        *((f"aspp_branch{i}", f"aspp{i}") for i in (1, 2, 3)),
        *((f"decoder_conv{i}", f"decoder/decoder_conv{i}") for i in (0, 1)),
    )
    for part in ("depthwise", "pointwise")
}
PLAIN = {f"decoder_conv{i}": f"decoder/decoder_conv0/decoder_conv0_{i + 1}" for i in (0, 1)}
NETWORKS = {
    "resnet_v1_50": resnet_v1("resnet_v1_50", (3, 4, 6, 3), beta=False),
    "resnet_v1_50_beta": resnet_v1("resnet_v1_50", (3, 4, 6, 3), beta=True),
    "resnet_v1_101_beta": resnet_v1("resnet_v1_101", (3, 4, 23, 3), beta=True),
    "xception_65": xception_65(),
    "mobilenet_v2": mobilenet_v2(),
}
NETWORKS = {name: dict(pairs) for name, pairs in NETWORKS.items()}


def checkpoint(model, backbone):
    """Returns {TF1 name: random array} for a model, and {(our layer, index of its weight): TF1 name}."""
    rng = np.random.default_rng(0)
    scopes = NETWORKS[backbone] | {f"{ours}_conv": theirs for ours, theirs in HEAD.items()}
    scopes |= SEPARABLE | PLAIN
    scopes |= {"decoder_projection_conv": "decoder/feature_projection0", "logits_conv": "logits/semantic"}
    arrays, places = {}, {}
    for layer in (layer for layer in model.layers if layer.weights):
        if isinstance(layer, keras.layers.BatchNormalization):
            ours = layer.name.removesuffix("_norm")
            scope = f"{scopes[ours if ours in scopes else f'{ours}_conv']}/BatchNorm"
            leaves = ("gamma", "beta", "moving_mean", "moving_variance")
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            scope, leaves = scopes[layer.name], ("depthwise_weights",)
        else:
            scope, leaves = scopes[layer.name], ("weights", "biases")
        for i, (leaf, weight) in enumerate(zip(leaves, layer.weights, strict=False)):
            arrays[f"{scope}/{leaf}"] = rng.uniform(0.5, 1.5, weight.shape).astype("float32")
            places[layer.name, i] = f"{scope}/{leaf}"
    return arrays, places


@functools.cache
def checkpoint_of_deeplab_v3(backbone):
    """Returns {TF1 name: random array} of 3 classes, which is shared."""
    arrays, _ = checkpoint(deeplab_v3(3, backbone=backbone, width=WIDTH), backbone)
    for value in arrays.values():
        value.flags.writeable = False
    return arrays


@pytest.mark.parametrize(
    ("build", "backbone", "options"),
    [
        (deeplab_v3, "resnet_v1_50", {}),
        (deeplab_v3, "resnet_v1_101_beta", {}),
        # The backbone is the same below, the head the same as above.
        pytest.param(deeplab_v3, "xception_65", {"width": 1 / 8}, marks=pytest.mark.slow),
        (deeplab_v3, "mobilenet_v2", {}),
        (deeplab_v3_plus, "xception_65", {"width": 1 / 8}),
        (deeplab_v3_plus, "resnet_v1_50_beta", {"separable": False, "width": 1 / 16}),
    ],
)
def test_every_variable_finds_its_place(build, backbone, options):
    model = build(3, backbone=backbone, **{"width": WIDTH, **options})
    arrays, places = checkpoint(model, backbone)
    assert len(arrays) == len(model.weights)
    report = load_tf1(model, arrays | {"global_step": np.int64(7), "logits/semantic/biases/Momentum": np.zeros(3)})
    assert report.leftover == ("global_step", "logits/semantic/biases/Momentum")
    assert (len(report.loaded), report.kept) == (len(arrays), ())
    found = {layer.name: layer.get_weights() for layer in model.layers}
    for (layer, i), name in places.items():
        np.testing.assert_array_equal(found[layer][i], arrays[name], err_msg=name)


def test_the_head_is_concatenated_in_the_same_order():
    """In the release: image pooling, then aspp0 to aspp3."""
    model = deeplab_v3(3, backbone="resnet_v1_50", width=WIDTH)
    arrays, _ = checkpoint(model, "resnet_v1_50")
    order = ("image_pooling", "aspp0", "aspp1", "aspp2", "aspp3")
    for i, scope in enumerate(order, start=1):
        arrays[f"{scope}/BatchNorm/gamma"][:] = 0
        arrays[f"{scope}/BatchNorm/beta"][:] = i
    load_tf1(model, {name: value for name, value in arrays.items() if name.startswith(order)})
    concatenated = keras.Model(model.inputs[0], model.get_layer("aspp_concat").output)(np.zeros((1, 33, 33, 3)))
    np.testing.assert_array_equal(concatenated[0, 0, 0], np.repeat([1, 2, 3, 4, 5], 8))


def test_the_decoder_is_concatenated_in_the_same_order():
    """In the release: what the pyramid gives, then the projected features."""
    model = deeplab_v3_plus(3, backbone="resnet_v1_50", width=1 / 16)
    arrays, _ = checkpoint(model, "resnet_v1_50")
    order = ("concat_projection", "decoder/feature_projection0")
    for i, scope in enumerate(order, start=1):
        arrays[f"{scope}/BatchNorm/gamma"][:] = 0
        arrays[f"{scope}/BatchNorm/beta"][:] = i
    load_tf1(model, {name: value for name, value in arrays.items() if name.startswith(order)})
    concatenated = keras.Model(model.inputs[0], model.get_layer("decoder_concat").output)(np.zeros((1, 33, 33, 3)))
    np.testing.assert_array_equal(concatenated[0, 0, 0], np.repeat([1, 2], [16, 3]))


def test_a_checkpoint_of_the_zoo_into_other_channels(tmp_path):
    arrays = checkpoint_of_deeplab_v3("resnet_v1_50_beta")
    prefix = str(tmp_path / "model.ckpt")
    # What TensorFlow 1's Saver runs.
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=list(arrays), shape_and_slices=[""] * len(arrays), tensors=list(arrays.values())
    )
    model = deeplab_v3(3, backbone="resnet_v1_50_beta", width=WIDTH, input_shape=(None, None, 5))
    report = load_tf1(model, prefix)
    assert report.inflated == ("conv1_1/kernel",)
    kernel, theirs = model.get_layer("conv1_1").get_weights()[0], arrays["resnet_v1_50/conv1_1/weights"]
    np.testing.assert_array_equal(kernel[:, :, :3], theirs)
    np.testing.assert_allclose(kernel[:, :, 4], theirs.mean(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet_v1_50", r"conv1 has 1 units in model 'deeplab_v3', 3 in the source"),
        ("resnet_v1_50_beta", r"block3 has 6 units in model 'deeplab_v3', 23 in the source; expected the same network"),
        ("resnet_v2_50", r"backbone resnet_v1_101, .* another \(it has no layer block1_unit1_relu\)"),
    ],
)
def test_another_backbone_is_refused_and_nothing_is_changed(backbone, message):
    arrays = checkpoint_of_deeplab_v3("resnet_v1_101_beta")
    model = deeplab_v3(3, backbone=backbone, width=WIDTH)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        load_tf1(model, arrays)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
