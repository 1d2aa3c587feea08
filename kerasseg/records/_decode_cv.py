"""Decoding the parts of records with OpenCV, outside the graph: same pixels as `decode`, without Python's lock."""

import numpy as np
import tensorflow as tf

from kerasseg._opencv import cv2
from kerasseg.records._example import WEIGHT_SCALE
from kerasseg.records._parse import decode_image
from kerasseg.spec import DataError

_PNG_MAGIC = b"\x89PNG"
# PNG colour types that OpenCV decodes as TensorFlow does: grey, RGB, palette, RGB with alpha.
_COLOUR = {1: (0,), 3: (0, 2, 3, 6)}


def decode_image_cv(encoded: bytes, channels: int, bit_depth: int) -> np.ndarray:
    """Decodes a JPEG or PNG file, uint8 or uint16 [H, W, C]; the same pixels as `decode_image`.

    Raises:
        DataError: It does not decode.
    """
    is_png = encoded[:4] == _PNG_MAGIC
    depth = 16 if is_png and encoded[24:25] == b"\x10" else 8
    if channels not in _COLOUR or depth != bit_depth or (is_png and encoded[25] not in _COLOUR[channels]):
        return _decode_with_tensorflow(encoded, channels, bit_depth)
    colour = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    flags = colour | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = _imdecode(encoded, flags, "image")
    return image.reshape(*image.shape[:2], channels)


def decode_map_cv(encoded: bytes, name: str) -> np.ndarray:
    """Decodes a one-channel PNG: uint8 "mask", float32 "weight" or int32 "instances", [H, W].

    Raises:
        DataError: It does not decode, or has more channels than one.
    """
    array = _imdecode(encoded, cv2.IMREAD_UNCHANGED, name)
    if array.ndim != 2:
        raise DataError(f"the {name} is no one-channel PNG; store the ids themselves")
    if name == "weight":
        return array.astype(np.float32) / WEIGHT_SCALE
    return array.astype(np.int32) if name == "instances" else array


def _imdecode(encoded: bytes, flags: int, name: str) -> np.ndarray:
    try:
        array = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"the {name} does not decode ({error.err})") from error
    if array is None:
        raise DataError(f"the {name} does not decode")
    return array


def _decode_with_tensorflow(encoded, channels, bit_depth):
    try:
        return decode_image(tf.constant(encoded), channels, bit_depth).numpy()
    except tf.errors.OpError as error:
        raise DataError("the image does not decode") from error
