"""From a record to what is to be done with it: its parts, still encoded, and its plan. TensorFlow graph ops."""

import dataclasses

import tensorflow as tf

from kerasseg import augment, records
from kerasseg.augment import Augmentation, Plan
from kerasseg.spec import IGNORE_LABEL, DatasetSpec

STORED = {"image": "image/encoded", "mask": "image/segmentation/class/encoded"} | {
    name: f"image/segmentation/{field}/encoded" for name, field in (("weight", "weight"), ("instances", "instance"))
}
"""Where a record keeps the parts of a sample."""

PADDING = {"image": 0, "mask": IGNORE_LABEL, "weight": 0, "instances": 0}
"""What fills up the smaller images of a batch of whole ones."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the samples of a training run are made of.

    Attributes:
        spec: The data set.
        crop_size: Height and width of the result; None: whole images.
        weight: Whether the weight maps are wanted.
        instances: Whether the instance ids are.
        compact: Whether image and mask are wanted in uint8.
    """

    spec: DatasetSpec
    crop_size: tuple[int, int] | None
    weight: bool = False
    instances: bool = False
    compact: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of a sample's entries, in the order of the batches' elements."""
        optional = (("weight", self.weight), ("instances", self.instances))
        return ("image", "mask", *(name for name, wanted in optional if wanted))

    @property
    def dtypes(self) -> dict[str, tf.DType]:
        """Of the parts in a batch."""
        image, mask = (tf.uint8, tf.uint8) if self.compact else (tf.float32, tf.int32)
        return {"image": image, "mask": mask, "weight": tf.float32, "instances": tf.int32}


def draw(
    seed: tf.Tensor, serialized: tf.Tensor, augmentation: Augmentation, wanted: Wanted
) -> tuple[dict[str, tf.Tensor], Plan]:
    """Returns the features of a record and the plan that `seed` gives it."""
    features = _features_with_boxes(serialized, augmentation)
    size = _checked_sizes(features)
    plan = augment.draw_plan(augmentation, seed, size, wanted.crop_size, wanted.spec.channels, features)
    return features, plan


def draw_batch(
    seeds: tf.Tensor, serialized: tf.Tensor, augmentation: Augmentation, wanted: Wanted, views=None
) -> tuple[dict[str, tf.Tensor], Plan]:
    """Returns what `draw` does, of a batch of known size; `views` are of `draw_box`, where there are boxes."""
    features = records.parse_features(serialized)
    sizes = _checked_sizes(features)
    plan = augment.draw_plans(augmentation, seeds, sizes, wanted.crop_size, wanted.spec.channels, views)
    return features, plan


def draw_box(seed: tf.Tensor, serialized: tf.Tensor, augmentation: Augmentation, wanted: Wanted):
    """Returns the view of an object or a proposal of a record and the object's class, see `augment.draw_view`."""
    features = _features_with_boxes(serialized, augmentation)
    return augment.draw_view(augmentation, seed, features, _checked_sizes(features), wanted.crop_size)


def _features_with_boxes(serialized, augmentation):
    proposals = augmentation.crop == "proposal"
    return records.parse_features(serialized, objects=augmentation.needs_boxes, proposals=proposals)


def _checked_sizes(features):
    """Returns height and width, int32 [..., 2]."""
    size = tf.cast(tf.stack([features["image/height"], features["image/width"]], -1), tf.int32)
    known = tf.debugging.assert_positive(size, "a record's image has no pixels")
    with tf.control_dependencies([known] if known is not None else []):
        return tf.identity(size)
