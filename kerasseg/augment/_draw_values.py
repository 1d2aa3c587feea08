"""Draws what changes a sample's values, not their places. TensorFlow graph ops."""

import tensorflow as tf

from kerasseg.augment._colour_affine import ColourMap, colour_map
from kerasseg.augment._numbers import between, within


def value_steps(augmentation, drawn, size, channels) -> dict:
    """Returns the entries of the plan that change values, not places."""
    steps = {}
    if augmentation.blur:
        steps["blur"] = augmentation.blur * drawn["blur"]
    if augmentation.colour and channels == 3:
        steps["colour"] = _colour(augmentation.colour, drawn)
    elif augmentation.colour:
        contrast = within(drawn["contrast"], augmentation.colour.contrast)
        brightness = between(drawn["brightness"], augmentation.colour.brightness)
        steps["grey"] = tf.stack([contrast, brightness, tf.ones_like(contrast)])
    if augmentation.grey:
        grey = augmentation.grey
        contrast, gamma = (getattr(grey, name) ** between(drawn[name], 1.0) for name in ("contrast", "gamma"))
        steps["grey"] = tf.stack([contrast, between(drawn["brightness"], grey.brightness), gamma])
    if augmentation.noise:
        steps["noise"] = augmentation.noise * drawn["noise"]
        steps["noise_seed"] = drawn["seeds"][2:]
    if augmentation.cutout:
        side = tf.cast(tf.round(augmentation.cutout.size * tf.cast(tf.reduce_min(size), tf.float32)), tf.int32)
        # Centres lie anywhere, so that a square at the edge is cut.
        places = drawn["boxes"][: augmentation.cutout.count, :2] * tf.cast(size, tf.float32)
        corners = tf.cast(places, tf.int32) - side // 2
        steps["cutout"] = tf.concat([corners, tf.fill(tf.shape(corners), side)], 1)
    return steps


def _colour(ranges, drawn) -> ColourMap:
    return colour_map(
        between(drawn["brightness"], ranges.brightness),
        within(drawn["saturation"], ranges.saturation),
        between(drawn["hue"], ranges.hue),
        within(drawn["contrast"], ranges.contrast),
    )
