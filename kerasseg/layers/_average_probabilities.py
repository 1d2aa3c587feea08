"""The mean of several predictions."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class AverageProbabilities(keras.layers.Layer):
    """Logits whose softmax is the mean of the softmaxes of several logits. Computed in float32.

    The result is the log of that mean, so whatever takes logits (losses, metrics, blending, export) takes it. With one
    class, sigmoid stands for softmax.

    Call: a list of float [B, H, W, K]; returns [B, H, W, K].
    """

    def call(self, inputs):
        logits = tf.stack([tf.cast(x, tf.float32) for x in inputs])
        if logits.shape[-1] == 1:
            # The logit of a mean p: log(p) - log(1 - p), with both logs by themselves, as 1 - p loses digits near 1.
            mean = _log_sum(tf.math.log_sigmoid(logits)) - _log_sum(tf.math.log_sigmoid(-logits))
        else:
            mean = _log_sum(tf.nn.log_softmax(logits)) - tf.math.log(float(len(inputs)))
        return tf.cast(mean, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])


def _log_sum(logs):
    return tf.reduce_logsumexp(logs, axis=0)
