"""Decoding records inside a TensorFlow graph."""

import tensorflow as tf

from kerasseg.records._example import SIDES, WEIGHT_SCALE
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

_FLOATS = tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True)

# The names of TensorFlow's Object Detection API.
OBJECT_FEATURES = {f"image/object/bbox/{side}": _FLOATS for side in SIDES} | {
    "image/object/class/label": tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
}
PROPOSAL_FEATURES = {f"image/proposal/bbox/{side}": _FLOATS for side in SIDES}


def parse(
    serialized: tf.Tensor,
    *,
    channels: int,
    bit_depth: int = 8,
    weight: bool = False,
    instances: bool = False,
    objects: bool = False,
    proposals: bool = False,
) -> dict[str, tf.Tensor]:
    """Decodes one record, in a `tf.data` graph or eagerly.

    Reads our records, those of TensorFlow's DeepLab, and the original DeepLab-v3 project's raw ones.

    Args:
        serialized: Scalar string.
        channels: C of every image, `DatasetSpec.channels`.
        bit_depth: `DatasetSpec.bit_depth`: 8, 16, or 32 for raw float32.
        weight: Whether to give "weight".
        instances: Whether to give "instances".
        objects: Whether to give "objects" and "object_labels".
        proposals: Whether to give "proposals".

    Returns:
        "image" uint8, uint16 or float32 [H, W, C]; "mask" uint8 [H, W], all 255 where the record has none; "key"
        string; where asked "weight" float32 [H, W], all 1 where the record has none, and "instances" int32 [H, W],
        all 0 where it has none; "objects" and "proposals" float32 [N, 4], boxes as ymin, xmin, ymax, xmax, where 0 and
        1 are the outer edges of the image, and "object_labels" int64 [N], the objects' classes; N = 0 where there are
        none.

    Raises:
        tf.errors.InvalidArgumentError: The record is damaged, mask and image differ in size, or a box lacks a side.
    """
    features = parse_features(serialized, objects=objects, proposals=proposals)
    return decode(features, channels=channels, bit_depth=bit_depth, weight=weight, instances=instances)


def parse_features(serialized: tf.Tensor, *, objects: bool = False, proposals: bool = False) -> dict[str, tf.Tensor]:
    """Returns the features of records as they are stored, nothing decoded; empty where a record has none.

    Of one record, or of several, [B]: but boxes of one only.

    "image/height" and "image/width" are those of the raw records of the original project, too, and where a record does
    not state them those of its image file. Where asked, boxes come with them as "objects", "object_labels" and
    "proposals"; see `parse`.
    """
    expected = FEATURES | (OBJECT_FEATURES if objects else {}) | (PROPOSAL_FEATURES if proposals else {})
    serialized = tf.convert_to_tensor(serialized)
    parsed = tf.io.parse_example if serialized.shape.rank else tf.io.parse_single_example
    features = parsed(serialized, expected)
    if objects:
        features["objects"] = _boxes(features, "image/object/bbox")
        features["object_labels"] = features["image/object/class/label"]
    if proposals:
        features["proposals"] = _boxes(features, "image/proposal/bbox")
    is_original = tf.strings.length(features["image_raw"]) > 0
    sides = ("height", "width")
    stated = tf.stack([tf.where(is_original, features[side], features[f"image/{side}"]) for side in sides], -1)
    size = tf.cond(tf.reduce_all(stated > 0), lambda: stated, lambda: _stated_or_read(stated, features))
    features["image/height"], features["image/width"] = tf.unstack(size, 2, axis=-1)
    return features


def _stated_or_read(stated, features):
    """Returns heights and widths, int64 [..., 2], of the image files where a record does not state them."""

    def one(of_record):
        stated, encoded = of_record
        return tf.cond(tf.reduce_all(stated > 0), lambda: stated, lambda: _size_in_header(encoded))

    given = stated, features["image/encoded"]
    return tf.map_fn(one, given, fn_output_signature=tf.int64) if stated.shape.rank > 1 else one(given)


def _size_in_header(encoded: tf.Tensor) -> tf.Tensor:
    """Returns height and width of a JPEG or PNG file, int64 [2]; not all programs state them beside it."""

    def png():
        width_and_height = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
        return tf.cast(width_and_height[::-1], tf.int64)

    return tf.cond(tf.io.is_jpeg(encoded), lambda: tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64), png)


def decode(
    features: dict[str, tf.Tensor],
    *,
    channels: int,
    bit_depth: int = 8,
    weight: bool = False,
    instances: bool = False,
    window: tf.Tensor | None = None,
) -> dict[str, tf.Tensor]:
    """Decodes what `parse_features` gives, whole or the part in a window. See `parse`.

    Args:
        features: Of one record; boxes among them pass as they are, in parts of the whole image.
        channels: C of every image.
        bit_depth: 8, 16, or 32 for raw float32.
        weight: Whether to give "weight".
        instances: Whether to give "instances".
        window: int32 [4], top, left, height and width of the part to give, which lies within the image. Of a JPEG
            no more is decoded.
    """
    if channels == 3 and bit_depth == 8:
        image, mask = tf.cond(
            tf.strings.length(features["image_raw"]) > 0,
            lambda: _decode_original(features, window),
            lambda: _decode_pair(features, channels, bit_depth, window),
        )
    else:
        image, mask = _decode_pair(features, channels, bit_depth, window)
    image = tf.ensure_shape(image, [None, None, channels])
    mask = tf.ensure_shape(mask, [None, None])
    decoded = {"image": image, "mask": mask, "key": features["image/filename"]}
    if weight:
        stored = _decode_map(features, "weight", image, tf.uint16, WEIGHT_SCALE, window)
        decoded["weight"] = tf.cast(stored, tf.float32) / WEIGHT_SCALE
    if instances:
        stored = _decode_map(features, "instance", image, tf.uint16, 0, window)
        decoded["instances"] = tf.cast(stored, tf.int32)
    boxes = {name: features[name] for name in ("objects", "object_labels", "proposals") if name in features}
    return decoded | boxes


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


def _boxes(features, prefix):
    """Returns float32 [N, 4]; fails in the graph where the four sides are not equally many."""
    return tf.stack([features[f"{prefix}/{side}"] for side in SIDES], axis=1)


def _decode_pair(features, channels, bit_depth, window):
    encoded = features["image/encoded"]
    if bit_depth == 32:
        values = tf.io.decode_raw(encoded, tf.float32, little_endian=True)
        whole = tf.reshape(values, [features["image/height"], features["image/width"], channels])
        image = _cut(whole, window)
    elif window is not None and bit_depth == 8 and channels != 2:
        image = tf.cond(
            tf.io.is_jpeg(encoded),
            lambda: tf.image.decode_and_crop_jpeg(encoded, window, channels, dct_method="INTEGER_ACCURATE"),
            lambda: _cut(decode_image(encoded, channels, bit_depth), window),
        )
    else:
        image = _cut(decode_image(encoded, channels, bit_depth), window)
    return image, _decode_map(features, "class", image, tf.uint8, IGNORE_LABEL, window)


def _cut(array, window):
    if window is None:
        return array
    top, left, height, width = tf.unstack(window)
    return array[top : top + height, left : left + width]


def _decode_map(features, name, image, dtype, missing, window):
    """Returns [H, W] of `dtype`; where the record has no such map, `missing` everywhere."""
    encoded = features[f"image/segmentation/{name}/encoded"]
    size = tf.shape(image)[:2]
    decoded = tf.cond(
        tf.strings.length(encoded) > 0,
        lambda: _cut(tf.io.decode_png(encoded, channels=1, dtype=dtype)[..., 0], window),
        lambda: tf.cast(tf.fill(size, missing), dtype),
    )
    same = tf.debugging.assert_equal(tf.shape(decoded), size, "mask and image of a record differ in size")
    with tf.control_dependencies([same] if same is not None else []):
        return tf.identity(decoded)


def _decode_original(features, window):
    """The records of the original project: uint8 bytes in row-major order, RGB image and one-channel annotation."""
    size = [features["height"], features["width"]]
    image = tf.reshape(tf.io.decode_raw(features["image_raw"], tf.uint8), [*size, 3])
    mask = tf.reshape(tf.io.decode_raw(features["annotation_raw"], tf.uint8), size)
    return _cut(image, window), _cut(mask, window)
