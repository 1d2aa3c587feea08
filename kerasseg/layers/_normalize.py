"""The normalisation of images, as part of the model."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class Normalize(keras.layers.Layer):
    """(image - mean) / scale, so that training, evaluation and serving cannot disagree about it.

    Args:
        mean: What is subtracted: one value for all channels, or one per channel, in the order of the image. 0-255.
        scale: What the difference is divided by: likewise.
        bgr: Whether the first three channels change from RGB to BGR afterwards, as networks from Caffe take them.
            Further channels stay where they are; images of one or two channels are left as they are.

    Call: float [B, H, W, C]; returns the same shape.
    """

    def __init__(
        self,
        mean: float | tuple[float, ...] = 0.0,
        scale: float | tuple[float, ...] = 1.0,
        bgr: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mean = tuple(mean) if isinstance(mean, (tuple, list)) else float(mean)
        self.scale = tuple(scale) if isinstance(scale, (tuple, list)) else float(scale)
        self.bgr = bgr

    def call(self, inputs):
        # In float32: 16-bit floats hold no more than 8 or 11 bits of an image.
        image = (tf.cast(inputs, tf.float32) - tf.constant(self.mean)) / tf.constant(self.scale)
        if self.bgr and inputs.shape[-1] >= 3:
            image = tf.concat([tf.reverse(image[..., :3], [-1]), image[..., 3:]], -1)
        return tf.cast(image, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "scale": self.scale, "bgr": self.bgr}
