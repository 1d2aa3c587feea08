"""Statistics of batch normalisation over the training set, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import models, training
from kerasseg.layers import BatchNorm
from kerasseg.spec import DataError

EPSILON = 1e-3


def pictures(number=3, batch=4):
    rng = np.random.default_rng(0)
    return rng.normal(1.0, 2.0, (number, batch, 6, 5, 3)).astype(np.float32)


def as_data(images):
    return tf.data.Dataset.from_tensor_slices((images, np.zeros(images.shape[:-1], np.int32)))


def two_norms(norm, **first):
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = norm(epsilon=EPSILON, name="first", **first)(image)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Conv2D(2, 1, use_bias=False, name="conv")(x)
    model = keras.Model(image, norm(epsilon=EPSILON, name="second")(x))
    for name in ("first", "second"):
        layer = model.get_layer(name)
        layer.gamma.assign(np.linspace(0.5, 2, layer.gamma.shape[0]))
        layer.beta.assign(np.linspace(-1, 1, layer.beta.shape[0]))
        layer.moving_mean.assign(np.full(layer.beta.shape, 3.0))
    return model


def averages(batches):
    """Mean of the batches' means and of m/(m - 1) times their variances."""
    flat = [batch.reshape(-1, batch.shape[-1]) for batch in batches]
    corrected = [len(x) / (len(x) - 1) * x.var(0) for x in flat]
    return np.mean([x.mean(0) for x in flat], 0), np.mean(corrected, 0)


def normalised(x, layer, mean, variance):
    return (x - mean) / np.sqrt(variance + EPSILON) * layer.gamma.numpy() + layer.beta.numpy()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("norm", [BatchNorm, keras.layers.BatchNormalization])
def test_statistics_by_hand(norm, frozen):
    model = two_norms(norm, trainable=not frozen)
    images = pictures()
    before = [variable.numpy() for variable in model.trainable_variables]
    assert training.recalculate_batch_norm(model, as_data(images).repeat(), 3) == (1 if frozen else 2)
    first, second = model.get_layer("first"), model.get_layer("second")
    if frozen:
        expected = np.full(3, 3.0), np.ones(3)
        outputs = [normalised(x, first, *expected) for x in images]
    else:
        expected = averages(images)
        outputs = [normalised(x, first, x.mean((0, 1, 2)), x.var((0, 1, 2))) for x in images]
    np.testing.assert_allclose(first.moving_mean.numpy(), expected[0], rtol=1e-5)
    np.testing.assert_allclose(first.moving_variance.numpy(), expected[1], rtol=1e-5)
    kernel = model.get_layer("conv").kernel.numpy()[0, 0]
    mean, variance = averages([x @ kernel for x in outputs])  # without dropout
    np.testing.assert_allclose(second.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(second.moving_variance.numpy(), variance, rtol=1e-4)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)

    # It works as before: at inference with the new statistics, and it trains.
    x = normalised(images[0], first, first.moving_mean.numpy(), first.moving_variance.numpy()) @ kernel
    x = normalised(x, second, second.moving_mean.numpy(), second.moving_variance.numpy())
    np.testing.assert_allclose(model(images[0], training=False).numpy(), x, atol=1e-4)
    model(images[0], training=True)
    assert not np.allclose(second.moving_mean.numpy(), mean)


def test_layers_of_a_network_are_found():
    model = models.segnet_basic(3)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.moving_variance.numpy() for layer in layers]
    assert training.recalculate_batch_norm(model, as_data(np.abs(pictures(1, 1).repeat(8, 2).repeat(8, 3))), 1) == 8
    assert len(layers) == 8
    for layer, old in zip(layers, before, strict=True):
        assert not np.allclose(layer.moving_variance.numpy(), old)


def test_too_few_batches_change_nothing():
    model = two_norms(BatchNorm)
    before = model.get_weights()
    with pytest.raises(DataError, match="averaged over 4 batches, the data hold 3"):
        training.recalculate_batch_norm(model, as_data(pictures()), 4)
    with pytest.raises(ValueError, match="num_batches must be positive, received 0"):
        training.recalculate_batch_norm(model, as_data(pictures()), 0)
    for ours, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, value)
