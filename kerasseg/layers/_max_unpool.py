"""Unpooling: values back to where max-pooling found its maxima."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class MaxUnpool2D(keras.layers.Layer):
    """Puts each value where the maximum of its pooling window was, and zeros everywhere else (SegNet, DeconvNet).

    Unpooling values by a pooling's maxima *is* the gradient of that max-pooling, taken at the values. TensorFlow's
    kernel for it is exact for ties (the first maximum of a window, in rows, has the value) and for odd sizes, and has a
    gradient itself; no indices are stored. On a CPU it runs in a fraction of the time of a scatter.

    Args:
        pool_size: Side of the pooling windows, which is their stride too.

    Call: `[values, pooled_from]`: [B, ceil(H/p), ceil(W/p), C], and [B, H, W, C], the tensor that
        `MaxPooling2D(pool_size, padding="same")` was given; returns [B, H, W, C].
    Reference: Badrinarayanan et al. 2015, arXiv:1511.00561; Noh et al. 2015, arXiv:1505.04366.
    """

    def __init__(self, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        if pool_size < 1:
            raise ValueError(f"pool_size must be at least 1, got {pool_size}")
        self.pool_size = pool_size

    def call(self, inputs):
        values, pooled_from = inputs
        window = {"ksize": [1, self.pool_size, self.pool_size, 1], "strides": [1, self.pool_size, self.pool_size, 1]}
        pooled = tf.raw_ops.MaxPool(input=pooled_from, padding="SAME", **window)
        return tf.raw_ops.MaxPoolGrad(orig_input=pooled_from, orig_output=pooled, grad=values, padding="SAME", **window)

    def compute_output_shape(self, input_shape):
        values, pooled_from = input_shape
        for inner, outer in zip(values[1:3], pooled_from[1:3], strict=True):
            if inner is not None and outer is not None and inner != -(-outer // self.pool_size):
                raise ValueError(
                    f"values of {tuple(values[1:3])} do not come from a {self.pool_size}x{self.pool_size} pooling of "
                    f"{tuple(pooled_from[1:3])}; expected the size of MaxPooling2D({self.pool_size}, padding='same')"
                )
        return tuple(pooled_from)

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size}
