"""The same image seen several ways inside of a graph, and the mean of what a network makes of them."""

from collections.abc import Callable

import tensorflow as tf


def mean_probabilities(
    logits_of: Callable, num_classes: int, images: tf.Tensor, scales: tuple[float, ...], flip: bool
) -> tf.Tensor:
    """Returns the mean of the softmax over an image's views, float32 [B, H, W, K], as `kerasseg.inference` takes it.

    A loop, so that the graph holds the network once, and memory is that of one view.

    Args:
        logits_of: Images float32 [B, h, w, C] -> logits float32 [B, h, w, K].
        num_classes: K.
        images: float32 [B, H, W, C].
        scales: Factors of the sides: of n pixels (n - 1) * scale + 1 are seen, cut to whole ones.
        flip: Whether each of these is also seen mirrored, left to right.
    """
    size = tf.shape(images)[1:3]
    ways = 2 if flip else 1
    count = len(scales) * ways

    def view(i, total):
        with tf.control_dependencies([total]):  # One view at a time.
            seen = tf.identity(images)
        if scales != (1.0,):
            # In float64, as Python computes: where the product is a whole number, float32 may fall below it.
            scale = tf.gather(tf.constant(scales, tf.float64), i // ways)
            seen = _resized(seen, tf.cast(tf.cast(size - 1, tf.float64) * scale + 1, tf.int32))
        if flip:
            seen = _mirrored_if(i % 2 == 1, seen)
        logits = logits_of(seen)
        if flip:
            logits = _mirrored_if(i % 2 == 1, logits)
        if scales != (1.0,):
            logits = _resized(logits, size)
        return i + 1, total + tf.nn.softmax(logits)

    nothing = tf.zeros((tf.shape(images)[0], size[0], size[1], num_classes))
    shapes = (tf.TensorShape(()), tf.TensorShape((None, None, None, num_classes)))
    _, total = tf.while_loop(lambda i, _: i < count, view, (0, nothing), shapes, parallel_iterations=1)
    return total / count


def _resized(images, size):
    """Resizes bilinearly, corners upon corners."""
    return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True)


def _mirrored_if(condition, images):
    return tf.cond(condition, lambda: tf.reverse(images, [2]), lambda: images)
