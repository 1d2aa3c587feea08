"""Local response normalisation."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class LocalResponseNorm(keras.layers.Layer):
    """x / (1 + alpha / size * sum of x² over `size` neighbouring channels) ^ beta, as Caffe computes it.

    Args:
        size: Channels that take part, centred on the one normalised; odd.
        alpha, beta: See the formula. (TensorFlow's own function does not divide alpha by the size.)

    Call: [B, H, W, C]; returns the same shape. Computed in float32.
    Reference: Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, **kwargs):
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be odd and at least 1, got {size}")
        self.size, self.alpha, self.beta = size, alpha, beta

    def call(self, inputs):
        normalized = tf.nn.local_response_normalization(
            tf.cast(inputs, tf.float32), self.size // 2, bias=1.0, alpha=self.alpha / self.size, beta=self.beta
        )
        return tf.cast(normalized, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta}
