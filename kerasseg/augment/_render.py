"""Carries out a plan with TensorFlow ops, inside a graph: works wherever the graph runs."""

import tensorflow as tf

from kerasseg.augment._augmentation import Augmentation, SimardElastic
from kerasseg.augment._blur import gaussian_blur
from kerasseg.augment._colour import vary_grey
from kerasseg.augment._colour_affine import apply_colour_map
from kerasseg.augment._draw import draw_plan
from kerasseg.augment._elastic import grid_displacement, simard_displacement
from kerasseg.augment._geometry import MAP_FILL, Sample, crop_or_pad, each_map, fill_pixel, flip, resize, rotate90
from kerasseg.augment._objects import keep_class
from kerasseg.augment._pixels import cutout, gaussian_noise
from kerasseg.augment._plan import Plan
from kerasseg.augment._warp import warp


def apply(augmentation: Augmentation, sample: Sample, seed: tf.Tensor, crop_size: tuple[int, int] | None) -> Sample:
    """Draws a sample's parameters and carries them out: for functions of your own that do more than ranges can say.

    Args:
        augmentation: The ranges.
        sample: As `kerasseg.records.parse` gives it; with "objects" and the like where the ranges need boxes.
        seed: Integers [2].
        crop_size: Height and width of the result; None: the whole image, scaled.

    Returns:
        "image" float32 [h, w, C], 0-255, the maps [h, w], and the sample's other entries as they were.
    """
    size = tf.shape(sample["image"])[:2]
    plan = draw_plan(augmentation, seed, size, crop_size, sample["image"].shape[-1], sample)
    top, left, height, width = tf.unstack(plan.window)
    window = each_map(sample, lambda array, name: array[top : top + height, left : left + width])
    return render(window, plan, augmentation)


def render(sample: Sample, plan: Plan, augmentation: Augmentation) -> Sample:
    """Returns the sample as the plan has it.

    Args:
        sample: The window of the plan: "image" [H, W, C] uint8 or float32, 0-255, and any of the maps.
        plan: Of this sample.
        augmentation: That the plan was drawn from.

    Returns:
        "image" float32 [h, w, C], 0-255, and the maps [h, w].
    """
    sample = _placed(sample, plan, augmentation)
    if plan.flips is not None:
        sample = flip(sample, up_down=plan.flips[0], left_right=plan.flips[1])
    if plan.kept_class is not None:
        sample = {**sample, "mask": keep_class(sample["mask"], plan.kept_class)}
    sample = {**sample, "image": _valued(sample["image"], plan)}
    fill = fill_pixel(augmentation.fill, sample["image"])
    top, left = -plan.region[0], -plan.region[1]
    sample = crop_or_pad(sample, plan.size, top, left, fill=fill)
    if plan.cutout is not None:
        sample = {**sample, "image": cutout(sample["image"], plan.cutout, fill)}
    return sample if plan.turns is None else rotate90(sample, plan.turns)


def _placed(sample: Sample, plan: Plan, augmentation: Augmentation) -> Sample:
    """Returns the region that the window fills."""
    if plan.warp is None:
        return resize(sample, plan.region[2:])
    positions = _positions(plan, augmentation)
    fill = fill_pixel(augmentation.fill, sample["image"])

    def fetched(array, name):
        pixel = fill if name == "image" else tf.constant([MAP_FILL[name]], array.dtype)
        return warp(array, positions, name != "image", augmentation.border, pixel)

    return each_map({**sample, "image": tf.cast(sample["image"], tf.float32)}, fetched)


def _positions(plan: Plan, augmentation: Augmentation) -> tf.Tensor:
    """Returns where each pixel of the result comes from, float32 [h, w, 2] (y, x)."""
    rows, columns = (tf.range(tf.cast(plan.size[axis], tf.float32)) for axis in range(2))
    places = tf.stack(tf.meshgrid(rows, columns, indexing="ij"), -1)
    if plan.warp.grid is not None:
        places += grid_displacement(plan.warp.grid, plan.size)
    elif isinstance(augmentation.elastic, SimardElastic):
        elastic = augmentation.elastic
        places += simard_displacement(plan.warp.simard_seed, plan.size, elastic.alpha, elastic.sigma)
    return tf.linalg.matmul(places, plan.warp.matrix[:, :2], transpose_b=True) + plan.warp.matrix[:, 2]


def _valued(image: tf.Tensor, plan: Plan) -> tf.Tensor:
    """Returns the image with its values changed."""
    image = tf.cast(image, tf.float32)
    if plan.blur is not None:
        image = gaussian_blur(image, plan.blur)
    if plan.colour is not None:
        image = apply_colour_map(image, plan.colour)
    if plan.grey is not None:
        contrast, brightness, gamma = tf.unstack(plan.grey)
        image = vary_grey(image, contrast=contrast, brightness=brightness, gamma=gamma)
    if plan.noise is not None:
        image = gaussian_noise(image, plan.noise, plan.noise_seed)
    return image
