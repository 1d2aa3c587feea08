"""Uncertainty by Monte Carlo dropout."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow import keras

DROPOUTS = keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout


class _AlwaysOn(keras.layers.Layer):
    """Calls a layer as in training."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs, training=True)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


def monte_carlo(
    model: keras.Model, images: np.ndarray, samples: int = 40, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Predicts many times with dropout left on: what the network expects, and how sure it is.

        mean, variance = monte_carlo(model, images)
        mask, uncertainty = mean.argmax(-1), variance.mean(-1)

    All else is as at inference; batch normalisation keeps to its moving statistics. The model is copied (and its
    weights with it), not changed. Memory does not grow with the number of samples. Copying and tracing take seconds for
    a large network: give several images at once.

    Args:
        model: Functional or sequential; images [B, H, W, C] -> logits [B, h, w, K]. Its layers of dropout, those of
            models in it included, are left on; those hidden inside of other layers are not.
        images: [B, H, W, C] as the model takes them.
        samples: Number of predictions.
        seed: The same one gives the same samples. None: drawn from NumPy's global generator, which
            `keras.utils.set_random_seed` sets.

    Returns:
        tuple: Mean and variance (that of the samples: 0 for one) of the softmax probabilities, both float32
            [B, h, w, K]; of a model of one logit, [B, h, w, 2].
    Raises:
        ValueError: `samples` is less than 1, or the model is neither functional nor sequential.
    Reference: Gal & Ghahramani 2016, arXiv:1506.02142; Kendall et al. 2015, arXiv:1511.02680, section 4.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    sampler = sampler_of(model, seed)
    images = tf.convert_to_tensor(images, tf.float32)

    @tf.function(autograph=False)
    def update(number, mean, squares):
        """Takes one more sample into the mean and the sum of squared deviations from it (Welford 1962)."""
        logits = tf.cast(sampler(images, training=False), tf.float32)
        if one_logit:  # z becomes 0 and z, as in `kerasseg.losses`
            logits = tf.concat([tf.zeros_like(logits), logits], -1)
        probabilities = tf.nn.softmax(logits)
        deviation = probabilities - mean
        mean += deviation / number
        return mean, squares + deviation * (probabilities - mean)

    shape = model.compute_output_shape(images.shape)
    one_logit = shape[-1] == 1
    mean = squares = tf.zeros((*shape[:-1], 2 if one_logit else shape[-1]))
    for number in range(1, samples + 1):
        mean, squares = update(tf.constant(number, tf.float32), mean, squares)
    return mean.numpy(), squares.numpy() / samples


def moments(draw: Callable, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance of what `draw()` gives, float32 arrays of one shape, over that many calls."""
    mean = squares = np.float32(0)
    for number in range(1, samples + 1):
        drawn = draw()
        deviation = drawn - mean
        mean = mean + deviation / np.float32(number)
        squares = squares + deviation * (drawn - mean)
    return mean, squares / np.float32(samples)


def drops(model: keras.Model) -> bool:
    """Returns whether a model, or a model in it, has a layer of dropout."""
    return any(
        drops(layer) if isinstance(layer, keras.Model) else isinstance(layer, DROPOUTS) for layer in model.layers
    )


def sampler_of(model: keras.Model, seed: int | None) -> keras.Model:
    """Returns a copy of the model that draws a sample on each call, each of its layers of dropout differently."""
    seeds = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)

    def clone(layer):
        if isinstance(layer, keras.Model):
            return keras.models.clone_model(layer, clone_function=clone)
        config = layer.get_config()
        if not isinstance(layer, DROPOUTS):
            return type(layer).from_config(config)
        dropout = type(layer).from_config({**config, "seed": int(seeds.integers(2**31))})
        return _AlwaysOn(dropout, name=layer.name, dtype=layer.dtype_policy)

    sampler = clone(model)
    sampler.set_weights(model.get_weights())
    return sampler
