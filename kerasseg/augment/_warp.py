"""Resampling at any positions, in two forms with the same maths: TensorFlow graph ops, and OpenCV (`..._cv`)."""

import numpy as np
import tensorflow as tf

from kerasseg._opencv import cv2

BORDERS = ("fill", "mirror")
"""What lies outside of an array: one pixel's values, or the array mirrored at its edge pixels, again and again."""

_REMAP_CHANNELS = 4
"""As many as `cv2.remap` takes at once."""

_REMAP_TYPES = {False: ("uint8", "uint16", "float32"), True: ("uint8", "uint16", "int16", "int32", "float32")}
"""What `cv2.remap` interpolates exactly, and what it copies; int64 it would change silently."""


def warp(array: tf.Tensor, positions: tf.Tensor, nearest: bool = False, border: str = "mirror", fill=0.0) -> tf.Tensor:
    """Reads an array at given positions.

    Args:
        array: [H, W, C], at least one pixel.
        positions: float32 [h, w, 2], where to read: (y, x) in pixels, (0, 0) the centre of the first pixel. Any
            distance outside, up to 2^23.
        nearest: Whether to take the nearest pixel (halves go to the even position) rather than interpolate bilinearly.
        border: One of `BORDERS`. "fill" surrounds the array by pixels of `fill`, so that less than a pixel outside the
            edge pixel blends into it. "mirror" does not repeat the edge pixel (`numpy.pad`'s "reflect").
        fill: One value or one per channel [C].

    Returns:
        [h, w, C]; of the array's dtype if `nearest`, else float32.

    Raises:
        ValueError: `border` is neither.
    """
    _check_border(border)
    positions = tf.round(positions) if nearest else positions
    ends = tf.unstack(tf.cast(tf.shape(array)[:2] - 1, tf.float32))
    y, x = tf.unstack(positions, axis=-1)
    inside = None
    if border == "mirror":
        y, x = _mirrored(y, ends[0]), _mirrored(x, ends[1])
    elif nearest:
        inside = (y >= 0) & (y <= ends[0]) & (x >= 0) & (x <= ends[1])
        y, x = tf.clip_by_value(y, 0, ends[0]), tf.clip_by_value(x, 0, ends[1])
    else:
        inside = _overlap(y, ends[0]) * _overlap(x, ends[1])
        y, x = tf.clip_by_value(y, -1, ends[0] + 1) + 1, tf.clip_by_value(x, -1, ends[1] + 1) + 1
        array = tf.pad(array, [[1, 1], [1, 1], [0, 0]])
    read = _nearest(array, y, x) if nearest else _bilinear(array, y, x)
    if inside is not None:
        inside, fill = inside[..., tf.newaxis], tf.cast(fill, read.dtype)
        read = tf.where(inside, read, fill) if nearest else read + (1 - inside) * fill
    return tf.ensure_shape(read, [positions.shape[0], positions.shape[1], array.shape[-1]])


def warp_cv(
    array: np.ndarray, positions: np.ndarray, nearest: bool = False, border: str = "mirror", fill=0.0
) -> np.ndarray:
    """Reads an array at given positions; `warp` with OpenCV.

    Nearest pixels are the same as `warp`'s. OpenCV 5 interpolates exactly, and the two differ by the rounding of
    integers; OpenCV 4 interpolates at positions rounded to 1/32 pixel.

    Args:
        array: [H, W, C], at least one pixel; uint8, uint16, float32, and where `nearest` also int16 and int32.
        positions: float32 [h, w, 2], as in `warp`.
        nearest: As in `warp`.
        border: As in `warp`.
        fill: One value or one per channel; rounded for integers.

    Returns:
        [h, w, C], of the array's dtype.

    Raises:
        ValueError: `border` is neither, the array has another dtype.
    """
    _check_border(border)
    if array.dtype not in _REMAP_TYPES[nearest]:
        raise ValueError(f"expected an array of {', '.join(_REMAP_TYPES[nearest])}, received {array.dtype}")
    y, x = cv2.split(positions)
    interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    mode = cv2.BORDER_REFLECT_101 if border == "mirror" else cv2.BORDER_CONSTANT
    channels = array.shape[-1]
    fill = np.broadcast_to(np.asarray(fill, float), [channels]).tolist()
    ends = list(range(0, channels, _REMAP_CHANNELS)) + [channels]
    if channels % _REMAP_CHANNELS == 2:  # OpenCV 5 still rounds the positions for two channels, and only then
        ends.insert(-1, channels - 1)
    parts = []
    for some in map(slice, ends[:-1], ends[1:]):
        part = np.ascontiguousarray(array[..., some])
        part = cv2.remap(part, x, y, interpolation, borderMode=mode, borderValue=fill[some])
        parts.append(part.reshape(*positions.shape[:2], -1))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _check_border(border):
    if border not in BORDERS:
        raise ValueError(f'expected border "fill" or "mirror", received {border!r}')


def _mirrored(position, end):
    """Returns where in [0, end] positions of any distance lie in mirrors at 0 and at `end`; those inside unchanged."""
    distance = tf.abs(position)
    distance -= 2 * end * tf.floor(distance / tf.maximum(2 * end, 1))
    return tf.maximum(tf.minimum(distance, 2 * end - distance), 0)


def _overlap(position, end):
    """Returns which share of the two pixels between which a position lies belongs to the array, 0 to 1."""
    return tf.clip_by_value(tf.minimum(position, end - position) + 1, 0, 1)


def _nearest(array, y, x):
    index = tf.cast(y, tf.int32) * tf.shape(array)[1] + tf.cast(x, tf.int32)
    return tf.gather(tf.reshape(array, [-1, array.shape[-1]]), index)


def _bilinear(array, y, x):
    """Interpolates at positions inside. (Neighbours beyond the last pixel have no weight and may be any pixel.)"""
    height, width, channels = tf.unstack(tf.shape(array))
    top, left = tf.floor(y), tf.floor(x)
    index = tf.cast(top, tf.int32) * width + tf.cast(left, tf.int32)
    pixels = tf.reshape(array, [-1, array.shape[-1]])
    # To the full shape at once: TensorFlow multiplies equal shapes twice as fast as it broadcasts a channel.
    shape = tf.concat([tf.shape(y), [channels]], 0)
    down, right = (tf.broadcast_to(part[..., tf.newaxis], shape) for part in (y - top, x - left))

    def read(step):
        return tf.cast(tf.gather(pixels, tf.minimum(index + step, height * width - 1)), tf.float32)

    above, below = read(0), read(width)
    above += (read(1) - above) * right
    below += (read(width + 1) - below) * right
    return above + (below - above) * down
