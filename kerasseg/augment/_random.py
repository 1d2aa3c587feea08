"""The same with parameters drawn at random, once for a sample, from a seed that is handed in. TensorFlow graph ops.

Every function takes `seed`, integers [2], and draws with `tf.random.stateless_*`: the same seed gives the same result,
whatever runs beside it. Give each call a seed of its own (`tf.random.experimental.stateless_split`).
"""

import tensorflow as tf

from kerasseg.augment._colour import COLOUR_ORDERS, distort_colour, vary_grey
from kerasseg.augment._geometry import Fill, Sample, crop_or_pad, flip, rescale, rotate90


def random_rescale(
    sample: Sample, seed, minimum: float = 0.5, maximum: float = 2.0, *, step: float = 0, sampling: str = "half_pixel"
) -> Sample:
    """Rescales by a factor of [minimum, maximum), or by one of minimum, minimum + step, ..., maximum.

    Source: 0.5 to 2 continuous in DeepLab-v3 §4.1 and sthalles/deeplab_v3; in steps of 0.25 in TensorFlow's DeepLab.
    """
    if step:
        scale = minimum + step * tf.cast(_integer(seed, round((maximum - minimum) / step) + 1), tf.float32)
    else:
        scale = _uniform(seed, minimum, maximum)
    return rescale(sample, scale, sampling=sampling)


def random_crop(sample: Sample, seed, size: tuple[int, int], *, fill: Fill = 0.0) -> Sample:
    """Cuts a window of `size` (height, width) from anywhere; a smaller sample is padded below and on the right.

    Source: TensorFlow's DeepLab pads so, with the mean pixel and label 255, and crops at random.
    """
    seeds = _split(seed, 2)
    room = tf.maximum(tf.shape(sample["image"])[:2] - tf.constant(size), 0)
    top, left = (_integer(seeds[axis], room[axis] + 1) for axis in range(2))
    return crop_or_pad(sample, size, top, left, fill=fill)


def random_flip(sample: Sample, seed) -> Sample:
    """Mirrors left and right, every second time."""
    return flip(sample, left_right=_integer(seed, 2) == 1)


def random_rotate90(sample: Sample, seed) -> Sample:
    """Rotates by 0 to 3 quarter turns; with `random_flip` all eight positions, for images that have no "up"."""
    return rotate90(sample, _integer(seed, 4))


def random_colour(sample: Sample, seed) -> Sample:
    """Distorts the colour of an RGB image; one of another number of channels gets the brightness and contrast only.

    The ranges are the original's: brightness ± 32/255, saturation and contrast × 0.5 to 1.5, hue ± 0.2, in one of
    four orders. Source: sthalles/deeplab_v3 `distort_randomly_image_color`, TF-Slim `distort_color`.
    """
    seeds = _split(seed, 5)
    brightness, contrast = _uniform(seeds[0], -32 / 255, 32 / 255), _uniform(seeds[1], 0.5, 1.5)
    if sample["image"].shape[-1] != 3:
        return {**sample, "image": vary_grey(sample["image"], contrast=contrast, brightness=brightness)}
    image = distort_colour(
        sample["image"],
        _integer(seeds[2], len(COLOUR_ORDERS)),
        brightness=brightness,
        contrast=contrast,
        saturation=_uniform(seeds[3], 0.5, 1.5),
        hue=_uniform(seeds[4], -0.2, 0.2),
    )
    return {**sample, "image": image}


def random_grey(sample: Sample, seed, *, contrast: float = 1.3, brightness: float = 0.1, gamma: float = 1.3) -> Sample:
    """Varies grey values, as stain, lamp and exposure do.

    Args:
        contrast: Factors are drawn from 1 / contrast to contrast, evenly on a logarithmic scale.
        brightness: Drawn from -brightness to brightness, on the scale 0-1.
        gamma: As contrast.
    """
    seeds = _split(seed, 3)
    image = vary_grey(
        sample["image"],
        contrast=contrast ** _uniform(seeds[0], -1, 1),
        brightness=_uniform(seeds[1], -brightness, brightness),
        gamma=gamma ** _uniform(seeds[2], -1, 1),
    )
    return {**sample, "image": image}


def _uniform(seed, low, high):
    return tf.random.stateless_uniform([], seed, low, high)


def _integer(seed, below):
    return tf.random.stateless_uniform([], seed, 0, below, tf.int32)


def _split(seed, number):
    return tf.unstack(tf.random.experimental.stateless_split(seed, number))
