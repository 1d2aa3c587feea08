"""Where pixels go: rescale, crop, pad, flip and rotate a sample, all its maps at once. TensorFlow graph ops.

A *sample* is a dictionary as `kerasseg.records.parse` gives it: "image" [H, W, C] and any of the maps "mask",
"weight" and "instances" [H, W]. Every function returns a new one and lets other entries ("key") pass. The image is
interpolated, maps take the nearest pixel's value; padding is `fill` in the image and `MAP_FILL` in the maps.
"""

from collections.abc import Callable

import tensorflow as tf

from kerasseg.spec import IGNORE_LABEL

Sample = dict[str, tf.Tensor]

MAP_FILL = {"mask": IGNORE_LABEL, "weight": 0, "instances": 0}
"""What padded pixels hold in each map: unknown class, no weight, no object."""

IMAGENET_MEAN = (123.68, 116.78, 103.94)
"""Mean RGB of ImageNet, 0-255, as the original DeepLab-v3 project and TF-Slim's VGG preprocessing have it."""

Fill = float | tuple[float, ...] | str


def rescale(sample: Sample, scale, *, sampling: str = "half_pixel") -> Sample:
    """Resizes a sample to `scale` times its size, rounded (half to even), at least one pixel.

    Args:
        scale: Float or scalar tensor.
        sampling: See `resize`.

    Source: sthalles/deeplab_v3 `preprocessing/read_data.py` `rescale_image_and_annotation_by_factor` (with "legacy").
    """
    size = tf.cast(tf.shape(sample["image"])[:2], tf.float32) * tf.cast(scale, tf.float32)
    return resize(sample, tf.maximum(tf.cast(tf.round(size), tf.int32), 1), sampling=sampling)


def resize(sample: Sample, size, *, sampling: str = "half_pixel") -> Sample:
    """Resizes a sample, the image bilinearly (it becomes float32), the maps to the nearest pixel.

    Args:
        size: (height, width), int32 [2].
        sampling: Which source position a target pixel i reads: "half_pixel": (i + 0.5)·in/out - 0.5, which keeps the
            picture's centre in place; "legacy": i·in/out, TensorFlow 1's, for results equal to code of its time.

    Raises:
        ValueError: `sampling` is neither.
    """
    if sampling not in ("half_pixel", "legacy"):
        raise ValueError(f'expected sampling "half_pixel" or "legacy", received {sampling!r}')
    half_pixel = sampling == "half_pixel"

    def resized(array, name):
        if name != "image":
            return _resized_to_nearest(array, size, half_pixel)
        # The operation reads float32 twice as fast as uint8, and gives the same.
        images = tf.cast(array, tf.float32)[tf.newaxis]
        return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=False, half_pixel_centers=half_pixel)[
            0
        ]

    return each_map(sample, resized)


def _resized_to_nearest(array, size, half_pixel):
    """Does to [H, W, 1] what `tf.raw_ops.ResizeNearestNeighbor` does, seven times as fast: it copies whole rows."""

    def sources(axis):
        length = tf.shape(array)[axis]
        step = tf.cast(length, tf.float32) / tf.cast(size[axis], tf.float32)
        targets = tf.range(tf.cast(size[axis], tf.float32)) + (0.5 if half_pixel else 0.0)
        return tf.minimum(tf.cast(tf.floor(targets * step), tf.int32), length - 1)

    columns = tf.transpose(tf.gather(tf.transpose(array[..., 0]), sources(1)))
    resized = tf.gather(columns, sources(0))[..., tf.newaxis]
    known = tf.get_static_value(size)
    return resized if known is None else tf.ensure_shape(resized, [*known, 1])


def crop_or_pad(sample: Sample, size: tuple[int, int], top, left, *, fill: Fill = 0.0) -> Sample:
    """Cuts the window of `size` whose corner lies at (top, left); what it has beyond the sample is padding.

    Args:
        size: (height, width), integers, or int32 [2].
        top: Row of the sample where the window begins; negative: so many rows are padded above.
        left: Likewise.
        fill: The image's padding: one value, one per channel, or "mean": `IMAGENET_MEAN` for three channels, which
            the networks subtract, else the mean pixel of this image.

    Returns:
        A sample of `size`, its static shape where that is known; the image keeps its dtype (`fill` is rounded for
        integers).
    """
    height, width = tf.unstack(size) if tf.is_tensor(size) else size
    static = [None, None] if tf.is_tensor(size) else [height, width]
    shape = tf.shape(sample["image"])
    rows, before_y, after_y = _window(top, height, shape[0])
    columns, before_x, after_x = _window(left, width, shape[1])
    image_fill = fill_pixel(fill, sample["image"])

    def cut(array, name):
        pixel = image_fill if name == "image" else tf.constant([MAP_FILL[name]], array.dtype)
        window = _extend(array[rows, columns], 1, before_x, after_x, pixel)
        return tf.ensure_shape(_extend(window, 0, before_y, after_y, pixel), [*static, array.shape[-1]])

    return each_map(sample, cut)


def centre_crop(sample: Sample, size: tuple[int, int], *, fill: Fill = 0.0) -> Sample:
    """Cuts or pads a sample to its centre; of an odd difference d, floor(d / 2) goes before and the rest after.

    Source: `tf.image.resize_image_with_crop_or_pad`, as sthalles/deeplab_v3 `scale_image_with_crop_padding` calls it.
    """
    top, left = (tf.truncatediv(tf.shape(sample["image"])[axis] - size[axis], 2) for axis in range(2))
    return crop_or_pad(sample, size, top, left, fill=fill)


def flip(sample: Sample, left_right=False, up_down=False) -> Sample:
    """Mirrors a sample where the flags (Python or scalar tensors) say so."""
    axes = {1: left_right, 0: up_down}

    def flipped(array, name):
        for axis, wanted in axes.items():
            array = tf.cond(tf.cast(wanted, tf.bool), lambda a=array, i=axis: tf.reverse(a, [i]), lambda a=array: a)
        return array

    return each_map(sample, flipped)


def rotate90(sample: Sample, turns) -> Sample:
    """Rotates a sample by `turns` quarter turns counter-clockwise; an odd number swaps height and width."""
    return each_map(sample, lambda array, name: tf.image.rot90(array, tf.cast(turns, tf.int32)))


def mean_pixel(image: tf.Tensor) -> tf.Tensor:
    """Returns float32 [C], the mean over H and W."""
    return tf.reduce_mean(tf.cast(image, tf.float32), axis=[0, 1])


def each_map(sample: Sample, function: Callable[[tf.Tensor, str], tf.Tensor]) -> Sample:
    """Applies `function(array [H, W, C], name)` to the image and to every map that the sample has."""
    changed = dict(sample)
    changed["image"] = function(sample["image"], "image")
    for name in MAP_FILL:
        if name in sample:
            changed[name] = function(sample[name][..., tf.newaxis], name)[..., 0]
    return changed


def _window(start, length, available):
    """Returns the slice of what is there, and how many pixels are missing before and after it."""
    start = tf.cast(start, tf.int32)
    first = tf.clip_by_value(start, 0, available)
    last = tf.clip_by_value(start + length, first, available)
    before = tf.minimum(tf.maximum(-start, 0), length)
    return slice(first, last), before, length - before - (last - first)


def _extend(array, axis, before, after, pixel):
    """Lengthens [H, W, C] along an axis by so many times `pixel` [C]. (`tf.pad` knows one value for all channels.)"""

    def strip(length):
        return tf.broadcast_to(pixel, tf.tensor_scatter_nd_update(tf.shape(array), [[axis]], [length]))

    return tf.cond(before + after > 0, lambda: tf.concat([strip(before), array, strip(after)], axis), lambda: array)


def fill_pixel(fill: Fill, image: tf.Tensor) -> tf.Tensor:
    """Returns what an image is padded with, [C] of its dtype. See `crop_or_pad`."""
    if isinstance(fill, str) and fill == "mean":
        pixel = tf.constant(IMAGENET_MEAN) if image.shape[-1] == 3 else mean_pixel(image)
    elif isinstance(fill, str):
        raise ValueError(f'expected fill to be a number, one per channel, or "mean", received {fill!r}')
    else:
        pixel = tf.broadcast_to(tf.cast(fill, tf.float32), [image.shape[-1]])
    return tf.cast(tf.round(pixel) if image.dtype.is_integer else pixel, image.dtype)
