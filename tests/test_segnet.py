"""SegNet, SegNet-Basic and Bayesian SegNet: counts, sizes, unpooling, places of dropout and ReLU."""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.inspection import convolutions
from kerasseg.layers import BatchNorm, MonteCarloDropout
from kerasseg.models import bayesian_segnet, segnet, segnet_basic

SIZES = {1: (360, 480), 2: (180, 240), 3: (90, 120), 4: (45, 60), 5: (23, 30)}
"""Of the blocks for CamVid's images, encoder and decoder alike."""


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


def count(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


@pytest.mark.parametrize(
    ("builder", "num_classes", "convolutional", "learned", "total"),
    [
        (segnet, 11, 29_433_483, 29_449_355, 29_465_227),
        (segnet, 21, 29_439_253, 29_455_125, 29_470_997),
        (bayesian_segnet, 11, 29_433_483, 29_449_355, 29_465_227),
        # All eight convolutions and the classifier have biases.
        (segnet_basic, 11, 1_415_563, 1_416_587, 1_417_611),
    ],
)
def test_parameter_counts(builder, num_classes, convolutional, learned, total, zero_weights):
    with zero_weights():
        model = builder(num_classes)
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert count(w for layer in convs for w in layer.weights) == convolutional
    assert count(model.trainable_weights) == learned
    assert model.count_params() == total
    assert all(layer.use_bias for layer in convs)


def test_sizes_and_channels_of_every_convolution_at_360_by_480():
    found = {conv.layer: conv for conv in convolutions(segnet(11, width=1 / 64, norm=identity), 360, 480)}
    assert len(found) == 26
    for name, conv in found.items():
        assert conv.output_shape[:2] == SIZES[int(name[4])], name
        assert (conv.kernel, conv.strides, conv.dilations) == ((3, 3), (1, 1), (1, 1)), name
    decoder = [conv.output_shape[2] for name, conv in found.items() if name.endswith("_D")]
    assert decoder == [8, 8, 8, 8, 8, 4, 4, 4, 2, 2, 1, 1, 11]
    model = segnet(11, width=1 / 64, input_shape=(360, 480, 3), norm=identity)
    assert model.get_layer("pool5").output.shape == (None, 12, 15, 8)
    assert model.get_layer("upsample5").output.shape == (None, 23, 30, 8)


def test_convolutions_of_basic():
    found = {conv.layer: conv for conv in convolutions(segnet_basic(11, width=1 / 16), 360, 480)}
    assert list(found) == [
        *(f"conv{i}" for i in (1, 2, 3, 4)),
        *(f"conv_decode{i}" for i in (4, 3, 2, 1)),
        "conv_classifier",
    ]
    for name, conv in found.items():
        level = int(name[-1]) if name[-1].isdigit() else 1
        assert conv.output_shape[:2] == SIZES[level], name
        assert conv.kernel == ((1, 1) if name == "conv_classifier" else (7, 7)), name


@pytest.mark.parametrize(("builder", "levels"), [(segnet, 5), (segnet_basic, 4)])
def test_unpooling_puts_values_at_the_maxima_of_the_encoder(builder, levels):
    """In the whole network, on odd sizes, against a loop over the pooling windows."""
    model = builder(3, width=1 / 16)
    taps = {}
    for level in range(1, levels + 1):
        unpool = model.get_layer(f"upsample{level}")
        values, pooled_from = unpool.input
        assert pooled_from is model.get_layer(f"pool{level}").input
        taps[level] = [values, pooled_from, unpool.output]
    image = np.random.default_rng(0).uniform(0, 255, (1, 77, 61, 3)).astype(np.float32)
    for level, (values, source, unpooled) in keras.Model(model.input, taps)(image, training=False).items():
        values, source = np.asarray(values), np.asarray(source)
        expected = np.zeros_like(source)
        for _, i, j, c in np.ndindex(values.shape):
            window = source[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
            row, column = np.unravel_index(window.argmax(), window.shape)
            expected[0, 2 * i + row, 2 * j + column, c] = values[0, i, j, c]
        np.testing.assert_array_equal(unpooled, expected, err_msg=f"level {level}")
        assert expected.any()


@pytest.mark.parametrize("builder", [segnet, segnet_basic, bayesian_segnet])
def test_any_size(builder):
    model = builder(3, width=1 / 64, norm=identity)
    for height, width in ((1, 1), (2, 3), (31, 33), (64, 47)):
        assert model(np.zeros((1, height, width, 3), np.float32)).shape == (1, height, width, 3)


def test_the_image_is_turned_to_bgr_and_nothing_is_subtracted():
    image = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    for builder in (segnet, segnet_basic):
        model = builder(2, width=1 / 64, norm=identity)
        normalized = keras.Model(model.input, model.get_layer("normalize").output)(image)
        np.testing.assert_array_equal(normalized, image[..., ::-1])


def test_dropout_sits_around_the_three_central_levels():
    model = bayesian_segnet(2, width=1 / 64, norm=identity)
    found = {layer.name: layer for layer in model.layers if isinstance(layer, MonteCarloDropout)}
    assert list(found) == ["encdrop3", "encdrop4", "encdrop5", "decdrop5", "decdrop4", "decdrop3"]
    assert all(layer.rate == 0.5 and not layer.sampling for layer in found.values())
    for block in (3, 4, 5):
        assert found[f"encdrop{block}"].input is model.get_layer(f"pool{block}").output
        assert found[f"decdrop{block}"].input is model.get_layer(f"relu{block}_1_D").output
    for reader, dropout in (("conv4_1", "encdrop3"), ("conv5_1", "encdrop4")):
        assert model.get_layer(reader).input is found[dropout].output
    for level, dropout in ((5, "encdrop5"), (4, "decdrop5"), (3, "decdrop4"), (2, "decdrop3")):
        assert model.get_layer(f"upsample{level}").input[0] is found[dropout].output
    plain = segnet(2, width=1 / 64, norm=identity)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers if layer.name not in found]
    sampling = bayesian_segnet(2, width=1 / 64, norm=identity, sampling=True)
    assert all(layer.sampling for layer in sampling.layers if "drop" in layer.name)


def test_dropout_changes_no_weights():
    """A SegNet becomes a Bayesian one by its weights; without sampling it answers alike."""
    plain, bayesian = segnet(3, width=1 / 16), bayesian_segnet(3, width=1 / 16)
    bayesian.set_weights(plain.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 40, 50, 3)).astype(np.float32)
    np.testing.assert_array_equal(bayesian(image, training=False), plain(image, training=False))
    assert not np.array_equal(bayesian(image, training=True), plain(image, training=True))


def test_activations_and_normalisations():
    """After each convolution of SegNet but the last; SegNet-Basic has no ReLU in its decoder."""
    model = segnet(2, width=1 / 64)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("BatchNorm") == kinds.count("ReLU") == 25
    assert model.layers[-1].name == "conv1_1_D"
    basic = segnet_basic(2, width=1 / 64)
    assert [layer.name for layer in basic.layers if isinstance(layer, keras.layers.ReLU)] == [
        f"relu{i}" for i in (1, 2, 3, 4)
    ]
    assert sum(isinstance(layer, BatchNorm) for layer in basic.layers) == 8
    for level in (3, 2, 1):
        assert basic.get_layer(f"upsample{level}").input[0] is basic.get_layer(f"conv_decode{level + 1}_norm").output
    lrn = basic.get_layer("norm")
    assert (lrn.size, lrn.alpha, lrn.beta) == (5, 1e-4, 0.75)


def test_what_the_shifts_start_from():
    """0.001, as `shift_filler` of the authors' three training files says."""
    for builder in (segnet, segnet_basic, bayesian_segnet):
        norms = [layer for layer in builder(2, width=1 / 64).layers if isinstance(layer, BatchNorm)]
        assert all(np.allclose(layer.beta, 0.001) and np.allclose(layer.gamma, 1) for layer in norms)
        assert all(layer.epsilon == 1e-9 for layer in norms)


def test_an_illegal_option_is_named():
    with pytest.raises(ValueError, match="width must make 64 . width a whole number"):
        segnet_basic(2, width=0.01)
    with pytest.raises(ValueError, match="norm must be one of batch"):
        segnet(2, width=1 / 64, norm="layer")
