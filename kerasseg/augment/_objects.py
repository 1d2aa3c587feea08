"""Where DeconvNet looks: windows around objects and proposals, and masks of one class. TensorFlow graph ops.

Boxes are float32 (ymin, xmin, ymax, xmax), where 0 and 1 are the outer edges of the image, as
`kerasseg.records.parse(..., objects=True, proposals=True)` gives them. Nothing is drawn here: what is random comes in
as numbers uniform in [0, 1), so that a sample's parameters are drawn in one place.

Source: DeconvNet's released training data and arXiv:1505.04366, §4.2 and §5.
"""

import numpy as np
import tensorflow as tf

from kerasseg.spec import IGNORE_LABEL

MAX_SHIFT = 0.3
"""`jittered_box` moves a box by at most this share of its sides,"""

MAX_SCALE = 1.5
"""and makes them longer or shorter by at most this factor."""

_WHOLE = (0.0, 0.0, 1.0, 1.0)


def object_window(boxes: tf.Tensor, which, size, enlarge: float = 1.2):
    """Returns the enlarged box of one object as a window in pixels.

    Args:
        boxes: [N, 4]. With N = 0 the window is the whole image, not enlarged.
        which: A number in [0, 1) that chooses evenly among the boxes (float scalar), or a box's index (integer).
        size: Height and width of the image in pixels, [2].
        enlarge: Factor of both sides; the centre stays. DeconvNet's first stage: 1.2.

    Returns:
        top, left, height, width: float32 scalars, pixels from the image's upper left edge. The window may leave the
        image; DeconvNet's authors pad the image with 0 and the mask with 255 there.
    """
    boxes = tf.reshape(tf.cast(boxes, tf.float32), [-1, 4])
    scale = tf.where(tf.shape(boxes)[0] > 0, tf.cast(enlarge, tf.float32), 1.0)
    box = _one(boxes, which)
    size = tf.cast(tf.convert_to_tensor(size), tf.float32)
    centre, sides = (box[:2] + box[2:]) / 2 * size, (box[2:] - box[:2]) * size * scale
    (top, left), (height, width) = tf.unstack(centre - sides / 2), tf.unstack(sides)
    return top, left, height, width


def iou(boxes_a: tf.Tensor, boxes_b: tf.Tensor) -> tf.Tensor:
    """Returns the area of intersection over that of union of all pairs, float32 [N, M]; 0 where both areas are 0.

    Args:
        boxes_a: [N, 4].
        boxes_b: [M, 4].
    """
    a, b = boxes_a[:, tf.newaxis], boxes_b[tf.newaxis]
    common = _area(tf.concat([tf.maximum(a[..., :2], b[..., :2]), tf.minimum(a[..., 2:], b[..., 2:])], axis=-1))
    return tf.math.divide_no_nan(common, _area(a) + _area(b) - common)


def choose_proposal(proposals: tf.Tensor, objects: tf.Tensor, u, min_iou: float = 0.5) -> tf.Tensor:
    """Returns one proposal that overlaps an object well, float32 [4], each of these equally likely.

    Where no proposal does, one of the objects is taken; where there is no object, the whole image.

    Args:
        proposals: [N, 4].
        objects: [M, 4].
        u: Float scalar in [0, 1).
        min_iou: Least `iou` with any of the objects; DeconvNet's second stage: 0.5.
    """
    best = tf.reduce_max(iou(proposals, objects), axis=1)  # the lowest float where there is no object
    good = tf.boolean_mask(proposals, best >= min_iou)
    return _one(tf.cond(tf.shape(good)[0] > 0, lambda: good, lambda: objects), u)


def jittered_box(objects: tf.Tensor, u, uniforms: tf.Tensor, min_iou: float = 0.5) -> tf.Tensor:
    """Returns an object's box moved and resized at random, float32 [4], for data without proposals.

    This is not DeconvNet's, which takes proposals of EdgeBox: those follow edges in the picture and may well hold
    several objects or a part of one. It shares their tolerance, the least overlap, and stays in the image.

    Of K candidates the first one is taken that overlaps the object enough, else the object's box. With the defaults 57
    of 100 candidates do, away from the image's borders: K = 16 leaves one box in a million as it was.

    Args:
        objects: [N, 4]. With N = 0 the whole image is returned.
        u: Float scalar in [0, 1), which chooses the object.
        uniforms: [K, 4], in [0, 1): of each candidate the shifts down and right, by up to `MAX_SHIFT` of its sides, and
            the factors of height and width, from 1 / `MAX_SCALE` to `MAX_SCALE`, even on a logarithmic scale.
        min_iou: Least `iou` with the object.
    """
    box = _one(objects, u)
    centred = 2 * tf.cast(uniforms, tf.float32) - 1
    sides = box[2:] - box[:2]
    centres = (box[:2] + box[2:]) / 2 + MAX_SHIFT * sides * centred[:, :2]
    halves = sides / 2 * tf.exp(np.float32(np.log(MAX_SCALE)) * centred[:, 2:])
    candidates = tf.clip_by_value(tf.concat([centres - halves, centres + halves], axis=1), 0, 1)
    good = tf.boolean_mask(candidates, iou(candidates, box[tf.newaxis])[:, 0] >= min_iou)
    jittered = tf.concat([good, box[tf.newaxis]], axis=0)[0]
    return tf.where(tf.shape(objects)[0] > 0, jittered, tf.constant(_WHOLE))


def keep_class(mask: tf.Tensor, label, background: int = 0, ignore_label: int = IGNORE_LABEL) -> tf.Tensor:
    """Returns the mask with every class but one made background, as in DeconvNet's first stage.

    Args:
        mask: Integers, any shape.
        label: The class to keep, an integer scalar.
        background: What other classes become.
        ignore_label: Pixels of this value keep it.
    """
    mask = tf.convert_to_tensor(mask)
    kept = (mask == tf.cast(label, mask.dtype)) | (mask == tf.cast(ignore_label, mask.dtype))
    return tf.where(kept, mask, tf.cast(background, mask.dtype))


def _one(boxes, which):
    """Returns the box [4] that a number in [0, 1) or an index chooses; the whole image where there is none."""
    number, which = tf.shape(boxes)[0], tf.convert_to_tensor(which)
    if which.dtype.is_floating:
        # Just below 1, the product may be rounded up to the number itself.
        which = tf.minimum(tf.cast(which * tf.cast(number, which.dtype), tf.int32), number - 1)
    return tf.concat([boxes, tf.constant([_WHOLE])], axis=0)[tf.where(number > 0, tf.cast(which, tf.int32), 0)]


def _area(boxes):
    sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def rim_targets(mask: tf.Tensor, instances: tf.Tensor, ignore_label: int = IGNORE_LABEL) -> tf.Tensor:
    """Returns the mask of outside 0, inside 1 and rim 2 of a batch, after augmentation.

    The rim is an object's outermost pixels: those with one of eight neighbours in the image that is not of the object.
    `kerasseg.records.instance_targets(instances, "rim")` is the same at conversion, in NumPy.

    Args:
        mask: Integer [B, H, W]; only where it is ignored matters.
        instances: Integer [B, H, W], 0 = no object, below 2**24.
        ignore_label: Mask value that stays.

    Returns:
        Like `mask`.
    """
    numbers = tf.cast(instances, tf.float32)[..., None]
    highest, lowest = tf.nn.max_pool2d(numbers, 3, 1, "SAME"), -tf.nn.max_pool2d(-numbers, 3, 1, "SAME")
    rim = tf.squeeze((highest != numbers) | (lowest != numbers), -1)
    target = tf.where(instances > 0, tf.where(rim, 2, 1), 0)
    return tf.where(mask == ignore_label, mask, tf.cast(target, mask.dtype))
