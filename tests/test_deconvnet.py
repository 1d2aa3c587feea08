"""DeconvNet: counts, sizes of its stages, legal sizes, transposed convolutions, training."""

import functools

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.inspection import convolutions
from kerasseg.layers import BatchNorm, size_rules
from kerasseg.losses import CrossEntropy
from kerasseg.models import deconvnet

TINY = {"width": 1 / 64, "input_shape": (None, None, 3)}


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


@functools.cache
def tiny():
    """Returns a network of any size and 5 classes that is shared: nothing may change it."""
    return deconvnet(5, **TINY, norm=identity)


def count(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


def test_parameter_counts(zero_weights):
    with zero_weights():
        model = deconvnet(21)
    norms = [layer for layer in model.layers if isinstance(layer, BatchNorm)]
    assert len(norms) == 29
    assert count(model.weights) - count(w for layer in norms for w in layer.weights) == 251_772_245
    assert count(model.trainable_weights) == 251_805_653
    assert model.count_params() == 251_839_061
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 224, 224, 21)


@pytest.mark.parametrize(("size", "cells"), [(224, 1), (256, 2), (320, 4)])
def test_sizes_and_channels_of_every_stage(size, cells):
    found = {conv.layer: conv for conv in convolutions(tiny(), size)}
    assert len(found) == 13 + 2 + 14 + 1
    for name in ("fc6", "fc7"):
        assert found[name].output_shape == (cells, cells, 64)
    assert found["fc6"].kernel == found["fc6-deconv"].kernel == (7, 7)
    assert found["fc6-deconv"].output_shape == (size // 32, size // 32, 8)
    channels = []
    for name, conv in found.items():
        if name.startswith(("conv", "deconv")):
            side = size // 2 ** (int(name.split("_")[0][-1]) - 1)
            assert conv.output_shape[:2] == (side, side), name
            assert (conv.kernel, conv.strides) == ((3, 3), (1, 1)), name
        if "deconv" in name:
            assert conv.kind == "transposed", name
            channels.append(conv.output_shape[2])
    assert channels == [8, 8, 8, 8, 8, 8, 4, 4, 4, 2, 2, 1, 1, 1]
    assert found["seg-score"].output_shape == (size, size, 5)


def test_legal_sizes():
    model = tiny()
    rule = size_rules(model)[0]
    assert (rule.multiple, rule.offset, rule.minimum, rule.margin) == (32, 0, 224, 0)
    assert model(np.zeros((1, 224, 288, 3), np.float32)).shape == (1, 224, 288, 5)
    with pytest.raises(ValueError, match="height 192 is not legal here: .* at least 224 pixels; nearest legal: 224"):
        model(np.zeros((1, 192, 224, 3), np.float32))
    with pytest.raises(ValueError, match="width 300 is not legal here: .* nearest legal: 288 or 320"):
        deconvnet(2, input_shape=(256, 300, 3), width=1 / 64, norm=identity)


def test_unpooling_puts_values_at_the_maxima_of_the_encoder():
    model = deconvnet(3, width=1 / 32)
    for block in range(1, 6):
        values, pooled_from = model.get_layer(f"unpool{block}").input
        assert pooled_from is model.get_layer(f"pool{block}").input
    taps = [model.get_layer(name) for name in ("unpool3", "relu3_3", "derelu4_3")]
    image = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    tapped = keras.Model(model.input, [layer.output for layer in taps])
    unpooled, source, values = (np.asarray(t) for t in tapped(image, training=True))
    windows = source.reshape(2, 28, 2, 28, 2, -1).transpose(0, 1, 3, 5, 2, 4).reshape(2, 28, 28, -1, 4)
    expected = np.eye(4, dtype=np.float32)[windows.argmax(-1)] * values[..., None]
    expected = expected.reshape(2, 28, 28, -1, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(source.shape)
    np.testing.assert_array_equal(unpooled, expected)
    assert expected.any()


def test_a_deconvolution_adds_its_kernel_around_every_value():
    """As Caffe's does: kernels [in, out, h, w] from there are transposed to [h, w, out, in], and not flipped."""
    layer = deconvnet(2, width=1 / 32, norm=identity).get_layer("deconv4_3")
    rng = np.random.default_rng(0)
    caffe = rng.normal(size=(16, 8, 3, 3)).astype(np.float32)
    layer.set_weights([caffe.transpose(2, 3, 1, 0), rng.normal(size=8).astype(np.float32)])
    x = rng.normal(size=(1, 5, 4, 16)).astype(np.float32)
    padded = np.zeros((7, 6, 8), np.float32)
    for i, j in np.ndindex(5, 4):
        padded[i : i + 3, j : j + 3] += np.einsum("i,iohw->hwo", x[0, i, j], caffe)
    np.testing.assert_allclose(layer(x)[0], padded[1:-1, 1:-1] + layer.get_weights()[1], atol=1e-4)


def test_what_it_starts_from():
    model = deconvnet(2, width=1 / 8)
    for layer in model.layers:
        if isinstance(layer, BatchNorm):
            assert layer.epsilon == 1e-9
            assert np.allclose(layer.beta, 0.001)
            assert np.allclose(layer.gamma, 1)
        elif "deconv" in layer.name and layer.weights:
            assert np.std(layer.get_weights()[0]) == pytest.approx(0.01, rel=0.1), layer.name
    image = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    normalized = keras.Model(model.input, model.get_layer("normalize").output)(image)
    np.testing.assert_allclose(normalized, image[..., ::-1] - np.float32([104.008, 116.669, 122.675]), atol=1e-4)


def test_it_trains_with_an_epsilon_of_1e_9():
    """In float32, with a part of the images black, as where a window leaves the image."""
    model = deconvnet(2, width=1 / 32)
    rng = np.random.default_rng(0)
    image = np.zeros((2, 224, 224, 3), np.float32)
    mask = np.zeros((2, 224, 224), np.int32)
    for i, (row, column) in enumerate(rng.integers(0, 100, (2, 2))):
        image[i, :150] = 60
        image[i, row : row + 60, column : column + 60], mask[i, row : row + 60, column : column + 60] = 200, 1
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), CrossEntropy(), run_eagerly=True)
    losses = [float(model.train_on_batch(image, mask)) for _ in range(5)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_nothing_passes_a_batch_of_one():
    """At 224x224 the one cell is normalised to the shift, whatever the image; two images differ."""
    model = deconvnet(2, width=1 / 64)
    cell = keras.Model(model.input, model.get_layer("fc6_norm").output)
    images = np.random.default_rng(0).uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)
    np.testing.assert_allclose(cell(images[:1], training=True), 0.001, atol=1e-6)
    assert np.abs(np.asarray(cell(images, training=True)) - 0.001).max() > 0.5
