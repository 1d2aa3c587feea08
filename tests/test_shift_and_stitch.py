"""Shift-and-stitch against the same network without strides (à trous), and against the network on every window."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.inference import shift_and_stitch
from kerasseg.models import fcn_32s

FIELD = 22
"""Receptive field of `coarse`: 3, then pooling 2 -> 4, 3 of stride 2 -> 8, pooling 2 -> 10, 4 of stride 4 -> 22."""


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def coarse(padding="valid"):
    """Returns a network whose scores lie 4 pixels apart."""
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding=padding, activation="relu", name="a")(image)
    x = keras.layers.MaxPooling2D(2, padding=padding)(x)
    x = keras.layers.Conv2D(5, 3, padding=padding, activation="relu", name="b")(x)
    x = keras.layers.MaxPooling2D(2, padding=padding)(x)
    return keras.Model(image, keras.layers.Conv2D(2, 4, padding=padding, name="c")(x))


def dense(model, image):
    """The network with every stride 1, and what follows a pooling dilated by 2, 4."""
    x, rate = tf.constant(image[None]), 1
    for name in "abc":
        kernel, bias = model.get_layer(name).get_weights()
        x = tf.nn.conv2d(x, kernel, 1, "VALID", dilations=rate) + bias
        if name != "c":
            x = tf.nn.pool(tf.nn.relu(x), (2, 2), "MAX", strides=(1, 1), padding="VALID", dilations=(rate, rate))
            rate *= 2
    return x.numpy()[0]


def test_it_is_the_network_without_strides():
    model = coarse()
    for size in ((40, 33), (25, 43)):
        image = np.random.default_rng(0).uniform(0, 255, (*size, 3)).astype(np.float32)
        stitched = shift_and_stitch(model, image, 4)
        assert stitched.dtype == np.float32
        assert stitched.shape == (size[0] - FIELD + 1, size[1] - FIELD + 1, 2)
        np.testing.assert_allclose(stitched, dense(model, image), rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(stitched[::4, ::4], model(image[None]).numpy()[0])
    # Score [i, j] is what the network makes of the window that begins at pixel [i, j].
    windows = [image[i : i + FIELD, j : j + FIELD] for i in range(4) for j in range(22)]
    scores = model(np.stack(windows)).numpy().reshape(4, 22, 2)
    np.testing.assert_allclose(stitched, scores, rtol=1e-5, atol=1e-3)


def test_padding_matters_at_the_border_only():
    model, image = coarse("same"), np.random.default_rng(0).uniform(0, 255, (48, 41, 3)).astype(np.float32)
    stitched = shift_and_stitch(model, image, 4)
    assert stitched.shape == (48, 41, 2)
    np.testing.assert_array_equal(stitched[::4, ::4], model(image[None]).numpy()[0])
    # Without its padding the same network has its first score at 4 (a, b, c begin 1, 1 * 2 and 1 * 4 before the image;
    # the last one's window of 4 is padded by 1 at its beginning): 1 + 2 + 4 = 7.
    valid = coarse()
    valid.set_weights(model.get_weights())
    inside = dense(valid, image)
    np.testing.assert_allclose(stitched[8:-14, 8:-14], inside[1 : 1 + 48 - 22, 1 : 1 + 41 - 22], rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_fcns_own_scores_are_among_the_stitched():
    """A slice of FCN-32s: every 32nd stitched score is the network's. Its padding of 100 pixels leaves 6 more."""
    fcn = fcn_32s(3, width=1 / 64)
    model = keras.Model(fcn.input, fcn.get_layer("score_fr").output)
    image = np.random.default_rng(0).uniform(0, 255, (33, 34, 3)).astype(np.float32)
    stitched = shift_and_stitch(model, image, 32)
    assert stitched.shape == (39, 40, 3)
    np.testing.assert_allclose(stitched[::32, ::32], model(image[None]).numpy()[0], atol=1e-5)


def test_what_it_refuses():
    model, image = coarse(), np.zeros((30, 30, 3), np.float32)
    for stride, found in ((2, 8), (8, 32)):
        with pytest.raises(ValueError, match=rf"not {stride} pixels apart: .* make {found} scores more, not 16"):
            shift_and_stitch(model, image, stride)
    for stride in (0, 31, 2.0, True):
        with pytest.raises(ValueError, match="stride must be a whole number from 1 to the image's smaller side, 30"):
            shift_and_stitch(model, image, stride)
    with pytest.raises(ValueError, match="24 x 30 is too small: .* last shift, 21 x 27, has no score; pad it first"):
        shift_and_stitch(model, image[:24], 4)
    with pytest.raises(ValueError, match=r"expected an image \[H, W, 3\]"):
        shift_and_stitch(model, image[..., :1], 4)
