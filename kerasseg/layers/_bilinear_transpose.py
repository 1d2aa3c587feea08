"""Bilinear upsampling as a transposed convolution."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

PADDINGS = ("valid", "same")


def bilinear_taps(size: int) -> np.ndarray:
    """Returns the weights of a bilinear kernel along one side: float32 [size], rising to the middle and falling."""
    half = (size + 1) // 2
    middle = half - 1 if size % 2 else half - 0.5
    return np.float32(1 - np.abs(np.arange(size) - middle) / half)


@keras.utils.register_keras_serializable("kerasseg")
class BilinearConv2DTranspose(keras.layers.Layer):
    """Transposed convolution of K channels to K channels that starts as bilinear upsampling, each class by itself.

    With kernel_size = 2 * strides (or 2 * strides - 1) the taps sum to the stride, so that what goes in constant comes
    out constant, but for the outer (kernel_size - strides) / 2 pixels, where it fades to zero.

    The kernel is a weight [kernel_size, kernel_size, K, K] in the fixed form too: it is stored and counted as the
    authors' is, and weights from a model that learned it load into it.

    Args:
        kernel_size: Side of the kernel; at least `strides`.
        strides: Factor of upsampling.
        padding: "valid": n cells become (n - 1) * strides + kernel_size. "same": n * strides, which is the former
            without the first (kernel_size - strides) // 2 and as many at the end (or one more).
        learned: Whether the kernel is trained; a fixed one stays fixed when `trainable` is set on the layer or model.
        use_bias: Whether a bias, starting at zero, is added; learned or fixed likewise.

    Call: [B, H, W, K]; returns the upsampled map.
    Reference: Long et al. 2015, arXiv:1411.4038, section 3.3; `surgery.py` of the authors' release.
    """

    def __init__(
        self,
        kernel_size: int,
        strides: int,
        padding: str = "valid",
        learned: bool = False,
        use_bias: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
        if not 1 <= strides <= kernel_size:
            raise ValueError(
                f"strides must be at least 1 and at most kernel_size, or pixels stay empty: got strides={strides}, "
                f"kernel_size={kernel_size}"
            )
        self.kernel_size, self.strides, self.padding = kernel_size, strides, padding
        self.learned, self.use_bias = learned, use_bias

    def build(self, input_shape):
        super().build(input_shape)
        channels = input_shape[-1]
        # For tf.nn.conv2d_transpose: rows, columns, channels out, channels in.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, channels),
            initializer=_bilinear,
            trainable=self.learned,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(channels,), initializer="zeros", trainable=self.learned)

    def call(self, inputs):
        actual = tf.shape(inputs)
        batch, height, width = (actual[axis] if n is None else n for axis, n in enumerate(inputs.shape[:3]))
        outputs = tf.nn.conv2d_transpose(
            inputs,
            tf.cast(self.kernel, inputs.dtype),
            tf.stack([batch, self._upsampled(height), self._upsampled(width), inputs.shape[-1]]),
            self.strides,
            self.padding.upper(),
        )
        if self.bias is not None:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, outputs.dtype))
        return tf.ensure_shape(outputs, self.compute_output_shape(inputs.shape))

    def _upsampled(self, n):
        return n * self.strides if self.padding == "same" else (n - 1) * self.strides + self.kernel_size

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(None if n is None else self._upsampled(n) for n in sides), channels)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "learned": self.learned,
            "use_bias": self.use_bias,
        }


def _bilinear(shape, dtype=None, **_):
    taps = bilinear_taps(shape[0])
    kernel = taps[:, None, None, None] * taps[:, None, None] * np.eye(shape[2], shape[3])
    return tf.cast(kernel, dtype or tf.float32)
