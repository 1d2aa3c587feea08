"""The parameters of one sample: small tensors that say all there is to do."""

from typing import NamedTuple

import tensorflow as tf

from kerasseg.augment._colour_affine import ColourMap


class Plan(NamedTuple):
    """What happens to one sample, or with a leading dimension to each of a batch. None: there is no such step.

    The result shows a *view*, a rectangle of the source that may leave it. What lies in the source, the *window*, is
    cut to whole pixels and resized to the *region* of the result that it fills; the rest is padding. Where a `Warp` is,
    the window is the whole image, and it tells where each pixel of the result comes from.

    Attributes:
        size: int32 [2], height and width of the result before quarter turns.
        window: int32 [4], top, left, height and width of the part of the source that is read.
        flips: bool [2], whether the region is flipped up-down and left-right.
        region: int32 [4], top, left, height and width of the part of the result that shows it, where it then lies.
        turns: int32 [], quarter turns counter-clockwise, at the end.
        kept_class: int32 [], the only class that the mask keeps.
        warp: Where pixels come from.
        blur: float32 [], standard deviation.
        colour: The affine map of an RGB image's colours.
        grey: float32 [3], contrast, brightness and gamma as `vary_grey` takes them.
        noise: float32 [], standard deviation.
        noise_seed: int32 [2].
        cutout: int32 [N, 4], top, left, height and width in the result before quarter turns.
    """

    size: tf.Tensor
    window: tf.Tensor
    region: tf.Tensor
    flips: tf.Tensor | None = None
    turns: tf.Tensor | None = None
    kept_class: tf.Tensor | None = None
    warp: "Warp | None" = None
    blur: tf.Tensor | None = None
    colour: ColourMap | None = None
    grey: tf.Tensor | None = None
    noise: tf.Tensor | None = None
    noise_seed: tf.Tensor | None = None
    cutout: tf.Tensor | None = None


class Warp(NamedTuple):
    """Where the pixels of the result come from, if not from a rectangle.

    Pixel o of the result shows the source at `matrix` (o + d(o), 1), d the elastic displacement at o; all (y, x).

    Attributes:
        matrix: float32 [2, 3].
        grid: float32 [2, points, points], displacements of `GridElastic`.
        simard_seed: int32 [2].
    """

    matrix: tf.Tensor
    grid: tf.Tensor | None = None
    simard_seed: tf.Tensor | None = None
