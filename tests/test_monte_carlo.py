"""Monte Carlo dropout against expectations over all dropout masks."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.inference import monte_carlo
from kerasseg.layers import BatchNorm, MonteCarloDropout
from kerasseg.models import bayesian_segnet

UNITS, K = 4, 3


@pytest.fixture(autouse=True)
def clear():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def tiny(rate=0.5, dropout=keras.layers.Dropout):
    """Returns a network of one pixel with four units to drop."""
    x = image = keras.Input((1, 1, 2), name="image")
    x = keras.layers.Conv2D(UNITS, 1, name="units")(x)
    x = BatchNorm(name="units_norm")(x)
    x = dropout(rate, name="dropout")(x)
    model = keras.Model(image, keras.layers.Conv2D(K, 1, name="logits")(x))
    weights = [np.linspace(low, high, UNITS) for low, high in ((1, 2), (-1, 1), (-1, 1), (1, 2))]
    model.get_layer("units_norm").set_weights(weights)
    return model


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def exact_moments(model, image, rate):
    """Returns mean and variance of the probabilities over all 2^4 masks."""
    units = keras.Model(model.input, model.get_layer("units_norm").output)(image, training=False).numpy()[0, 0, 0]
    kernel, bias = model.get_layer("logits").get_weights()
    masks = np.array(list(itertools.product((0, 1), repeat=UNITS)))
    weights = np.prod(np.where(masks == 1, 1 - rate, rate), -1)
    probabilities = softmax(masks * units / (1 - rate) @ kernel[0, 0] + bias)
    mean = weights @ probabilities
    return mean, weights @ (probabilities - mean) ** 2


@pytest.mark.parametrize("dropout", [keras.layers.Dropout, MonteCarloDropout])
@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_mean_and_variance_against_all_masks(rate, dropout):
    """Many copies of one image: each draws masks of its own."""
    model, image, samples = tiny(rate, dropout), np.array([[[[1.0, -2.0]]]], np.float32), 20
    mean, variance = monte_carlo(model, np.repeat(image, 2000, 0), samples=samples, seed=1)
    assert mean.dtype == variance.dtype == np.float32
    assert mean.shape == variance.shape == (2000, 1, 1, K)
    expected_mean, expected_variance = exact_moments(model, image, rate)
    assert expected_variance.max() > 0.01
    np.testing.assert_allclose(mean.mean((0, 1, 2)), expected_mean, atol=0.005)
    # The variance of n samples about their own mean is (n - 1)/n of the whole on average.
    np.testing.assert_allclose(variance.mean((0, 1, 2)) * samples / (samples - 1), expected_variance, rtol=0.02)


def test_more_samples_come_closer():
    model, image = tiny(), np.array([[[[1.0, -2.0]]]], np.float32)
    expected, _ = exact_moments(model, image, 0.5)
    many = np.repeat(image, 100, 0)
    errors = [np.abs(monte_carlo(model, many, n, seed=2)[0] - expected).mean() for n in (4, 64)]
    assert errors[1] < errors[0] / 3


def test_without_dropout_it_is_the_prediction():
    """Batch normalisation and all else are as at inference."""
    model, images = tiny(rate=0), np.random.default_rng(0).normal(size=(3, 1, 1, 2)).astype(np.float32)
    mean, variance = monte_carlo(model, images, samples=5)
    np.testing.assert_allclose(mean, softmax(model(images, training=False).numpy()), atol=1e-6)
    assert not variance.any()
    assert not monte_carlo(tiny(), images, samples=1)[1].any()


def test_the_model_is_not_changed():
    model, images = tiny(), np.ones((2, 1, 1, 2), np.float32)
    before, prediction = model.get_weights(), model(images, training=False).numpy()
    config = model.get_config()
    monte_carlo(model, images, samples=3)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(model(images, training=False), prediction)
    assert model.get_config() == config
    assert model.get_layer("dropout").output.shape == (None, 1, 1, UNITS)


def test_seeds():
    model, images = tiny(), np.ones((4, 1, 1, 2), np.float32)
    same = [monte_carlo(model, images, 4, seed=3)[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], monte_carlo(model, images, 4, seed=4)[0])
    assert not np.array_equal(*(monte_carlo(model, images, 4)[0] for _ in range(2)))
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        drawn.append(monte_carlo(model, images, 4)[0])
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.SpatialDropout2D(0.5),
        keras.layers.GaussianDropout(0.5),
        keras.layers.AlphaDropout(0.5),
        keras.Sequential([keras.Input((1, 1, UNITS)), keras.layers.Dropout(0.5)]),
    ],
)
def test_every_kind_of_dropout(layer):
    image = keras.Input((1, 1, 2))
    model = keras.Model(image, layer(keras.layers.Conv2D(UNITS, 1)(image)))
    images = np.ones((2, 1, 1, 2), np.float32)
    assert (monte_carlo(model, images, 10)[1] > 0).all()
    np.testing.assert_array_equal(*(model(images, training=False) for _ in range(2)))


@pytest.mark.parametrize("sampling", [False, True])
def test_bayesian_segnet(sampling):
    model = bayesian_segnet(K, width=1 / 16, sampling=sampling)
    images = np.random.default_rng(0).uniform(0, 255, (2, 33, 50, 3)).astype(np.float32)
    mean, variance = monte_carlo(model, images, samples=4, seed=0)
    assert mean.shape == variance.shape == (2, 33, 50, K)
    np.testing.assert_allclose(mean.sum(-1), 1, atol=1e-5)
    assert (variance > 0).mean() > 0.9
    one, two = (model(images, training=False) for _ in range(2))
    assert np.array_equal(one, two) != sampling


def test_what_it_refuses():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        monte_carlo(tiny(), np.ones((1, 1, 1, 2), np.float32), samples=0)

    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="(?i)functional"):
        monte_carlo(Subclassed(), np.ones((1, 1, 1, 2), np.float32))


def test_the_layer_stays_on_if_asked_to():
    x = tf.ones((1, 200))
    assert (MonteCarloDropout(0.5)(x, training=False).numpy() == 1).all()
    for layer in (MonteCarloDropout(0.5, sampling=True), MonteCarloDropout(0.5)):
        values = layer(x, training=not layer.sampling).numpy()
        assert set(np.unique(values)) == {0, 2}
