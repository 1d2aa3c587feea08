"""Receptive fields and multiply-adds: against gradients, against a count by hand, and against published figures."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.backbones import resnet_v2, vgg16
from kerasseg.inspection import convolutions, multiply_adds, receptive_field
from kerasseg.layers import AtrousConv2D, BatchNorm, CropLike, MaxUnpool2D, Resize
from kerasseg.models import deeplab_v3, unet

PADS = [[0, 0], [0, 0]]


def layers(*sequence):
    return lambda x: _chain(x, sequence)


def _chain(x, sequence):
    for layer in sequence:
        x = layer(x)
    return x


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


def conv(size=3, stride=1, padding="same", dilation=1):
    return AtrousConv2D(1, size, stride, padding=padding, dilation_rate=dilation, kernel_initializer="ones")


def unpooled(x):
    return conv()(MaxUnpool2D()([keras.layers.MaxPooling2D(2, padding="same")(x), x]))


def cropped(x):
    small = conv(7, padding="valid")(x)
    return keras.layers.Concatenate()([CropLike(offset=2)([x, small]), small])


GRAPHS = {
    "convolutions": layers(conv(), conv(5, padding="valid"), conv(3, dilation=4)),
    "even kernel": layers(conv(2), conv(4, 2)),
    "strides": layers(conv(3, 2), keras.layers.MaxPooling2D(3, 2, padding="same"), conv(3, dilation=2)),
    "normalized": layers(conv(), BatchNorm(), conv(3, dilation=2)),
    "average": layers(keras.layers.AveragePooling2D(4, 3), conv()),
    "padded": layers(keras.layers.ZeroPadding2D(9), conv(7, 2, padding="valid")),
    "transposed": layers(
        conv(3, 4),
        keras.layers.Conv2DTranspose(1, 8, 4, padding="same", kernel_initializer="ones"),
        keras.layers.Conv2DTranspose(1, 4, 2, padding="valid", kernel_initializer="ones"),
    ),
    "half pixel": layers(conv(3, 4), Resize(scale=4)),
    "legacy": layers(conv(3, 2), Resize(scale=3, sampling="legacy")),
    "align corners": layers(conv(3, 4), Resize(scale=3, sampling="align_corners")),
    "unpooled": unpooled,
    "cropped": cropped,
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_receptive_field_against_gradients(graph):
    """Kernels of ones and a random image: the gradient is not zero just where a place depends on the image."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    model = keras.Model(image, GRAPHS[graph](image))
    # The field of a gradient ends at zero weights, which a pooling by maximum and aligned corners have here and there:
    # the largest over many places and images is the field.
    size, seeds = 73, 12 if graph == "unpooled" else 4
    largest = 0
    images = [np.random.default_rng(seed).uniform(1, 2, (size, size, 1)) for seed in range(seeds)]
    x = tf.constant(np.stack(images).astype(np.float32))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = model(x)
        middle = y.shape[1] // 2
        values = [tf.reduce_sum(y[:, place, place]) for place in range(middle - 4, middle + 8)]
    for value in values:
        for gradient in tape.gradient(value, x).numpy():
            rows = np.flatnonzero(np.abs(gradient[..., 0]).max(1) > 1e-6)
            largest = max(largest, rows[-1] - rows[0] + 1)
    field = receptive_field(model)
    if graph == "unpooled":  # Which of a window is the largest depends on all of it; a gradient does not tell that.
        assert field == (4, 4)
        assert largest <= 4
        return
    assert field == (largest, largest)


def test_published_receptive_fields():
    """Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill 2019, table 1."""
    image = keras.Input((None, None, 3))
    assert receptive_field(keras.Model(image, vgg16(image, width=1 / 64)["pool5"])) == (212, 212)
    for name, field in (("resnet_v2_50", 483), ("resnet_v2_101", 1027)):
        options = {"output_stride": 32, "multi_grid": (1, 1, 1), "norm": identity}
        features = resnet_v2(image, name, width=1 / 32, **options)["features"]
        assert receptive_field(keras.Model(image, features)) == (field, field)


def test_of_a_layer():
    model = unet(2, filters=1)
    assert receptive_field(model, "bottom_relu2") == (140, 140)
    assert receptive_field(model, "down1_relu2") == (5, 5)
    with pytest.raises(ValueError, match="reaches the border of an image of 188 pixels"):
        receptive_field(unet(2, filters=1, input_shape=(188, 188, 3)))


def test_image_level_features_do_not_count():
    with_pool = deeplab_v3(2, width=1 / 32, norm=identity)
    branches = keras.Model(with_pool.input, with_pool.get_layer("aspp_branch3_conv").output)
    assert receptive_field(with_pool)[0] == receptive_field(branches)[0] + 16 * 1  # two neighbours are interpolated


def test_multiply_adds_by_hand():
    image = keras.Input((9, 9, 3))
    x = conv(3, 2)(image)  # 5 x 5 places, 3 x 3 x 3 weights
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)  # 5 x 5 x 3 x 3 x 2
    x = AtrousConv2D(4, 1, groups=2)(x)  # 5 x 5 x 1 x 4
    x = keras.layers.Conv2DTranspose(3, 4, 2)(x)  # 5 x 5 x 4 x 4 x 4 x 3
    model = keras.Model(image, keras.layers.Dense(7)(keras.layers.Flatten()(x)))
    expected = 25 * (27 + 18 + 4 + 192) + 12 * 12 * 3 * 7
    assert multiply_adds(model, 9) == expected


def test_published_multiply_adds():
    """VGG16's convolutions at 224: 15.35 G. U-Net at 572: 301 GFLOP, of two per multiply-add."""
    image = keras.Input((None, None, 3))
    narrow = multiply_adds(keras.Model(image, vgg16(image, width=1 / 4)["pool5"]), 224)
    first = 224 * 224 * 27 * 16  # grows with the width, all others with its square
    assert 16 * (narrow - first) + 4 * first == 15_346_630_656


def test_convolutions_are_read_from_the_graph():
    found = {each.layer: each for each in convolutions(deeplab_v3(2, width=1 / 32, norm=identity), 65)}
    rate = found["block4_unit3_conv2"]
    assert (rate.kind, rate.kernel, rate.strides, rate.dilations) == ("conv", (3, 3), (1, 1), (8, 8))
    assert rate.output_shape == (5, 5, 16)
    image = keras.Input((None, None, 3))
    halves = keras.layers.Lambda(
        lambda x: tf.batch_to_space(tf.nn.relu(tf.space_to_batch(x, [2, 2], PADS)), [2, 2], PADS), name="cut"
    )
    with pytest.raises(ValueError, match="layer 'cut' computes more than one convolution between space-to-batch and"):
        convolutions(keras.Model(image, halves(image)), 32)
    with pytest.raises(ValueError, match="receptive field of operation BatchToSpaceND .* is not known"):
        receptive_field(keras.Model(image, halves(image)))


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("kind", [keras.layers.DepthwiseConv2D, functools.partial(keras.layers.Conv2D, 3)])
def test_dilated_convolutions_of_keras_are_seen_through_space_to_batch(kind, size):
    image = keras.Input((None, None, 3))
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same", name="first")(image)
    x = kind(kernel_size=3, padding="same", dilation_rate=6, name="second")(x)
    model = keras.Model(image, kind(kernel_size=5, dilation_rate=2, name="third")(x))
    wider = 1 if kind is keras.layers.DepthwiseConv2D else 3
    first, second, third = convolutions(model, size)
    side = -(-size // 2)
    assert (first.layer, first.strides, first.dilations) == ("first", (2, 2), (1, 1))
    assert (second.layer, second.kind, second.kernel) == ("second", "depthwise" if wider == 1 else "conv", (3, 3))
    assert (second.strides, second.dilations, second.output_shape) == ((1, 1), (6, 6), (side, side, 3))
    assert (third.dilations, third.output_shape) == ((2, 2), (side - 8, side - 8, 3))
    assert multiply_adds(model, size) == (1 + wider) * side**2 * 27 + wider * (side - 8) ** 2 * 75
    assert receptive_field(model, "second") == (3 + 12 * 2, 3 + 12 * 2)
    assert receptive_field(model) == (3 + 12 * 2 + 8 * 2, 3 + 12 * 2 + 8 * 2)
