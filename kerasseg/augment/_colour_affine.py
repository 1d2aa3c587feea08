"""The fast colour option: brightness, saturation, hue and contrast of an RGB image as one affine map of its pixels.

In two forms with the same maths: TensorFlow graph ops, and OpenCV on arrays (`..._cv`).
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasseg._opencv import cv2

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""NTSC's luma and two axes of chroma, those of `tf.image.rgb_to_yiq` to four digits, where grey has no chroma."""

_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_CHROMA = (_FROM_YIQ @ np.diag([0, 1, 1]) @ _TO_YIQ).astype(np.float32)
"""RGB to RGB without its luma."""
_TURNED_CHROMA = (_FROM_YIQ @ np.array([[0, 0, 0], [0, 0, 1], [0, -1, 0]]) @ _TO_YIQ).astype(np.float32)
"""The same, its hue a quarter of the circle further, which is clockwise in the plane of I and Q."""


class ColourMap(NamedTuple):
    """out = matrix x + mean_matrix mean(x) + offset, for pixels x as RGB 0-255 and their mean over the image."""

    matrix: tf.Tensor
    """float32 [..., 3, 3]"""
    mean_matrix: tf.Tensor
    """float32 [..., 3, 3]"""
    offset: tf.Tensor
    """float32 [..., 3], 0-255"""


def colour_map(brightness, saturation, hue, contrast) -> ColourMap:
    """Returns the map of the four adjustments that `distort_colour` makes, here linear in the pixel.

    Brightness and contrast are `tf.image`'s. Saturation scales the chroma in YIQ and hue turns it there, which keeps
    the luma; `tf.image` does both in HSV, which keeps the largest channel. The two agree in direction (a hue of 1/3
    takes red towards green, a saturation of 0 leaves grey) and not in values.

    Linear steps commute: contrast is about the mean colour, which the other steps carry along, and brightness adds a
    grey, which saturation and hue leave alone. So all of `COLOUR_ORDERS` are one map, which takes the image's own mean.

    Args:
        brightness: float32 [...], added, on the scale 0-1.
        saturation: float32 [...], factor.
        hue: float32 [...], added, as a fraction of the circle, -1 to 1.
        contrast: float32 [...], factor of the distance from the channel's mean.

    Returns:
        The map, exactly the identity where the arguments are 0, 1, 0 and 1.
    """
    brightness, saturation, hue, contrast = (
        tf.convert_to_tensor(value, tf.float32) for value in (brightness, saturation, hue, contrast)
    )
    angle = 2 * math.pi * hue
    # As a change of the identity, so that rounding leaves the identity exact.
    along, across = saturation * tf.cos(angle) - 1, saturation * tf.sin(angle)
    chroma = tf.eye(3) + _square(along) * _CHROMA + _square(across) * _TURNED_CHROMA
    contrast = _square(contrast)
    offset = tf.repeat(255 * brightness[..., tf.newaxis], 3, axis=-1)
    return ColourMap(contrast * chroma, (1 - contrast) * chroma, offset)


def apply_colour_map(image: tf.Tensor, colour_map: ColourMap) -> tf.Tensor:
    """Maps an image's colours.

    Args:
        image: [..., H, W, 3], RGB, 0-255, any dtype.
        colour_map: With the image's leading dimensions.

    Returns:
        float32 [..., H, W, 3], clipped to 0-255.
    """
    image = tf.cast(image, tf.float32)
    mean = tf.reduce_mean(image, axis=[-3, -2])
    offset = tf.linalg.matvec(colour_map.mean_matrix, mean) + colour_map.offset
    shape = tf.shape(image)
    pixels = tf.reshape(image, tf.concat([shape[:-3], [shape[-3] * shape[-2], 3]], 0))
    pixels = tf.matmul(pixels, colour_map.matrix, transpose_b=True) + offset[..., tf.newaxis, :]
    return tf.ensure_shape(tf.reshape(tf.clip_by_value(pixels, 0, 255), shape), image.shape)


def apply_colour_map_cv(
    image: np.ndarray, matrix: np.ndarray, mean_matrix: np.ndarray, offset: np.ndarray, mean: np.ndarray | None = None
) -> np.ndarray:
    """Maps an array's colours; within one level of `apply_colour_map`, rounded.

    Args:
        image: uint8 or float32 [H, W, 3], RGB, 0-255.
        matrix: float32 [3, 3], as are all of a `ColourMap`'s parts, of one image.
        mean_matrix: float32 [3, 3].
        offset: float32 [3].
        mean: float32 [3], the image's mean colour, where it is known already.

    Returns:
        An array as `image`, saturated at 0 and 255.
    """
    if mean is None:
        mean = cv2.mean(image)[:3]
    full = np.empty((3, 4), np.float32)
    full[:, :3] = matrix
    full[:, 3] = np.asarray(mean_matrix) @ np.asarray(mean, np.float32) + offset
    mapped = cv2.transform(image, full)
    return mapped if mapped.dtype == np.uint8 else np.clip(mapped, 0, 255, out=mapped)


def _square(value):
    return value[..., tf.newaxis, tf.newaxis]
