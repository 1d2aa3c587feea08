"""Classifiers turned into convolutional networks: the same answers, at every place."""

import numpy as np
import pytest
import tensorflow as tf
from _rounding import rounding
from tensorflow import keras

from kerasseg.backbones import alexnet, vgg16
from kerasseg.models import convolutionize, fcn_32s

layers = keras.layers
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def images(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def sequential(shape, *members):
    return keras.Sequential([keras.Input(shape), *members])


def randomized(model):
    """Gives every weight, biases and statistics too, its own values."""
    model.set_weights([RNG.uniform(0.05, 0.3, w.shape) * RNG.choice([-1, 1], w.shape) for w in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.abs(w) for w in layer.get_weights()])
    return model


def lenet5(**options):
    return sequential(
        (32, 32, 1),
        layers.Conv2D(6, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh"),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(120, activation="tanh"),
        layers.Dense(84, activation="tanh"),
        layers.Dense(10, **options),
    )


def test_lenet_answers_in_every_window():
    """A 40 x 36 image gives 3 x 2 cells: the classifier on the 32 x 32 windows 4 pixels apart."""
    classifier = lenet5(activation="softmax")
    moved = convolutionize(classifier)
    assert classifier.count_params() == moved.count_params() == 61_706
    image = images(2, 40, 36, 1)
    scores = moved(image).numpy()
    assert scores.shape == (2, 3, 2, 10)
    for row, column in np.ndindex(3, 2):
        window = image[:, 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
        np.testing.assert_allclose(scores[:, row, column], classifier(window), atol=1e-6)
    assert np.ptp(scores[:, :, :, 0], axis=(1, 2)).min() > 1e-3  # the cells differ


def test_alexnet(zero_weights):
    image = keras.Input((227, 227, 3))
    with zero_weights():
        x = layers.Flatten(name="flatten")(alexnet(image)["pool5"])
        for i, units in enumerate((4096, 4096, 1000), start=6):
            x = layers.Dense(units, activation="relu" if units == 4096 else None, name=f"fc{i}")(x)
        classifier = keras.Model(image, x)
        # 61 million weights from 100,003 numbers: a period that no side of a kernel divides.
        noise = RNG.standard_normal(100_003).astype(np.float32)
        shapes = [tuple(w.shape) for w in classifier.weights]
        fans = [np.prod(shape[:-1]) if len(shape) == 4 else sum(shape) for shape in shapes]
        classifier.set_weights([np.resize(noise * (2 / n) ** 0.5, s) for s, n in zip(shapes, fans, strict=True)])
        moved = convolutionize(classifier)
    assert classifier.count_params() == moved.count_params() == 60_965_224
    assert tuple(moved.get_layer("fc6").kernel.shape) == (6, 6, 256, 4096)
    image = images(1, 227, 227, 3)
    expected = classifier(image).numpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(moved(image)[:, 0, 0], expected, atol=rounding(classifier, expected))
    assert moved(images(1, 259, 323, 3)).shape == (1, 2, 4, 1000)


def small_vgg16(num_classes=5):
    image = keras.Input((224, 224, 3))
    x = layers.Flatten()(vgg16(image, width=1 / 32)["pool5"])
    x = layers.Dropout(0.5)(layers.Dense(32, activation="relu", name="fc6")(x))
    x = layers.Dropout(0.5)(layers.Dense(32, activation="relu", name="fc7")(x))
    return keras.Model(image, layers.Dense(num_classes, activation="softmax", name="predictions")(x), name="vgg")


def test_vgg16_at_its_own_size_and_beyond():
    classifier = small_vgg16()
    moved = convolutionize(classifier)
    assert moved.name == "vgg"
    image = images(2, 224, 224, 3)
    np.testing.assert_allclose(moved(image)[:, 0, 0], classifier(image), atol=1e-6)
    assert moved.input_shape == (None, None, None, 3)
    for a, b in ((1, 0), (2, 3)):
        scores = moved(images(1, 224 + 32 * a, 224 + 32 * b, 3))
        assert scores.shape == (1, a + 1, b + 1, 5)
        np.testing.assert_allclose(tf.reduce_sum(scores, -1), np.ones((1, a + 1, b + 1)), rtol=1e-5)


def test_fc6_of_fcn_is_the_dense_layer():
    """A reshaped kernel, no transpose: at a 7 x 7 map the convolution is what the dense layer is."""
    fc6 = fcn_32s(2, width=1 / 64).get_layer("fc6")
    dense = layers.Dense(64)
    maps = images(2, 7, 7, 8)
    expected = dense(maps.reshape(2, -1))
    kernel, bias = dense.get_weights()
    fc6.set_weights([kernel.reshape(7, 7, 8, 64), bias])
    np.testing.assert_allclose(fc6(maps), expected.numpy()[:, None, None], atol=1e-5)


def test_what_was_copied_stays_apart():
    classifier = lenet5()
    before = classifier.get_weights()
    moved = convolutionize(classifier)
    assert [x.name for x in moved.layers[1:]] == [x.name for x in classifier.layers]
    moved.set_weights([w + 1 for w in moved.get_weights()])
    for one, two in zip(classifier.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "head",
    [
        lambda: [layers.GlobalAveragePooling2D(), layers.Dense(3)],
        lambda: [layers.GlobalMaxPooling2D(), layers.Dense(4, activation="relu"), layers.Dense(3)],
        lambda: [layers.Dropout(0.5), layers.Flatten(), layers.Dropout(0.5), layers.ReLU(), layers.Dense(3)],
        lambda: [layers.Flatten(), layers.Dense(4), layers.BatchNormalization(axis=1), layers.Dense(3)],
        lambda: [layers.Flatten(), layers.Dense(3, use_bias=False), layers.Softmax(axis=1)],
        lambda: [layers.Flatten(), layers.Dense(3), layers.Activation("softmax")],
        lambda: [layers.Dense(3), layers.GlobalAveragePooling2D()],
        lambda: [layers.Flatten(), layers.Dense(4 * 3 * 4), layers.Dense(4 * 3 * 4), layers.Dense(3)],
        lambda: [
            keras.Sequential([layers.Conv2D(2, 2), layers.BatchNormalization()]),
            layers.Flatten(),
            layers.Dense(3),
        ],
    ],
    ids=["average", "max", "dropout", "norm", "softmax", "activation", "dense_on_maps", "equal_lengths", "nested"],
)
def test_heads(head):
    """On images that are not square; without padding every cell is the classifier's answer there."""
    classifier = randomized(
        sequential((14, 12, 2), layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(3), *head())
    )
    moved = convolutionize(classifier)
    image = images(2, 20, 15, 2)
    scores = moved(image).numpy()
    assert scores.shape == (2, 3, 2, 3)
    for row, column in np.ndindex(3, 2):
        window = image[:, 3 * row : 3 * row + 14, 3 * column : 3 * column + 12]
        np.testing.assert_allclose(scores[:, row, column], classifier(window), rtol=1e-4, atol=1e-5)


def test_two_heads_of_a_functional_model():
    image = keras.Input((8, 8, 1))
    flat = layers.Flatten()(layers.Conv2D(2, 3)(image))
    classifier = keras.Model(image, [layers.Dense(2)(flat), layers.Dense(3)(flat)])
    moved = convolutionize(classifier)
    x = images(1, 8, 8, 1)
    for ours, theirs in zip(moved(x), classifier(x), strict=True):
        np.testing.assert_allclose(ours[:, 0, 0], theirs, atol=1e-6)


def test_saving_and_training(tmp_path):
    classifier = lenet5()
    classifier.layers[0].trainable = False
    classifier.compile("sgd", "mse")
    moved = convolutionize(classifier)
    assert len(moved.trainable_weights) == len(classifier.trainable_weights)
    moved.save(tmp_path / "moved.keras")
    image = images(1, 48, 48, 1)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "moved.keras")(image), moved(image))


def wide_head():
    image = keras.Input((8, 8, 1))
    flat = layers.Flatten()(image)
    return keras.Model(image, layers.Dense(2)(layers.Concatenate()([flat, flat])))


def vectors_within():
    inner = sequential((5,), layers.Dense(2))
    inner_input = keras.Input((8, 8, 1))
    return keras.Model(inner_input, inner(layers.Dense(5)(layers.Flatten()(inner_input))))


def small(*members):
    return sequential((8, 8, 1), *members, layers.Dense(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(layers.Reshape((64,), name="flat")), "layer 'flat' .Reshape. .*depends on the size"),
        (
            lambda: small(layers.Flatten(), layers.BatchNormalization(name="norm")),
            "layer 'norm' .BatchNormalization. cannot be moved over an image: it takes a flattened map of 8 x 8",
        ),
        (lambda: small(layers.Flatten(), layers.Activation("softmax", name="act")), "layer 'act'.*flattened map"),
        (lambda: small(layers.Flatten(), layers.LayerNormalization(name="norm")), "layer 'norm'.*only dense layers"),
        (lambda: small(layers.Flatten(data_format="channels_first")), "channels first"),
        (lambda: small(layers.GlobalMaxPooling2D(keepdims=True, name="top")), "layer 'top'.*keepdims"),
        (wide_head, "Concatenate.*only dense layers"),
        (vectors_within, "a model within has to take one image"),
        (lambda: sequential((8, 8, 1), layers.Conv2D(2, 3), layers.Flatten()), "ends with a flattened map"),
        (lambda: sequential((None, None, 1), layers.Conv2D(2, 3)), "expected a model of images of one size"),
        (lambda: sequential((8,), layers.Dense(2)), "expected a model of images of one size"),
        (lambda: keras.Sequential([layers.Dense(2)], name="unbuilt"), "and built, got 'unbuilt'"),
    ],
)
def test_what_cannot_be_moved_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        convolutionize(make())
