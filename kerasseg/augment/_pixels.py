"""What happens to single pixels: noise, cutout, and windowing of intensities.

In two forms with the same maths: TensorFlow graph ops, and NumPy and OpenCV on arrays (`..._cv`).
"""

import numpy as np
import tensorflow as tf

from kerasseg._opencv import cv2
from kerasseg.spec import to_255


def gaussian_noise(image: tf.Tensor, std, seed) -> tf.Tensor:
    """Adds normal noise, independent for each pixel and channel.

    Args:
        image: [H, W, C], 0-255.
        std: Its standard deviation, of 0-255; float or scalar tensor. At 0 the pixels are untouched.
        seed: Integers [2].

    Returns:
        float32 [H, W, C], clipped to 0-255.
    """
    image = tf.cast(image, tf.float32)
    std = tf.cast(std, tf.float32)

    def noisy():
        return tf.clip_by_value(image + tf.random.stateless_normal(tf.shape(image), seed, stddev=std), 0, 255)

    return tf.ensure_shape(tf.cond(std > 0, noisy, lambda: image), image.shape)


def gaussian_noise_cv(image: np.ndarray, std: float, seed: int) -> np.ndarray:
    """`gaussian_noise` with OpenCV, of other noise that depends on `seed` alone.

    OpenCV's generator belongs to the thread, which is left with another state. It is five times as fast as NumPy's
    (513 x 513 x 3 in 2 ms).

    Args:
        image: uint8 or float32 [H, W, C], 0-255.
        std: As in `gaussian_noise`.
        seed: Integer, at least 0.

    Returns:
        An array as `image`, saturated at 0 and 255; at a `std` of 0 the array itself.
    """
    if not std or not image.size:
        return image
    # The first numbers after a seed are the seed again, hardly mixed: they are drawn and forgotten.
    cv2.setRNGSeed(int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1))
    cv2.randu(np.empty((1, 16), np.float32), 0, 1)
    flat = image.reshape(image.shape[0], -1)  # as one channel: of several, OpenCV takes a mean and deviation each
    noise = cv2.randn(np.empty(flat.shape, np.float32), 0, float(std))
    noisy = cv2.add(flat, noise, dtype=cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_32F)
    return (noisy if image.dtype == np.uint8 else np.clip(noisy, 0, 255, out=noisy)).reshape(image.shape)


def cutout(image: tf.Tensor, boxes: tf.Tensor, fill=0) -> tf.Tensor:
    """Covers boxes of an image with one colour.

    The mask keeps its labels: the network is to learn what lies under the cover from what lies around it, as the
    class of an image with a part cut out stays the same. Where that asks too much, take those pixels out of the loss:
    the same call with the mask, [H, W], and `ignore_label` (255) as `fill`.

    Args:
        image: [H, W, C], or a map [H, W].
        boxes: Integers [N, 4], (y, x, height, width); what lies outside of the image is left out, and so is a box
            without height or width.
        fill: One value or one per channel [C]; rounded for integers.

    Returns:
        Like the image, of its dtype.

    Source: DeVries and Taylor 2017, arXiv:1708.04552 (squares of the mean colour, which may lie partly outside).
    """
    image, boxes = tf.convert_to_tensor(image), tf.cast(boxes, tf.int32)
    rows, columns = tf.unstack(tf.shape(image)[:2])
    in_rows = _between(tf.range(rows), boxes[:, 0], boxes[:, 2])
    in_columns = _between(tf.range(columns), boxes[:, 1], boxes[:, 3])
    covered = tf.matmul(in_rows, in_columns, transpose_a=True) > 0
    if image.shape.rank == 3:
        covered = covered[..., tf.newaxis]
    fill = tf.cast(fill, tf.float32)
    return tf.where(covered, tf.cast(tf.round(fill) if image.dtype.is_integer else fill, image.dtype), image)


def cutout_cv(image: np.ndarray, boxes: np.ndarray, fill=0) -> np.ndarray:
    """`cutout` with NumPy; returns a copy, or without boxes the array itself."""
    if not len(boxes):
        return image
    image = image.copy()
    fill = np.rint(fill) if image.dtype.kind in "ui" else fill
    for y, x, height, width in np.asarray(boxes).tolist():
        image[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = fill
    return image


def window_values(image: tf.Tensor, low, high) -> tf.Tensor:
    """Spreads the values from `low` to `high` over 0 to 255; what lies below or above is clipped.

    For images whose values mean something, as CT's Hounsfield units do (`kerasseg.spec.CT_WINDOWS`). A data set's own
    range is `DatasetSpec.value_range`; with this, a function of your own draws another for each sample.

    Args:
        image: [H, W, C], any dtype.
        low: The value that becomes 0; number or scalar tensor.
        high: The value that becomes 255, above `low`.

    Returns:
        float32 [H, W, C], 0-255.
    """
    low, high = tf.cast(low, tf.float32), tf.cast(high, tf.float32)
    return to_255(tf.cast(image, tf.float32), (low, high), tf.clip_by_value)


def window_values_cv(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """`window_values` with NumPy."""
    return to_255(np.asarray(image, np.float32), (np.float32(low), np.float32(high)))


def _between(index, start, length):
    """Returns float32 [N, size]: 1 where start <= index < start + length."""
    start = start[:, tf.newaxis]
    return tf.cast((index >= start) & (index < start + length[:, tf.newaxis]), tf.float32)
