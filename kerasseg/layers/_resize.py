"""Bilinear resizing with a stated sampling grid."""

import tensorflow as tf
from tensorflow import keras

SAMPLINGS = ("half_pixel", "legacy", "align_corners")


@keras.utils.register_keras_serializable("kerasseg")
class Resize(keras.layers.Layer):
    """Resizes bilinearly by a factor, or to the size of a second tensor. Computed in float32.

    Args:
        scale: Integer factor; None: the input is a list `[x, like]` and `x` takes the height and width of `like`.
        sampling: Where output pixel i samples the input, with n input and m output pixels:
            "half_pixel": (i + 0.5) * n / m - 0.5 (TensorFlow 2, OpenCV, PyTorch's default);
            "legacy": i * n / m (TensorFlow 1's default, the original DeepLab-v3 code);
            "align_corners": i * (n - 1) / (m - 1) (TensorFlow's own DeepLab).

    Call: [B, H, W, C] or `[[B, H, W, C], [B, h, w, *]]`; returns [B, scale*H, scale*W, C] or [B, h, w, C].
    """

    def __init__(self, scale: int | None = None, sampling: str = "half_pixel", **kwargs):
        super().__init__(**kwargs)
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling!r}")
        self.scale, self.sampling = scale, sampling

    def call(self, inputs):
        x, like = (inputs, None) if self.scale else inputs
        size = tf.shape(x)[1:3] * self.scale if self.scale else tf.shape(like)[1:3]
        resized = tf.raw_ops.ResizeBilinear(
            images=tf.cast(x, tf.float32),
            size=size,
            align_corners=self.sampling == "align_corners",
            half_pixel_centers=self.sampling == "half_pixel",
        )
        shapes = tuple(x.shape) if like is None else [tuple(x.shape), tuple(like.shape)]
        resized = tf.ensure_shape(resized, self.compute_output_shape(shapes))
        return tf.cast(resized, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if self.scale is None:
            x, like = input_shape
            return (x[0], like[1], like[2], x[3])
        batch, *sides, channels = input_shape
        return (batch, *(None if n is None else n * self.scale for n in sides), channels)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "sampling": self.sampling}
