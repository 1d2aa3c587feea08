"""Decoding JPEG files with OpenCV, after a look at their structure: not every release of it minds a missing end."""

import io
import re
from typing import NamedTuple

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from kerasseg._opencv import cv2

# In compressed data FF is followed by 00, by a restart marker, or by more FF; anything else ends them.
_MARKER = re.compile(b"\xff[\x01-\xcf\xd8-\xfe]")
_END, _SCAN = 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_OF_APPLICATIONS = {*range(0xE0, 0xF0), 0xFE}

_PROBED = 256
"""Bytes of compressed data that are left to the headers when these are tried out."""


class JpegFrame(NamedTuple):
    """What the headers of a JPEG file say of its image.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: 1, 3, or 4 of inks.
        bits: Of each.
        row_headers: Those of a file of its first row, without what applications added.
        data_at: Byte where the compressed data of the first scan begin.
        one_scan: Whether that scan holds all channels whole, so that nothing that comes after it is needed.
    """

    height: int
    width: int
    channels: int
    bits: int
    row_headers: bytes
    data_at: int
    one_scan: bool


def read_frame(data: bytes) -> JpegFrame:
    """Follows a JPEG file's markers to its end; what comes behind that is not looked at.

    Raises:
        ValueError: It is cut short, or its markers do not follow each other. Bits that flipped within the compressed
            data go unseen, as in any decoder.
    """
    position, frame, data_at, one_scan, headers = 2, (), 0, False, [b"\xff\xd8"]
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
        if not data_at and marker not in _OF_APPLICATIONS:
            headers.append(b"\xff" + data[position - 1 : position + length])
        if marker in _FRAMES and length >= 8:
            if frame:
                raise ValueError("it holds two pictures")
            frame = (*_shorts(data, position + 3, 2), data[position + 7], data[position + 2])
            headers[-1] = headers[-1][:5] + b"\0\1" + headers[-1][7:]
            sequential = marker in _SEQUENTIAL
        elif marker == _SCAN and not data_at:
            if not frame:
                raise ValueError("its picture begins before its size is told")
            data_at, one_scan = position + length, sequential and data[position + 2 : position + 3] == bytes(frame[2:3])
        position += length
        if marker == _SCAN:
            found = _MARKER.search(data, position)
            if found is None:
                raise ValueError(f"it ends at byte {len(data)}, within the picture")
            position = found.start()
    if not data_at or not frame[0] or not frame[1]:
        raise ValueError("it holds no picture")
    return JpegFrame(*frame, b"".join(headers), data_at, one_scan)


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


def check_jpeg(data: bytes, frame: JpegFrame) -> None:
    """Finds out, at a tenth of the cost of decoding, whether a file of 1 or 3 channels decodes.

    Of what `read_frame` leaves open, decoders refuse headers that are wrong, tables that are missing, and scans in a
    wrong order: within the compressed data every bit is legal, or replaced by grey without an error. So the headers are
    tried out on the first pixels alone. Only where there are several scans (progressive files), all is decoded.

    Args:
        data: The file.
        frame: As `read_frame` gives it.

    Raises:
        ValueError: It does not decode.
    """
    if not frame.one_scan:
        _decode(data, frame, frame.channels, scale=8)
        return
    first_row = b"".join([frame.row_headers, data[frame.data_at : frame.data_at + _PROBED], b"\xff\xd9"])
    try:
        # With Pillow: OpenCV and TensorFlow print a warning that the data are cut short.
        with JpegImageFile(io.BytesIO(first_row)) as image:
            image.draft(None, (1, 1))
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError("it does not decode as JPEG") from error


def decode_jpeg(data: bytes, frame: JpegFrame, channels: int) -> np.ndarray:
    """Decodes a file of 1 or 3 channels to uint8 [H, W, channels], as TensorFlow does with `"INTEGER_ACCURATE"`.

    Args:
        data: The file.
        frame: As `read_frame` gives it.
        channels: 1, of a grey file, or 3.

    Raises:
        ValueError: It does not decode.
    """
    return _decode(data, frame, channels, scale=1).reshape(frame.height, frame.width, channels)


_MODES = {
    (1, 1): cv2.IMREAD_GRAYSCALE,
    (3, 1): cv2.IMREAD_COLOR_RGB,
    (1, 8): cv2.IMREAD_REDUCED_GRAYSCALE_8,
    (3, 8): cv2.IMREAD_REDUCED_COLOR_8,
}


def _decode(data: bytes, frame: JpegFrame, channels: int, scale: int) -> np.ndarray:
    """Decodes to one pixel of `scale` x `scale`: at 8, two thirds of the arithmetic are spared."""
    mode = _MODES[channels, scale] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise ValueError(error.err) from error
    if image is None or image.shape[:2] != (-(-frame.height // scale), -(-frame.width // scale)):
        raise ValueError("it does not decode as JPEG")
    return image
