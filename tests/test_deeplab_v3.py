"""DeepLab-v3's structure, read from the graph that TensorFlow runs."""

import functools
import re

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.models import deeplab_v3
from kerasseg.weights import load_tf1

RATES = {32: (1, 1, (1, 2, 4)), 16: (1, 1, (2, 4, 8)), 8: (1, 2, (4, 8, 16)), 4: (2, 4, (8, 16, 32))}
"""Output stride: rates of blocks 2, 3 and of the units of block 4 (measured in the original's graph)."""
STRIDED = {
    32: ("block1_unit3", "block2_unit4", "block3_unit6"),
    16: ("block1_unit3", "block2_unit4"),
    8: ("block1_unit3",),
    4: (),
}


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


@functools.cache
def built(**options):
    """Returns a network of 3 classes that is shared: nothing may change it."""
    return deeplab_v3(3, width=1 / 32, **options)


@functools.cache
def convolutions(size=513, **options):
    """Returns {layer name: (dilation, stride, output shape)} of every Conv2D operation of the traced graph."""
    model = built(norm=identity, **options)
    function = tf.function(lambda image: model(image, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((1, size, size, 3))).graph
    found = {}
    for operation in graph.get_operations():
        if operation.type == "Conv2D":
            layer = next(part for part in reversed(operation.name.split("/")[:-1]))
            name = re.sub(r"_\d+$", "", layer) if layer not in {x.name for x in model.layers} else layer
            dilations, strides = operation.get_attr("dilations"), operation.get_attr("strides")
            found[name] = (dilations[1], strides[1], tuple(operation.outputs[0].shape))
    assert not [o for o in graph.get_operations() if "SpaceToBatch" in o.type]
    return found


@pytest.mark.parametrize(
    ("output_stride", "variant"),
    [
        *((stride, "paper") for stride in RATES),
        *((stride, "original") for stride in (16, 8)),
        *(pytest.param(stride, "original", marks=pytest.mark.slow) for stride in (32, 4)),
    ],
)
def test_every_dilation_and_stride_of_the_built_graph(output_stride, variant):
    found = convolutions(output_stride=output_stride, variant=variant)
    assert len(found) == 1 + 3 * 16 + 4 + 6 + 1  # root, bottlenecks, shortcuts, head, logits
    block2, block3, block4 = RATES[output_stride]
    finer = 16 // output_stride if variant == "paper" and output_stride < 16 else 1
    for name, (dilation, stride, _) in found.items():
        expected = 1
        if match := re.fullmatch(r"block(\d)_unit(\d)_conv2", name):
            block, unit = int(match[1]), int(match[2])
            expected = block4[unit - 1] if block == 4 else {1: 1, 2: block2, 3: block3}[block]
        elif match := re.fullmatch(r"aspp_branch([123])_conv", name):
            expected = 6 * int(match[1]) * finer
        assert dilation == expected, name
        strided = name == "conv1" or (name.endswith("conv2") and name.startswith(STRIDED[output_stride]))
        assert stride == (2 if strided else 1), name


def test_multi_grid_is_applied():
    found = convolutions(multi_grid=(1, 2, 1))
    assert [found[f"block4_unit{i}_conv2"][0] for i in (1, 2, 3)] == [2, 4, 2]


@pytest.mark.parametrize(("output_stride", "side"), [(16, 33), (8, 65)])
def test_pyramid_maps_at_513(output_stride, side):
    found = convolutions(output_stride=output_stride, variant="paper")
    for branch in range(4):
        assert found[f"aspp_branch{branch}_conv"][2] == (1, side, side, 8)


def test_parameter_counts(zero_weights):
    """As the original builds its used graph, and with `postnorm` before the head."""
    with zero_weights():
        original, paper = (deeplab_v3(21, variant=variant) for variant in ("original", "paper"))
        deeper = deeplab_v3(21, backbone="resnet_v2_101")
    assert original.count_params() == 39_100_181
    assert paper.count_params() == 39_108_373
    head = sum(np.prod(w.shape) for x in paper.layers if x.name.startswith(("aspp", "logits")) for w in x.weights)
    assert head == 15_543_573
    assert deeper.count_params() == 58_170_133


def test_a_model_trained_at_stride_16_loads_at_stride_8(tmp_path):
    trained = built(output_stride=16, variant="original")
    trained.save_weights(tmp_path / "model.weights.h5")
    finer = deeplab_v3(3, width=1 / 32, output_stride=8, variant="original")
    finer.load_weights(tmp_path / "model.weights.h5")
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32)
    for one, two in zip(trained.weights, finer.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    tap = "block2_unit4_add"  # coarser by two in the one, but at the same places
    features = [keras.Model(m.input, m.get_layer(tap).output)(image, training=False) for m in (trained, finer)]
    np.testing.assert_allclose(features[0], features[1][:, ::2, ::2], atol=1e-4)


def test_a_fixed_input_size_builds_the_same_network():
    free, fixed = built(), deeplab_v3(3, width=1 / 32, input_shape=(65, 97, 3))
    assert fixed.output_shape == (None, 65, 97, 3)
    fixed.set_weights(free.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (2, 65, 97, 3)).astype(np.float32)
    np.testing.assert_allclose(fixed(image, training=False), free(image, training=False), atol=1e-6)


def test_variants_share_layer_names():
    names = [{x.name for x in built(output_stride=16, variant=v, norm=identity).layers} for v in ("original", "paper")]
    only_paper = names[1] - names[0]
    assert names[0] <= names[1]
    assert all(name.startswith(("postnorm", "aspp")) and name.endswith(("relu", "norm")) for name in only_paper)


def test_frozen_norm_has_no_trainable_statistics_scale_or_shift():
    model = deeplab_v3(2, width=1 / 32, norm="frozen")
    assert not [w for w in model.trainable_weights if w.name.split("/")[-1].startswith(("gamma", "beta"))]
    image = np.random.default_rng(0).uniform(0, 255, (2, 33, 33, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(image, training=True), model(image, training=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 12}, "output_stride must be one of 4, 8, 16, 32, got 12"),
        ({"backbone": "resnet_v3_50"}, "backbone must be one of resnet_v1_50, .* got .resnet_v3_50."),
        (
            {"backbone": "resnet_v1_50", "variant": "original"},
            "needs one of the backbones resnet_v2_50, .*v1_50",
        ),
        ({"variant": "tf"}, "variant must be one of paper, original, got 'tf'"),
        ({"multi_grid": (1, 2)}, "multi_grid must have 3 entries"),
        ({"width": 0.001}, "width must make 64 . width a whole number"),
        ({"norm": "instance"}, "norm must be one of batch, sync, group, frozen, none or a callable"),
    ],
)
def test_an_illegal_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        deeplab_v3(2, **options)


def test_norm_may_be_a_callable():
    def instance(name):
        return keras.layers.GroupNormalization(-1, name=name)

    model = deeplab_v3(2, width=1 / 32, norm=instance)
    assert isinstance(model.get_layer("block1_unit1_conv1_norm"), keras.layers.GroupNormalization)


def named(model):
    """Returns {TF1 name: value}, written down anew from TF-Slim's naming."""
    names = {}
    for layer in (layer for layer in model.layers if layer.weights):
        scope = "resnet_v2_50/" + re.sub(r"block(\d)_unit(\d)_", r"block\1/unit_\2/bottleneck_v2/", layer.name)
        scope = scope.replace("preact_norm", "preact").replace("postnorm_norm", "postnorm")
        scope = re.sub(r"(conv\d)_norm", r"\1/BatchNorm", scope)
        if layer.name.startswith("aspp"):
            part, kind = layer.name.removeprefix("aspp_").rsplit("_", 1)
            part = {
                "pool": "image_level_conv_1x1",
                "branch0": "conv_1x1_0",
                "projection": "conv_1x1_output",
            }.get(part, part.replace("branch", "conv_3x3_"))
            scope = f"DeepLab_v3/ASPP_layer/{part}" + ("/BatchNorm" if kind == "norm" else "")
        if layer.name == "logits_conv":
            scope = "DeepLab_v3/logits"
        for weight in layer.weights:
            leaf = weight.name.split("/")[-1].split(":")[0]
            names[f"{scope}/{ {'kernel': 'weights', 'bias': 'biases'}.get(leaf, leaf) }"] = weight.numpy()
    return names


@pytest.fixture(scope="module")
def variables():
    """Returns the variables of a slim classifier: the backbone of a model, and a head of 1001 classes."""
    rng = np.random.default_rng(0)
    model = deeplab_v3(5, width=1 / 32)
    mapping = {f"x/{i}": w.numpy() for i, w in enumerate(model.weights)}
    report = load_tf1(model, named(model))
    assert len(report.loaded) == len(mapping)
    source = {name: rng.uniform(0.5, 1.5, value.shape) for name, value in named(model).items()}
    source = {name: value.astype(np.float32) for name, value in source.items() if name.startswith("resnet")}
    return source | {"resnet_v2_50/logits/weights": np.zeros((1, 1, 64, 1001), np.float32)}


class TestLoadTf1:
    """Checkpoints made here; those of the original code are in test_deeplab_v3_oracle.py."""

    WIDTH = 1 / 32

    @pytest.fixture
    def source(self, variables):
        return {name: value.copy() for name, value in variables.items()}

    def test_a_classifier_gives_the_backbone_only(self, source):
        model = deeplab_v3(5, width=self.WIDTH)
        head = model.get_layer("aspp_projection_conv").get_weights()[0]
        report = load_tf1(model, source)
        assert report.leftover == ("resnet_v2_50/logits/weights",)
        assert all(name.startswith(("aspp", "logits")) for name in report.kept)
        assert "aspp_branch3_conv/kernel" in report.kept
        np.testing.assert_array_equal(model.get_layer("aspp_projection_conv").get_weights()[0], head)
        moving = model.get_layer("postnorm_norm").moving_variance
        np.testing.assert_array_equal(moving, source["resnet_v2_50/postnorm/moving_variance"])

    def test_a_checkpoint_file(self, source, tmp_path):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            for name, value in source.items():
                tf.compat.v1.get_variable(name, initializer=value)
            session.run(tf.compat.v1.global_variables_initializer())
            prefix = tf.compat.v1.train.Saver().save(session, str(tmp_path / "resnet_v2_50.ckpt"))
        model = deeplab_v3(5, width=self.WIDTH)
        reports, loaded = [], []
        for form in (source, prefix, tmp_path, f"{prefix}.index", {f"{name}:0": x for name, x in source.items()}):
            model.set_weights([np.zeros(w.shape) for w in model.weights])
            reports.append(load_tf1(model, form))
            loaded.append(model.get_weights())
        for report, weights in zip(reports, loaded, strict=True):
            assert report == reports[0]
            for a, b in zip(weights, loaded[0], strict=True):
                np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(model.get_layer("conv1").kernel, source["resnet_v2_50/conv1/weights"])

    def test_another_width_is_refused_and_nothing_is_changed(self, source):
        model = deeplab_v3(5, width=1 / 16)
        before = model.get_weights()
        with pytest.raises(ValueError, match=r"conv1/kernel has shape \(7, 7, 3, 4\), but .* has \(7, 7, 3, 2\)"):
            load_tf1(model, source)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_other_classes_need_exclude(self):
        whole = named(built())
        model = deeplab_v3(7, width=self.WIDTH)
        with pytest.raises(ValueError, match="logits_conv/kernel has shape"):
            load_tf1(model, whole)
        report = load_tf1(model, whole, exclude=("logits",))
        assert report.kept == ("logits_conv/kernel", "logits_conv/bias")

    @pytest.mark.parametrize("content", [None, b"not a checkpoint"])
    def test_no_checkpoint(self, tmp_path, content):
        path = tmp_path / "model.ckpt"
        if content:
            path.with_suffix(".ckpt.index").write_bytes(content)
        with pytest.raises(ValueError, match="model.ckpt is not a TensorFlow checkpoint"):
            load_tf1(built(), path)

    def test_a_foreign_checkpoint(self):
        with pytest.raises(ValueError, match="no variable of the source belongs to model 'deeplab_v3'"):
            load_tf1(built(), {"vgg_16/conv1/weights": np.zeros(3)})
