"""Statistics of batch normalisation as averages over the training set."""

import contextlib

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.spec import DataError


def recalculate_batch_norm(model: keras.Model, batches: tf.data.Dataset, num_batches: int) -> int:
    """Replaces the moving statistics of batch normalisation by averages over batches, with the weights as they are.

    DeconvNet and SegNet train without moving statistics and compute them afterwards. Each batch goes through the model
    once, normalised by its own statistics as in training, but otherwise as at inference: without dropout (SegNet's
    script runs Caffe's TEST phase; DeconvNet has none). A layer's mean becomes the mean of the batches' means, its
    variance the mean of their unbiased variances, m/(m - 1) times the biased ones with m values a channel.

    Layers whose `trainable` is False (`norm="frozen"`) stay as they are, and normalise with the statistics they have.

    Args:
        model: With batch normalisation (`keras.layers.BatchNormalization` or one derived from it). On one device, not
            under a strategy's scope.
        batches: Elements (image [B, H, W, C], ...) as the model takes them; the training batches.
        num_batches: How many are averaged. DeconvNet took 501 of 28 images, SegNet the training set once.
    Returns:
        The number of layers changed.
    Raises:
        DataError: There are fewer batches.
        ValueError: `num_batches` is not positive.

    Source: DeconvNet `003_make_bn_layer_testable`, SegNet `Scripts/compute_bn_statistics.py`.
    Differs: SegNet's script means to correct the variance too, but Python 2 divides m by m - 1 to 1.
    """
    if num_batches < 1:
        raise ValueError(f"num_batches must be positive, received {num_batches}")
    layers = [
        layer
        for layer in model._flatten_layers()  # also those within other layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    before = [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in layers]
    result = before
    try:
        result = _averages(model, layers, batches, num_batches)
    finally:
        for layer, (mean, variance) in zip(layers, result, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
    return len(layers)


def _averages(model, layers, batches, num_batches):
    """Returns mean and variance for each layer; the moving statistics follow the batches meanwhile."""
    sums, done = [], 0
    with _watched(layers) as found:

        @tf.function(reduce_retracing=True)
        def statistics(image):
            found.clear()
            model(image, training=False)
            return [tf.reduce_mean(tf.stack(found[id(layer)]), 0) for layer in layers]

        for image, *_ in batches.take(num_batches):
            # In float64: many small numbers are added up.
            new = [value.numpy().astype(np.float64) for value in statistics(image)]
            sums = [a + b for a, b in zip(sums, new, strict=True)] if done else new
            done += 1
    if done < num_batches:
        raise DataError(f"batch normalisation was to be averaged over {num_batches} batches, the data hold {done}")
    return [total / done for total in sums]


@contextlib.contextmanager
def _watched(layers):
    """The layers work as in training, and note mean and unbiased variance of their inputs, until the block ends."""
    found = {}

    def watch(layer):
        usual = layer.call

        def call(inputs, *_, **__):
            axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]  # Keras 2 makes a list of it
            others = [i for i in range(inputs.shape.rank) if i != axis % inputs.shape.rank]
            x = tf.cast(inputs, tf.float32)
            mean, variance = tf.nn.moments(x, others)
            number = tf.cast(tf.reduce_prod(tf.gather(tf.shape(x), others)), tf.float32)
            found.setdefault(id(layer), []).append(tf.stack([mean, variance * number / tf.maximum(number - 1, 1)]))
            return usual(inputs, training=True)

        layer.call = call

    for layer in layers:
        watch(layer)
    try:
        yield found
    finally:
        for layer in layers:
            del layer.call
