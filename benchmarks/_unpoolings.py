"""Contestants of `bench_unpooling.py`: a pooling, and an unpooling of other values to its maxima; with gradients."""

import numpy as np


def data(shape):
    """Returns what is pooled, with ties as after ReLU, and the values to unpool."""
    rng = np.random.default_rng(0)
    batch, height, width, channels = shape
    pooled = (batch, height // 2, width // 2, channels)
    return np.maximum(rng.normal(size=shape), 0).astype(np.float32), rng.normal(size=pooled).astype(np.float32)


def kerasseg(shape, gradients=False):
    import tensorflow as tf

    from kerasseg.layers import MaxUnpool2D

    layer = MaxUnpool2D()

    def unpool(x, values):
        return tf.nn.max_pool2d(x, 2, 2, "SAME"), layer([values, x], training=gradients)

    return _keras(unpool, shape, gradients)


def scatter(shape, gradients=False):
    """What is usually written: `max_pool_with_argmax`, and `scatter_nd` of the values to its indices."""
    import tensorflow as tf

    def unpool(x, values):
        pooled, places = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME", include_batch_in_index=True)
        flat = tf.scatter_nd(tf.reshape(places, (-1, 1)), tf.reshape(values, (-1,)), [tf.size(x, tf.int64)])
        return pooled, tf.reshape(flat, tf.shape(x))

    return _keras(unpool, shape, gradients)


def addons(shape, gradients=False):
    import tensorflow as tf
    import tensorflow_addons as tfa

    layer = tfa.layers.MaxUnpooling2D()

    def unpool(x, values):
        pooled, places = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")
        return pooled, layer(values, places)

    return _keras(unpool, shape, gradients)


def torch(shape, gradients=False, channels_last=True):
    import os

    import torch

    torch.set_num_threads(os.cpu_count())
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, values = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=layout) for a in data(shape))
    ones = torch.ones_like(x)

    def call():
        with torch.set_grad_enabled(gradients):
            for tensor in (x, values):
                tensor.requires_grad_(gradients)
                tensor.grad = None
            pooled, places = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
            unpooled = torch.nn.functional.max_unpool2d(values, places, 2)
            if gradients:
                torch.autograd.backward([pooled, unpooled], [values.detach(), ones])
        return pooled, unpooled

    return call


def _keras(unpool, shape, gradients):
    """Returns the call; what it gives stays where it was computed, as within a network."""
    import tensorflow as tf

    x, values = map(tf.constant, data(shape))
    ones = tf.ones_like(x)

    @tf.function(autograph=False)
    def call():
        with tf.GradientTape() as tape:
            tape.watch([x, values])
            results = unpool(tf.identity(x), tf.identity(values))
        # Both: what nothing reads would be cut out of the graph.
        return [*results, *tape.gradient(results, [x, values], [values, ones])] if gradients else results

    return call
