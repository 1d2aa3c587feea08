"""DeepLab-v3+: counts, sizes and wiring of the decoder."""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.inspection import convolutions, multiply_adds
from kerasseg.models import deeplab_v3, deeplab_v3_plus

SMALL = {"backbone": "resnet_v1_50", "width": 1 / 16}


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


@pytest.mark.parametrize(
    ("options", "learned", "total"),
    [
        ({"backbone": "resnet_v1_50"}, 26_696_133, 26_766_853),
        ({"backbone": "resnet_v1_50", "separable": False}, 40_352_181, 40_409_493),
    ],
)
def test_parameter_counts(options, learned, total, zero_weights):
    with zero_weights():
        model = deeplab_v3_plus(21, **options)
    assert _counts(model) == (learned, total)


def test_parameters_and_published_multiply_adds_with_xception_65(zero_weights):
    """54.17 G at 513 in the paper's table 5, which counts more than the convolutions."""
    with zero_weights():
        model = deeplab_v3_plus(21)
    assert _counts(model) == (41_055_413, 41_258_213)
    backbone = [x for x in model.layers if x.name.startswith(("entry", "middle", "exit"))]
    assert sum(x.count_params() for x in backbone) == 38_052_512
    total = sum(each.multiply_adds for each in convolutions(model, 513))
    assert total / 1e9 == pytest.approx(54.17, rel=0.003)


def test_published_multiply_adds_of_mobilenet_v2(zero_weights):
    """2.75 G at 513 in the release's table, for the network with neither decoder nor atrous branches."""
    with zero_weights():
        model = deeplab_v3(21, backbone="mobilenet_v2", atrous_rates=(), norm=identity)
    assert multiply_adds(model, 513) / 1e9 == pytest.approx(2.75, rel=0.004)


def _counts(model):
    return sum(int(np.prod(w.shape)) for w in model.trainable_weights), model.count_params()


@pytest.mark.parametrize(
    ("backbone", "low_level", "channels"),
    [
        ("resnet_v1_50", "block1_unit2_conv3_norm", 256),
        ("resnet_v1_50_beta", "block1_unit2_conv3_norm", 256),
        ("resnet_v2_50", "block1_unit2_add", 256),
        ("mobilenet_v2", "unit2_depthwise_relu", 144),
        ("xception_41", "entry_block2_unit1_conv2_pointwise_norm", 256),
        ("xception_71", "entry_block3_unit1_conv2_pointwise_norm", 256),
    ],
)
def test_decoder_reads_the_features_that_the_release_names(backbone, low_level, channels):
    """At stride 4; the decoder works at that size, on 256 channels of the pyramid and 48 of these, times the width."""
    width = 1 / 8
    model = deeplab_v3_plus(2, backbone=backbone, width=width, input_shape=(65, 129, 3), norm=identity)
    assert model.get_layer("decoder_projection_conv").input is model.get_layer(low_level).output
    # MobileNet-v2's expansions are multiples of 8 at any width.
    expected = 24 if backbone == "mobilenet_v2" else int(channels * width)
    assert model.get_layer("decoder_projection_conv").input.shape[1:] == (17, 33, expected)
    assert model.get_layer("decoder_concat").output.shape[1:] == (17, 33, int(304 * width))
    assert [x.shape[-1] for x in model.get_layer("decoder_concat").input] == [256 * width, 48 * width]
    assert model.get_layer("logits_conv").output.shape[1:3] == (17, 33)
    assert model.output_shape == (None, 65, 129, 2)


@pytest.mark.parametrize("separable", [True, False])
def test_layers_of_pyramid_and_decoder(separable):
    """All of the release's, each followed by normalisation and ReLU; and rates doubled at stride 8."""
    model = deeplab_v3_plus(2, **SMALL, separable=separable, output_stride=8, norm=identity)
    names = {layer.name for layer in model.layers}
    parts = ["_depthwise", "_pointwise"] if separable else ["_conv"]
    atrous = [f"aspp_branch{i}{part}" for i in (1, 2, 3) for part in parts]
    decoder = [f"decoder_conv{i}{part}" for i in (0, 1) for part in (parts if separable else [""])]
    single = ["aspp_pool_conv", "aspp_branch0_conv", "aspp_projection_conv", "decoder_projection_conv"]
    convs = {x.name for x in model.layers if isinstance(x, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))}
    heads = {name for name in convs if name.startswith(("aspp", "decoder"))}
    assert heads == {*atrous, *decoder, *single}
    for name in heads:
        assert {f"{name.removesuffix('_conv')}_norm", f"{name.removesuffix('_conv')}_relu"} <= names
    run = {each.layer: each.dilations for each in convolutions(model, 65)}
    assert [run[f"aspp_branch{i}{parts[0]}"] for i in (1, 2, 3)] == [(12, 12), (24, 24), (36, 36)]


def test_dropout_acts_in_training_only():
    model = deeplab_v3_plus(2, **SMALL, dropout=0.5, norm=identity)
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32)
    tap = keras.Model(model.input, model.get_layer("aspp_dropout").output)
    assert (tap(image, training=False).numpy() == tap(image, training=False).numpy()).all()
    dropped = (tap(image, training=True) == 0).numpy().mean() - (tap(image, training=False) == 0).numpy().mean()
    assert dropped > 0.1
    assert deeplab_v3_plus(2, **SMALL, norm=identity).get_layer("aspp_dropout").rate == 0.1


def test_a_model_trained_at_stride_16_loads_at_stride_8(tmp_path):
    options = {"backbone": "mobilenet_v2", "width": 1 / 16, "norm": identity}
    coarse, fine = (deeplab_v3_plus(3, output_stride=stride, **options) for stride in (16, 8))
    coarse.save_weights(tmp_path / "model.weights.h5")
    fine.load_weights(tmp_path / "model.weights.h5")
    image = np.random.default_rng(0).uniform(0, 255, (1, 97, 65, 3)).astype(np.float32)
    one, two = (
        keras.Model(model.input, model.get_layer("unit16_project_norm").output)(image, training=False)
        for model in (coarse, fine)
    )
    np.testing.assert_allclose(one, two[:, ::2, ::2], atol=1e-5 * np.abs(one).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg16"}, "backbone must be one of resnet_v1_50, .* got 'vgg16'"),
        ({"width": 1 / 32}, "width must make 48 . width a whole number"),
        ({"output_stride": 12}, "output_stride must be one of 4, 8, 16, 32, got 12"),
    ],
)
def test_an_illegal_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        deeplab_v3_plus(2, **{**SMALL, "norm": identity, **options})
