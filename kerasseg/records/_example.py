"""One image with what is known about its pixels, and its form as a record."""

import dataclasses

import numpy as np
import tensorflow as tf

from kerasseg.records._objects import object_boxes
from kerasseg.records._png import unfiltered
from kerasseg.records._serialize import serialized_example
from kerasseg.spec import IGNORE_LABEL, DataError

WEIGHT_SCALE = 1024
"""A stored weight is `round(weight * WEIGHT_SCALE)` in 16 bits: 0 to 63.999 in steps of 0.001."""

MAX_WEIGHT = 65535 / WEIGHT_SCALE
"""The largest weight that a record can hold."""

BIT_DEPTHS = {"uint8": 8, "uint16": 16, "float32": 32}
"""Of an image's dtype."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One image with its mask.

    Attributes:
        key: Its name, unique within the data set (`2007_000032`).
        image: uint8, uint16 or float32 [H, W, C].
        mask: uint8 [H, W] of class ids and the ignored label; None where nothing is known.
        instances: uint16 [H, W]: 0 = none, 1..n the objects.
        weight: float32 [H, W], 0 to 63.999: how much each pixel counts in the loss.
        proposals: float32 [N, 4]: boxes that may hold an object (ymin, xmin, ymax, xmax; 0 and 1 are the outer edges of
            the image), in the order in which they were given.
        image_bytes: The source file (JPEG or PNG), stored untouched; `image` is what it decodes to.
        image_format: `"jpeg"` or `"png"`, with `image_bytes`.
        mask_bytes: A grey PNG of 8 bits that decodes to `mask`, stored as it is. Default: one is made of `mask`.
        source: The files that it came from, for error messages.
    """

    key: str
    image: np.ndarray
    mask: np.ndarray | None = None
    instances: np.ndarray | None = None
    weight: np.ndarray | None = None
    proposals: np.ndarray | None = None
    image_bytes: bytes | None = None
    image_format: str | None = None
    mask_bytes: bytes | None = None
    source: str = ""

    @property
    def label(self) -> str:
        """How an error message calls it."""
        return f"{self.key} ({self.source})" if self.source else self.key


SIDES = ("ymin", "xmin", "ymax", "xmax")
"""The order of a box's sides in our arrays, and their names in a record."""


def encode(example: Example, ignore_label: int = IGNORE_LABEL) -> bytes:
    """Returns the serialised record of a checked example; with instances and mask, its objects' boxes as well."""
    height, width, channels = example.image.shape
    encoded, form = _encode_image(example)
    features = {
        "image/encoded": encoded,
        "image/filename": example.key.encode(),
        "image/format": form.encode(),
        "image/height": height,
        "image/width": width,
        "image/channels": channels,
    }
    if example.mask is not None:
        features["image/segmentation/class/encoded"] = example.mask_bytes or _encode_map(example.mask)
        features["image/segmentation/class/format"] = b"png"
    if example.instances is not None:
        features["image/segmentation/instance/encoded"] = _encode_map(example.instances)
    if example.weight is not None:
        scaled = np.rint(example.weight * WEIGHT_SCALE)
        features["image/segmentation/weight/encoded"] = _encode_map(scaled.astype(np.uint16))
    if example.instances is not None and example.mask is not None:
        boxes, labels = object_boxes(example.instances, example.mask, ignore_label)
        features |= _box_features("image/object/bbox", boxes) | {"image/object/class/label": labels}
    if example.proposals is not None:
        features |= _box_features("image/proposal/bbox", example.proposals)
    return serialized_example(features)


def _box_features(prefix: str, boxes: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{prefix}/{side}": boxes[:, i] for i, side in enumerate(SIDES)}


def _encode_image(example: Example) -> tuple[bytes, str]:
    """Returns the bytes and their format: the source's own, else PNG, else raw little-endian float32."""
    if example.image_bytes is not None:
        return example.image_bytes, example.image_format
    if example.image.dtype == np.float32:
        return example.image.astype("<f4").tobytes(), "raw"
    return tf.io.encode_png(example.image).numpy(), "png"


def _encode_map(array: np.ndarray) -> bytes:
    """Returns a one-channel PNG of uint8 or uint16 [H, W].

    Rows are stored unfiltered: maps of few values compress as well that way, and decode three to five times faster.
    """
    if array.ndim != 2 or not array.size or array.dtype not in (np.uint8, np.uint16):
        raise DataError(f"cannot encode a map of shape {array.shape} and type {array.dtype} as PNG")
    return unfiltered(array)
