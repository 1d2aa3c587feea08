"""Decoding records inside a TensorFlow graph."""

import tensorflow as tf

from kerasseg.records._example import WEIGHT_SCALE
from kerasseg.spec import IGNORE_LABEL

# Ours and the original DeepLab-v3 project's; what a record lacks parses as empty.
FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string, ""),
    "image/filename": tf.io.FixedLenFeature([], tf.string, ""),
    "image/height": tf.io.FixedLenFeature([], tf.int64, 0),
    "image/width": tf.io.FixedLenFeature([], tf.int64, 0),
    "image/segmentation/class/encoded": tf.io.FixedLenFeature([], tf.string, ""),
    "image/segmentation/instance/encoded": tf.io.FixedLenFeature([], tf.string, ""),
    "image/segmentation/weight/encoded": tf.io.FixedLenFeature([], tf.string, ""),
    "image_raw": tf.io.FixedLenFeature([], tf.string, ""),
    "annotation_raw": tf.io.FixedLenFeature([], tf.string, ""),
    "height": tf.io.FixedLenFeature([], tf.int64, 0),
    "width": tf.io.FixedLenFeature([], tf.int64, 0),
}


def parse(
    serialized: tf.Tensor, *, channels: int, bit_depth: int = 8, weight: bool = False, instances: bool = False
) -> dict[str, tf.Tensor]:
    """Decodes one record, in a `tf.data` graph or eagerly.

    Reads our records, those of TensorFlow's DeepLab, and the original DeepLab-v3 project's raw ones.

    Args:
        serialized: Scalar string.
        channels: C of every image, `DatasetSpec.channels`.
        bit_depth: `DatasetSpec.bit_depth`: 8, 16, or 32 for raw float32.
        weight: Whether to give "weight".
        instances: Whether to give "instances".

    Returns:
        "image" uint8, uint16 or float32 [H, W, C]; "mask" uint8 [H, W], all 255 where the record has none; "key"
        string; where asked "weight" float32 [H, W], all 1 where the record has none, and "instances" int32 [H, W],
        all 0 where it has none.

    Raises:
        tf.errors.InvalidArgumentError: The record is damaged, or mask and image differ in size.
    """
    features = tf.io.parse_single_example(serialized, FEATURES)
    if channels == 3 and bit_depth == 8:
        image, mask = tf.cond(
            tf.strings.length(features["image_raw"]) > 0,
            lambda: _decode_original(features),
            lambda: _decode_pair(features, channels, bit_depth),
        )
    else:
        image, mask = _decode_pair(features, channels, bit_depth)
    image = tf.ensure_shape(image, [None, None, channels])
    mask = tf.ensure_shape(mask, [None, None])
    parsed = {"image": image, "mask": mask, "key": features["image/filename"]}
    if weight:
        stored = _decode_map(features["image/segmentation/weight/encoded"], image, tf.uint16, WEIGHT_SCALE)
        parsed["weight"] = tf.cast(stored, tf.float32) / WEIGHT_SCALE
    if instances:
        stored = _decode_map(features["image/segmentation/instance/encoded"], image, tf.uint16, 0)
        parsed["instances"] = tf.cast(stored, tf.int32)
    return parsed


def decode_image(encoded: tf.Tensor, channels: int, bit_depth: int) -> tf.Tensor:
    """Decodes a JPEG or PNG file to [H, W, C], uint8 or uint16 by `bit_depth`; more channels than `channels` are cut.

    JPEG goes through the accurate inverse transform, as in libjpeg's and Pillow's default: TensorFlow's own default
    is a fast one that differs by a few grey levels, and a mask's pixels must not depend on the reader.
    """
    asked = 0 if channels == 2 else channels  # the ops know no "2", but give it where the file has it
    if bit_depth == 16:
        image = tf.io.decode_png(encoded, channels=asked, dtype=tf.uint16)
    else:
        image = tf.io.decode_jpeg(encoded, channels=asked, dct_method="INTEGER_ACCURATE")  # PNG as well
    return tf.ensure_shape(image, [None, None, channels])


def _decode_pair(features, channels, bit_depth):
    if bit_depth == 32:
        values = tf.io.decode_raw(features["image/encoded"], tf.float32, little_endian=True)
        image = tf.reshape(values, [features["image/height"], features["image/width"], channels])
    else:
        image = decode_image(features["image/encoded"], channels, bit_depth)
    return image, _decode_map(features["image/segmentation/class/encoded"], image, tf.uint8, IGNORE_LABEL)


def _decode_map(encoded, image, dtype, missing):
    """Returns [H, W] of `dtype`; where the record has no such map, `missing` everywhere."""
    size = tf.shape(image)[:2]
    decoded = tf.cond(
        tf.strings.length(encoded) > 0,
        lambda: tf.io.decode_png(encoded, channels=1, dtype=dtype)[..., 0],
        lambda: tf.cast(tf.fill(size, missing), dtype),
    )
    same = tf.debugging.assert_equal(tf.shape(decoded), size, "mask and image of a record differ in size")
    with tf.control_dependencies([same] if same is not None else []):
        return tf.identity(decoded)


def _decode_original(features):
    """The records of the original project: uint8 bytes in row-major order, RGB image and one-channel annotation."""
    size = [features["height"], features["width"]]
    image = tf.reshape(tf.io.decode_raw(features["image_raw"], tf.uint8), [*size, 3])
    mask = tf.reshape(tf.io.decode_raw(features["annotation_raw"], tf.uint8), size)
    return image, mask
