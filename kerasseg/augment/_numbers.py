"""The random numbers of one sample, and what they are stretched to. TensorFlow graph ops."""

import tensorflow as tf

from kerasseg.augment._augmentation import MAX_CUTOUTS, MAX_POINTS

_NUMBERS = (
    "scale", "top", "left", "up_down", "left_right", "turns", "rotation", "shift_y", "shift_x", "blur", "brightness",
    "saturation", "hue", "contrast", "gamma", "noise", "object", "proposal",
)  # fmt: skip


def numbers(seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the random numbers of a sample, float32 in [0, 1), each with its own purpose.

    A step that is switched off leaves the numbers of the others as they are. Besides there are "normal", float32
    [2, MAX_POINTS, MAX_POINTS], normally distributed; "boxes", float32 [MAX_CUTOUTS, 4], as the uniform ones; and
    "seeds", int32 [4].
    """
    return named(raw(seed))


def raw(seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the same with those in [0, 1) in one tensor, "uniform"."""
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    return {
        "uniform": tf.random.stateless_uniform([len(_NUMBERS)], seeds[0]),
        "normal": tf.random.stateless_normal([2, MAX_POINTS, MAX_POINTS], seeds[1]),
        "boxes": tf.random.stateless_uniform([MAX_CUTOUTS, 4], seeds[2]),
        "seeds": tf.random.stateless_uniform([4], seeds[3], 0, 2**31 - 1, tf.int32),
    }


def named(drawn: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns what `numbers` does, of what `raw` gives."""
    return drawn | dict(zip(_NUMBERS, tf.unstack(drawn["uniform"]), strict=True))


def below(number, limit):
    """Returns an integer from 0 to `limit` - 1."""
    return tf.cast(number * limit, tf.int32)


def between(number, bound):
    """Returns a number from -`bound` to `bound`."""
    return (2 * number - 1) * bound


def within(number, limits):
    return limits[0] + (limits[1] - limits[0]) * number
