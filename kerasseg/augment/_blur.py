"""Gaussian blur, in two forms with the same maths: TensorFlow graph ops, and OpenCV on arrays (`..._cv`).

The kernel reaches 4 sigma (rounded) and the image is mirrored at its borders without repeating the edge pixel, as in
`scipy.ndimage.gaussian_filter(mode="mirror")`.
"""

import numpy as np
import tensorflow as tf

from kerasseg._opencv import cv2

_TRUNCATE = 4.0


def gaussian_blur(image: tf.Tensor, sigma) -> tf.Tensor:
    """Blurs an image.

    Args:
        image: [H, W, C], 0-255, any number of channels.
        sigma: Pixels, at least 0; float or scalar tensor. At 0 the pixels are untouched.

    Returns:
        float32 [H, W, C].
    """
    image = tf.cast(image, tf.float32)
    sigma = tf.cast(sigma, tf.float32)

    def blurred():
        kernel, reach = gaussian_kernel(sigma)
        padded = image
        for axis in range(2):
            size = tf.shape(image)[axis]
            padded = tf.gather(padded, mirrored(tf.range(-reach, size + reach), size), axis=axis)
        column = tf.tile(kernel[:, tf.newaxis, tf.newaxis, tf.newaxis], [1, 1, tf.shape(image)[2], 1])
        result = tf.nn.depthwise_conv2d(padded[tf.newaxis], column, [1, 1, 1, 1], "VALID")
        return tf.nn.depthwise_conv2d(result, tf.transpose(column, [1, 0, 2, 3]), [1, 1, 1, 1], "VALID")[0]

    return tf.ensure_shape(tf.cond(sigma > 0, blurred, lambda: image), image.shape)


def gaussian_blur_cv(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs an array; `gaussian_blur`, rounded where the array holds integers.

    Args:
        image: uint8, uint16 or float32 [H, W, C].
        sigma: Pixels, at least 0. At 0 the array itself is returned.

    Returns:
        An array as `image`.
    """
    side = 2 * int(_TRUNCATE * sigma + 0.5) + 1
    if side == 1 or not image.size:
        return image
    kernel = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
    # Not cv2.GaussianBlur, whose fixed-point kernel for uint8 is off by more than a level, and slower.
    blurred = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return blurred.reshape(image.shape)  # OpenCV drops a single channel's axis


def gaussian_kernel(sigma: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the weights, float32 [2 reach + 1], of sum 1, and their reach in pixels, int32; sigma above 0."""
    reach = tf.cast(_TRUNCATE * sigma + 0.5, tf.int32)
    kernel = tf.exp(-0.5 * (tf.cast(tf.range(-reach, reach + 1), tf.float32) / sigma) ** 2)
    return kernel / tf.reduce_sum(kernel), reach


def mirrored(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns which of 0 to size - 1 an integer index of any distance shows, with mirrors at 0 and at size - 1."""
    period = tf.maximum(2 * (size - 1), 1)
    index = tf.math.floormod(index, period)
    return tf.where(index < size, index, period - index)
