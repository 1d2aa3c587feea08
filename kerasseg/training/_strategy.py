"""Which devices train."""

import functools

import tensorflow as tf


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """Returns `MirroredStrategy` over all GPUs where there are two or more, else TensorFlow's default.

    Build and compile the model under `strategy().scope()`. Always the same object: a second MirroredStrategy in one
    process numbers its reductions like the first, and TensorFlow takes one for the other ("shape mismatch in the
    collective instance").
    """
    if len(tf.config.list_logical_devices("GPU")) >= 2:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
