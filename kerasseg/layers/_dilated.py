"""The dilated convolution of images, with a gradient that every processor computes, and quickly."""

import contextlib
import contextvars
import functools

import numpy as np
import tensorflow as tf

_forward_only = contextvars.ContextVar("kerasseg_forward_only", default=False)


@contextlib.contextmanager
def forward_only():
    """Within it, dilated convolutions are traced without their gradient: one `Conv2D` operation each.

    For graphs of which nobody asks a gradient: inference, exports, what is read from a graph. It saves no time; it
    keeps the operation free of the `IdentityN` that TensorFlow hangs a custom gradient on.
    """
    token = _forward_only.set(True)
    try:
        yield
    finally:
        _forward_only.reset(token)


def dilated_conv2d(image: tf.Tensor, kernel: tf.Tensor, rates: tuple[int, int], padding) -> tf.Tensor:
    """Returns a convolution of stride 1 whose taps lie `rates` pixels apart.

    The forward pass is TensorFlow's `Conv2D` operation with its `dilations`. Its gradient is computed here on CPUs:
    TensorFlow's own is missing where oneDNN is off (`TF_ENABLE_ONEDNN_OPTS=0`, and by default on processors without
    AVX-512-VNNI), and where it is on, it is slower at the large rates of DeepLab (benchmarks/bench_dilation.py).
    For an upstream gradient U:

    - of the image: U convolved with the kernel turned by 180 degrees, its channels swapped, at the same rates;
    - of the kernel: for each tap one matrix product of U and of the image shifted by that tap, without the part that
      reads padding. At rate 18 on a map of 33 x 33 that is a fifth of the products.

    Both can be differentiated again. On a GPU, TensorFlow's own gradient is taken.

    Args:
        image: float [B, H, W, C].
        kernel: float [h, w, C, K], of the same type.
        rates: Vertical and horizontal, in pixels.
        padding: "SAME", "VALID", or zeros per side, ((top, bottom), (left, right)); at most the kernel's reach,
            (taps - 1) * rate, at each.
    """
    pads = _pads(kernel.shape[:2], rates, padding)

    def convolve(image, kernel):
        explicit = padding if isinstance(padding, str) else [(0, 0), *pads, (0, 0)]
        return tf.nn.conv2d(image, kernel, 1, explicit, dilations=rates)

    @tf.custom_gradient
    def differentiable(image, kernel):
        def gradient(upstream):
            turned = tf.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))
            reach = [(size - 1) * rate for size, rate in zip(kernel.shape[:2], rates, strict=True)]
            back = [(whole - before, whole - after) for whole, (before, after) in zip(reach, pads, strict=True)]
            of_image = dilated_conv2d(upstream, turned, rates, back)
            return of_image, _kernel_gradient(image, upstream, kernel.shape, rates, pads)

        return convolve(image, kernel), gradient

    has_own_gradient = _forward_only.get() or max(rates) == 1 or _on_gpu()
    return (convolve if has_own_gradient else differentiable)(image, kernel)


@functools.cache
def _on_gpu() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))


def _pads(size, rates, padding):
    """Returns the zeros before and after each side."""
    if padding == "VALID":
        return [(0, 0), (0, 0)]
    if padding != "SAME":
        return padding
    reach = [(taps - 1) * rate for taps, rate in zip(size, rates, strict=True)]
    return [(whole // 2, whole - whole // 2) for whole in reach]


def _kernel_gradient(image, upstream, shape, rates, pads):
    """Returns the gradient of the kernel, whose shape is [h, w, C, K]."""
    *size, in_channels, out_channels = shape
    sides = {x.ref(): [x.shape[axis] or tf.shape(x)[axis] for axis in (1, 2)] for x in (image, upstream)}

    def spans(axis, tap):
        """Returns where along an axis upstream's places read the image and not its padding: of both, (first, end)."""
        shift = tap * rates[axis] - pads[axis][0]  # place i of the output reads pixel i + shift
        first, ends = max(0, -shift), (sides[upstream.ref()][axis], sides[image.ref()][axis] - shift)
        if all(isinstance(end, int) for end in ends):
            end = max(first, min(ends))
        else:
            end = tf.maximum(first, tf.minimum(*ends))
        return (first, end), (first + shift, end + shift)

    def product(i, j):
        (top, bottom), (image_top, image_bottom) = spans(0, i)
        (left, right), (image_left, image_right) = spans(1, j)
        read = image[:, image_top:image_bottom, image_left:image_right]
        written = upstream[:, top:bottom, left:right]
        rows = tf.reshape(read, (-1, in_channels)), tf.reshape(written, (-1, out_channels))
        return tf.matmul(*rows, transpose_a=True)

    taps = [product(i, j) for i, j in np.ndindex(*size)]
    return tf.reshape(tf.stack(taps), shape)
