"""Input normalisation by each image's own grey values."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class StandardizeImage(keras.layers.Layer):
    """(image - its mean) / its standard deviation: stain, lamp and exposure of an image no longer matter.

    Mean and deviation are over all pixels and channels of an image, so colours keep their relations. An image that is
    nearly of one value is not blown up: the deviation counts as `floor` at least.

    Args:
        floor: Smallest divisor, grey levels of 0-255.

    Call: float [B, H, W, C]; returns the same shape. Computed in float32.
    """

    def __init__(self, floor: float = 8.0, **kwargs):
        super().__init__(**kwargs)
        self.floor = float(floor)

    def call(self, inputs):
        image = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(image, [1, 2, 3], keepdims=True)
        return tf.cast((image - mean) / tf.maximum(tf.sqrt(variance), self.floor), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "floor": self.floor}
