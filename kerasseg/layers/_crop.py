"""Cropping one feature map to the size of another."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.spec import centre


@keras.utils.register_keras_serializable("kerasseg")
class CropLike(keras.layers.Layer):
    """Crops the first of two tensors to the height and width of the second.

    Args:
        offset: First row and column that is kept; None: the central window (the odd pixel is cut at the end).

    Call: `[x, like]`, [B, H, W, C] and [B, h, w, *] with h <= H, w <= W; returns [B, h, w, C].
    """

    def __init__(self, offset: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if offset is not None and offset < 0:
            raise ValueError(f"offset must be None or >= 0, got {offset}")
        self.offset = offset

    def call(self, inputs):
        x, like = inputs
        rows, columns = (self._window(x, like, axis) for axis in (1, 2))
        cropped = x[:, rows, columns, :]
        return tf.ensure_shape(cropped, (x.shape[0], like.shape[1], like.shape[2], x.shape[3]))

    def _window(self, x, like, axis):
        outer = x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]
        inner = like.shape[axis] if like.shape[axis] is not None else tf.shape(like)[axis]
        if self.offset is None:
            return centre(outer, inner)
        return slice(self.offset, self.offset + inner)

    def compute_output_shape(self, input_shape):
        x, like = input_shape
        start = self.offset or 0
        for outer, inner in zip(x[1:3], like[1:3], strict=True):
            if outer is not None and inner is not None and outer < start + inner:
                raise ValueError(f"cannot crop {tuple(x[1:3])} to {tuple(like[1:3])} from offset {start}: too small")
        return (x[0], like[1], like[2], x[3])

    def get_config(self):
        return {**super().get_config(), "offset": self.offset}
