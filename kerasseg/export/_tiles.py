"""Overlap-tile inside of a graph: a loop over tiles, so that memory is that of a tile and not of the image."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from kerasseg.layers import SizeRule, gaussian_window, tile_and_step


@dataclasses.dataclass(frozen=True)
class Line:
    """The tiles along one side of an image, tensors.

    Attributes:
        first: int32 [n]: the pixel that each tile's input begins at; negative: in the mirrored border.
        size: int32: pixels of the input.
        start, end: int32 [n]: pixels that no later tile adds to; those of the last one may exceed the image.
        span: int32: pixels of the output that count, from the first on.
        weights: float32 [n, span]: the tile's share in each; in every pixel of the image shares add up to 1.
    """

    first: tf.Tensor
    size: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor
    span: tf.Tensor
    weights: tf.Tensor


def line(length: tf.Tensor, rule: SizeRule, tile: int, overlap: int | None) -> Line:
    """Lays tiles over a side of `length` pixels (int32) as `kerasseg.inference` does.

    Args:
        rule: What the model admits along this side.
        tile, overlap: Pixels; see `tile_and_step`.
    """
    size, step = tile_and_step(rule, tile, overlap)
    single = rule.legal(tile) - rule.margin >= length
    if rule.margin:
        start = tf.range(0, tf.where(single, 1, length), step)
        span = tf.where(single, length, step)
        weights = tf.ones((tf.shape(start)[0], span))
    else:
        # The last tile ends with the image, as the whole image does: what networks do at borders happens there only.
        last = tf.maximum(length - size, 0)
        start = tf.concat([tf.range(0, last, step), last[None]], 0)
        span = tf.minimum(size, length)
        share = tf.tile(tf.constant(gaussian_window(size))[None, :span], (tf.shape(start)[0], 1))
        pixels = start[:, None] + tf.range(span)
        total = tf.math.unsorted_segment_sum(tf.reshape(share, [-1]), tf.reshape(pixels, [-1]), length)
        weights = share / tf.gather(total, pixels)
    return Line(
        first=start - rule.margin // 2,
        size=tf.where(single, tf.maximum(rule.round_up(length + rule.margin), rule.minimum), size),
        start=start,
        end=tf.concat([start[1:], start[-1:] + span], 0),
        span=span,
        weights=weights,
    )


def mirrored(first: tf.Tensor, size: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Returns which pixels of `length` stand at positions `first` to `first + size`, int32 [size].

    The border is a mirror, the edge pixel not repeated. A mirror wider than the image mirrors again; an image of one
    pixel has nothing else to show.
    """
    period = tf.maximum(2 * (length - 1), 1)
    position = tf.abs(tf.range(size) + first) % period
    return tf.minimum(tf.minimum(position, period - position), length - 1)


def tiled(
    network: Callable,
    num_classes: int,
    images: tf.Tensor,
    rules: tuple[SizeRule, SizeRule],
    tile_size: tuple[int, int],
    overlap: int | None,
    finish: Callable,
) -> tf.Tensor:
    """Computes something of the logits of images, tile after tile, from the upper left to the lower right.

    Of the logits, only what neighbouring tiles share is kept until the last of them has come: to the right, columns of
    one tile; downwards, rows as wide as the image.

    Args:
        network: Images float32 [B, h, w, C] -> logits float32 [B, h', w', K].
        num_classes: K.
        images: float32 [B, H, W, C].
        rules: What the network admits, of height and of width.
        tile_size, overlap: Pixels.
        finish: Logits [w, B, h, K] of some pixels -> [w, B, h, ...] to keep of them.

    Returns:
        [B, H, W, ...].
    """
    height, width = tf.unstack(tf.shape(images)[1:3])
    rows = line(height, rules[0], tile_size[0], overlap)
    columns = line(width, rules[1], tile_size[1], overlap)
    nothing = tf.zeros((0, 0, 0, num_classes))
    kept = finish(nothing)

    def row(i, below, done):
        strip = tf.gather(images, mirrored(rows.first[i], rows.size, height), axis=1)
        own = rows.end[i] - rows.start[i]  # rows that end with this tile

        def column(j, right, ready, waiting):
            with tf.control_dependencies([right]):  # One tile at a time.
                pixels = tf.gather(strip, mirrored(columns.first[j], columns.size, width), axis=2)
            tile = tf.transpose(network(pixels)[:, : rows.span, : columns.span], (2, 0, 1, 3))
            tile *= columns.weights[j][:, None, None, None] * rows.weights[i][:, None]
            tile = _added(tile, right, 0)
            gone = columns.end[j] - columns.start[j]
            right = tile[gone:]
            tile = _added(tile[:gone], below[columns.start[j] : columns.end[j]], 2)
            return j + 1, right, ready.write(j, finish(tile[:, :, :own])), waiting.write(j, tile[:, :, own:])

        count = tf.shape(columns.start)[0]
        right = tf.zeros((0, tf.shape(images)[0], rows.span, num_classes))
        first = (0, right, _pieces(kept, count), _pieces(nothing, count))
        shapes = ((), (None, None, None, num_classes), None, None)
        _, _, ready, waiting = _loop(column, count, first, shapes)
        finished = ready.concat()
        finished = tf.transpose(finished, (2, 1, 0, *range(3, finished.shape.rank)))
        return i + 1, waiting.concat(), done.write(i, finished)

    count = tf.shape(rows.start)[0]
    below = tf.zeros((columns.end[-1], tf.shape(images)[0], 0, num_classes))
    shapes = ((), (None, None, None, num_classes), None)
    _, _, done = _loop(row, count, (0, below, _pieces(kept, count)), shapes)
    whole = done.concat()
    return tf.transpose(whole, (1, 0, *range(2, whole.shape.rank)))[:, :height, :width]


def _loop(body, count, variables, shapes):
    """Runs a body for i = 0 to `count`, one after the other; where there is no shape stands a TensorArray."""
    shapes = tuple(tf.TensorShape(shape) for shape in shapes)
    return tf.while_loop(lambda i, *_: i < count, body, variables, shapes, parallel_iterations=1)


def _pieces(like, count):
    """Returns an array for `count` pieces of unknown size along the first three axes."""
    shape = (None, None, None, *like.shape[3:])
    return tf.TensorArray(like.dtype, size=count, infer_shape=False, element_shape=shape)


def _added(values, more, axis):
    """Returns values [w, B, h, K] with `more`, which is no larger, added from the first place along an axis on."""
    missing = tf.shape(values)[axis] - tf.shape(more)[axis]
    return values + tf.pad(more, [(0, missing if a == axis else 0) for a in range(4)])
