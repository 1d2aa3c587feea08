"""Draws a sample's plan from the ranges of an `Augmentation`. TensorFlow graph ops."""

import math

import numpy as np
import tensorflow as tf

from kerasseg.augment._augmentation import Augmentation, GridElastic, SimardElastic
from kerasseg.augment._draw_values import value_steps
from kerasseg.augment._numbers import below, between, named, numbers, raw
from kerasseg.augment._objects import choose_proposal, jittered_box, object_window
from kerasseg.augment._plan import Plan, Warp


def draw_plan(
    augmentation: Augmentation,
    seed: tf.Tensor,
    source_size: tf.Tensor,
    crop_size: tuple[int, int] | None,
    channels: int,
    boxes: dict[str, tf.Tensor] | None = None,
) -> Plan:
    """Draws the parameters of one sample, all from its seed.

    Args:
        augmentation: The ranges.
        seed: Integers [2].
        source_size: int32 [2], height and width of the image.
        crop_size: Height and width of the result; None: the whole image, scaled.
        channels: C of the image.
        boxes: "objects", "object_labels" and "proposals" of the sample, where `augmentation.needs_boxes`; see
            `box_view`.
    """
    drawn = numbers(seed)
    view = label = None
    if augmentation.needs_boxes:
        view, label = box_view(augmentation, drawn, boxes, source_size, crop_size)
    return plan(augmentation, drawn, source_size, crop_size, channels, view, label)


def draw_plans(
    augmentation: Augmentation,
    seeds: tf.Tensor,
    source_sizes: tf.Tensor,
    crop_size: tuple[int, int] | None,
    channels: int,
    views: tuple[tf.Tensor, tf.Tensor] | None = None,
) -> Plan:
    """Draws the parameters of a batch, of each sample those that `draw_plan` draws, for a fraction of its time.

    Args:
        augmentation: The ranges.
        seeds: Integers [B, 2], B known.
        source_sizes: int32 [B, 2], heights and widths of the images.
        crop_size: As in `draw_plan`.
        channels: C of the images.
        views: What `draw_view` gives for each, [B, 4] and [B], where `augmentation.needs_boxes`.
    """
    drawn = tf.nest.map_structure(lambda *each: tf.stack(each), *map(raw, tf.unstack(seeds)))

    def one(of_sample):
        drawn, size, *view = of_sample
        return plan(augmentation, named(drawn), size, crop_size, channels, *view)

    return tf.vectorized_map(one, (drawn, source_sizes, *(views or ())))


def draw_view(
    augmentation: Augmentation,
    seed: tf.Tensor,
    boxes: dict[str, tf.Tensor],
    source_size: tf.Tensor,
    crop_size: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws which object or proposal one sample shows; see `box_view`."""
    return box_view(augmentation, numbers(seed), boxes, source_size, crop_size)


def plan(
    augmentation: Augmentation,
    drawn: dict[str, tf.Tensor],
    source_size: tf.Tensor,
    crop_size: tuple[int, int] | None,
    channels: int,
    view: tf.Tensor | None = None,
    kept_class: tf.Tensor | None = None,
) -> Plan:
    """Returns the parameters of one sample.

    Args:
        augmentation: The ranges.
        drawn: What `numbers` gives.
        source_size: int32 [2], height and width of the image.
        crop_size: Height and width of the result; None: the whole image, scaled.
        channels: C of the image.
        view: float32 [4], top, left, height and width of what to show, instead of what the ranges say ("object" and
            "proposal").
        kept_class: int32 []; with `only_object`.
    """
    turns = below(drawn["turns"], 4) if augmentation.quarter_turns else None
    size = _result_size(augmentation, drawn, source_size, crop_size, turns)
    if view is None:
        view = _view(augmentation, drawn, source_size, size, crop_size)
    window, region = _window_and_region(view, source_size, size)
    warp = None
    if augmentation.is_warp:
        window = tf.concat([[0, 0], source_size], 0)
        region = tf.concat([[0, 0], size], 0)
        warp = _warp(augmentation, drawn, view, size)
    flips = _flips(augmentation, drawn)
    if flips is not None:
        mirrored = tf.concat([size - region[:2] - region[2:], region[2:]], 0)
        region = tf.where(tf.concat([flips, [False, False]], 0), mirrored, region)
    return Plan(
        size=size,
        window=window,
        region=region,
        flips=flips,
        turns=turns,
        kept_class=kept_class if augmentation.only_object else None,
        warp=warp,
        **value_steps(augmentation, drawn, size, channels),
    )


def box_view(
    augmentation: Augmentation,
    drawn: dict[str, tf.Tensor],
    boxes: dict[str, tf.Tensor],
    source_size: tf.Tensor,
    crop_size: tuple[int, int],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the view of an object or a proposal, and the object's class.

    Args:
        augmentation: Whose `crop` is "object" or "proposal".
        drawn: What `numbers` gives.
        boxes: "objects" [N, 4], "object_labels" [N] and, for "proposal", "proposals" [M, 4], as `records.parse` gives
            them. Without proposals boxes are jittered about the objects; without objects the image is shown whole.
        source_size: int32 [2], height and width of the image.
        crop_size: Height and width of the result.

    Returns:
        float32 [4], top, left, height and width in source pixels; int64 [], -1 where there is no object.
    """
    objects = boxes["objects"]
    if augmentation.crop == "object":
        number = tf.shape(objects)[0]
        chosen = tf.minimum(below(drawn["object"], tf.cast(number, tf.float32)), tf.maximum(number - 1, 0))
        label = tf.concat([boxes["object_labels"], [-1]], 0)[chosen]
        window = object_window(objects, chosen, source_size, augmentation.box_margin)
    else:
        box = tf.cond(
            tf.shape(boxes["proposals"])[0] > 0,
            lambda: choose_proposal(boxes["proposals"], objects, drawn["proposal"]),
            lambda: jittered_box(objects, drawn["object"], drawn["boxes"]),
        )
        label = tf.constant(-1, tf.int64)
        window = object_window(box[tf.newaxis], 0, source_size, 1.0)
    corner, extent = tf.stack(window[:2]), tf.stack(window[2:])
    # The box is resized to more than the result, of which a random part is cut, at a whole pixel.
    size = np.array(crop_size, np.float32)
    resized = np.round(size * augmentation.box_resized)
    place = tf.floor(tf.stack([drawn["top"], drawn["left"]]) * (resized - size + 1))
    zoom = extent / resized
    return tf.concat([corner + place * zoom, size * zoom], 0), label


def _result_size(augmentation, drawn, source_size, crop_size, turns):
    if crop_size is None:
        scaled = tf.cast(source_size, tf.float32) * _scale(augmentation, drawn)
        return tf.maximum(tf.cast(tf.round(scaled), tf.int32), 1)
    size = tf.constant(crop_size, tf.int32)
    return size if turns is None else tf.where(turns % 2 == 1, size[::-1], size)


def _scale(augmentation, drawn):
    low, high = augmentation.scale
    if augmentation.scale_step:
        steps = round((high - low) / augmentation.scale_step) + 1
        return low + augmentation.scale_step * tf.cast(below(drawn["scale"], steps), tf.float32)
    return low + (high - low) * drawn["scale"]


def _view(augmentation, drawn, source_size, size, crop_size):
    """Returns top, left, height and width of what the result shows, float32 [4], source pixels."""
    source = tf.cast(source_size, tf.float32)
    if crop_size is None:
        return tf.concat([[0.0, 0.0], source], 0)
    extent = tf.cast(size, tf.float32) / _scale(augmentation, drawn)
    room = source - extent
    if augmentation.crop == "centre":
        # Whole pixels of the result, the odd one after it.
        zoom = tf.cast(size, tf.float32) / extent
        corner = tf.cast(tf.cast(room * zoom / 2, tf.int32), tf.float32) / zoom
    else:
        place = tf.stack([drawn["top"], drawn["left"]])
        # A whole pixel, each as likely as the others; a smaller image begins at the corner.
        corner = tf.where(room > 0, tf.floor(place * (tf.floor(room) + 1)), 0.0)
    return tf.concat([corner, extent], 0)


def _window_and_region(view, source_size, size):
    """Returns the whole pixels of the source within the view, and where the result shows them; int32 [4] twice."""
    source, target = tf.cast(source_size, tf.float32), tf.cast(size, tf.float32)
    corner, extent = view[:2], view[2:]
    first = tf.clip_by_value(tf.round(corner), 0.0, source - 1)
    last = tf.clip_by_value(tf.round(corner + extent), first + 1, source)
    inside_first, inside_last = first > tf.round(corner), last < tf.round(corner + extent)
    zoom = target / extent
    begin = tf.where(inside_first, tf.round((first - corner) * zoom), 0.0)
    end = tf.where(inside_last, tf.round((last - corner) * zoom), target)
    begin = tf.clip_by_value(begin, 0.0, target - 1)
    end = tf.clip_by_value(end, begin + 1, target)
    window, region = tf.concat([first, last - first], 0), tf.concat([begin, end - begin], 0)
    return tf.cast(window, tf.int32), tf.cast(region, tf.int32)


def _warp(augmentation, drawn, view, size):
    """Returns the map of positions: turned and shifted about the middle of the result, then laid over the view."""
    target = tf.cast(size, tf.float32)
    angle = between(drawn["rotation"], augmentation.rotation * math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    turn = tf.stack([tf.stack([cosine, -sine]), tf.stack([sine, cosine])])
    shift = tf.stack([between(drawn[f"shift_{axis}"], augmentation.shift) for axis in "yx"])
    middle = (target - 1) / 2
    # What moves down and right by `shift` is fetched from up and left.
    moved = middle - tf.linalg.matvec(turn, middle + shift)
    zoom = view[2:] / target
    offset = view[:2] + zoom * (moved + 0.5) - 0.5
    matrix = tf.concat([zoom[:, tf.newaxis] * turn, offset[:, tf.newaxis]], 1)
    elastic, grid, seed = augmentation.elastic, None, None
    if isinstance(elastic, GridElastic):
        grid = elastic.sigma * drawn["normal"][:, : elastic.points, : elastic.points]
    elif isinstance(elastic, SimardElastic):
        seed = drawn["seeds"][:2]
    return Warp(matrix, grid, seed)


def _flips(augmentation, drawn):
    wanted = (augmentation.flip_up_down, augmentation.flip_left_right)
    if not any(wanted):
        return None
    coins = tf.stack([drawn["up_down"], drawn["left_right"]]) < 0.5
    return tf.logical_and(coins, tf.constant(wanted))
