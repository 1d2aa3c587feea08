"""Decoding JPEG files with OpenCV, after a look at their structure: not every release of it minds a missing end."""

import re
from typing import NamedTuple

import numpy as np

from kerasseg._opencv import cv2

# In compressed data FF is followed by 00, by a restart marker, or by more FF; anything else ends them.
_MARKER = re.compile(b"\xff[\x01-\xcf\xd8-\xfe]")
_END, _SCAN = 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


class JpegFrame(NamedTuple):
    """What the header of a JPEG file says of its image."""

    height: int
    width: int
    channels: int
    bits: int


def read_frame(data: bytes) -> JpegFrame:
    """Follows a JPEG file's markers to its end; what comes behind that is not looked at.

    Raises:
        ValueError: It is cut short, or its markers do not follow each other. Bits that flipped within the compressed
            data go unseen, as in any decoder.
    """
    position, frame = 2, None
    while True:
        position = _skip_fill(data, position)
        marker = data[position]
        if marker == _END:
            break
        position += 1
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if length < 2 or position + length > len(data):
            raise ValueError(f"it ends at byte {len(data)}, within its headers")
        if marker in _FRAMES and length >= 8:
            bits, height, width, channels = (data[position + 2], *_shorts(data, position + 3, 2), data[position + 7])
            frame = JpegFrame(height, width, channels, bits)
        position += length
        if marker == _SCAN:
            found = _MARKER.search(data, position)
            if found is None:
                raise ValueError(f"it ends at byte {len(data)}, within the picture")
            position = found.start()
    if frame is None or not frame.height or not frame.width:
        raise ValueError("it holds no picture")
    return frame


def _skip_fill(data: bytes, position: int) -> int:
    """Returns where the second byte of the marker at `position` is."""
    if position >= len(data) or data[position] != 0xFF:
        raise ValueError(f"no marker at byte {position} of {len(data)}")
    while position < len(data) and data[position] == 0xFF:
        position += 1
    if position == len(data):
        raise ValueError(f"it ends at byte {len(data)}")
    return position


def _shorts(data: bytes, position: int, count: int) -> list[int]:
    return [int.from_bytes(data[position + 2 * i : position + 2 * i + 2], "big") for i in range(count)]


def decode_jpeg(data: bytes, frame: JpegFrame, channels: int, pixels: bool = True) -> np.ndarray:
    """Decodes a file of 1 or 3 channels to uint8 [H, W, channels], as TensorFlow does with `"INTEGER_ACCURATE"`.

    Args:
        data: The file.
        frame: As `read_frame` gives it.
        channels: 1, of a grey file, or 3.
        pixels: False: the result has the shape only. The file is decoded nevertheless, at an eighth of its size, which
            reads all compressed data but spares two thirds of the arithmetic.

    Raises:
        ValueError: It does not decode.
    """
    if pixels:
        mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
    else:
        mode = cv2.IMREAD_REDUCED_GRAYSCALE_8 if channels == 1 else cv2.IMREAD_REDUCED_COLOR_8
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(error.err) from error
    scale = 1 if pixels else 8
    if image is None or image.shape[:2] != (-(-frame.height // scale), -(-frame.width // scale)):
        raise ValueError("it does not decode as JPEG")
    if pixels:
        return image.reshape(frame.height, frame.width, channels)
    return np.broadcast_to(np.uint8(0), (frame.height, frame.width, channels))
