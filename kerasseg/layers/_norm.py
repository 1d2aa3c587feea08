"""Normalisation layers."""

import math
from collections.abc import Callable

import tensorflow as tf
from tensorflow import keras

NORMS = ("batch", "sync", "group", "frozen", "none")


@keras.utils.register_keras_serializable("kerasseg")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation over [B, H, W, C] with TensorFlow's fused kernel, which is also what TensorFlow 1 ran.

    Arguments, weights and config are those of `keras.layers.BatchNormalization`. What differs: the moving variance
    takes the *unbiased* batch variance, n/(n-1), as the kernel gives it and as the networks released from TensorFlow 1
    hold it; Keras 3 stores the biased one. Under a distribution strategy the moving statistics are the mean of the
    replicas'; with `synchronized=True` mean and variance themselves are those of the global batch.
    """

    def call(self, inputs, training=None, mask=None):
        gamma, beta = self._scale_and_shift()
        if not (training and self.trainable):
            outputs, _, _ = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                gamma,
                beta,
                mean=tf.cast(self.moving_mean, tf.float32),
                variance=tf.cast(self.moving_variance, tf.float32),
                epsilon=self.epsilon,
                is_training=False,
            )
            return outputs
        replica = tf.distribute.get_replica_context()
        alone = replica is None or replica.num_replicas_in_sync == 1
        if self.synchronized and not alone:
            outputs, mean, variance = self._synchronized(inputs, gamma, beta, replica)
        else:
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)
            if not alone:
                mean, variance = replica.all_reduce(tf.distribute.ReduceOp.MEAN, [mean, variance])
        self._update(self.moving_mean, mean)
        self._update(self.moving_variance, variance)
        return outputs

    def _scale_and_shift(self):
        channels = self.moving_mean.shape
        gamma = tf.cast(self.gamma, tf.float32) if self.scale else tf.ones(channels)
        beta = tf.cast(self.beta, tf.float32) if self.center else tf.zeros(channels)
        return gamma, beta

    def _synchronized(self, inputs, gamma, beta, replica):
        """Returns outputs, mean and unbiased variance over the global batch."""
        x = tf.cast(inputs, tf.float32)
        total = tf.distribute.ReduceOp.SUM
        count = replica.all_reduce(total, tf.cast(tf.reduce_prod(tf.shape(x)[:-1]), tf.float32))
        mean = replica.all_reduce(total, tf.reduce_sum(x, (0, 1, 2))) / count
        # From the mean, not as E[x²] - E[x]²: that would cancel.
        variance = replica.all_reduce(total, tf.reduce_sum(tf.math.squared_difference(x, mean), (0, 1, 2))) / count
        outputs = tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon)
        return tf.cast(outputs, inputs.dtype), mean, variance * count / tf.maximum(count - 1, 1)

    def _update(self, moving, new):
        old = tf.cast(moving, tf.float32)
        moving.assign(old + (tf.stop_gradient(new) - old) * (1 - self.momentum))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


def make_norm(
    norm: str | Callable,
    channels: int,
    *,
    name: str,
    momentum: float,
    epsilon: float,
    shift: float = 0.0,
    dtype=None,
):
    """Returns a normalisation layer, or None.

    Args:
        norm: "batch"; "sync" (statistics of the global batch of all replicas); "group" (up to 32 groups, of 4
            channels or more); "frozen" (batch normalisation with fixed statistics, scale and shift); "none"; or a
            callable that takes `name` and returns a layer.
        channels: Channels of the tensor it will normalise.
        name: Name of the layer.
        momentum, epsilon: Of the batch normalisations ("group" takes the epsilon).
        shift: What beta starts from.
        dtype: Type or precision policy of the layer; None: the global one. A callable is given the name alone.
    Raises:
        ValueError: `norm` is none of these.
    """
    if callable(norm):
        return norm(name=name)
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)} or a callable, got {norm!r}")
    if norm == "none":
        return None
    beta = keras.initializers.Constant(shift)
    if norm == "group":
        # A group of few channels says little on a 1x1 map; one of a single channel is constant there.
        groups = math.gcd(32, channels, max(channels // 4, 1))
        return keras.layers.GroupNormalization(groups, epsilon=epsilon, beta_initializer=beta, name=name, dtype=dtype)
    return BatchNorm(
        momentum=momentum,
        epsilon=epsilon,
        beta_initializer=beta,
        synchronized=norm == "sync",
        trainable=norm != "frozen",
        name=name,
        dtype=dtype,
    )
