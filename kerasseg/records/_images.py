"""Reading source images of any common format as they are: 8 and 16 bits, one to many channels, nothing padded."""

import io
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from kerasseg.records._files import check_size, damaged, is_tiff, read_bytes
from kerasseg.records._jpeg import check_jpeg, decode_jpeg, read_frame
from kerasseg.records._parse import decode_image
from kerasseg.records._png import MAGIC as _PNG_MAGIC
from kerasseg.records._png import read_chunks
from kerasseg.records._tiff import read_tiff
from kerasseg.spec import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
"""Of files that count as images when a folder is listed."""

# PNG colour type: channels without alpha. Type 3, palette, decodes to its colours.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}


class SourceImage(NamedTuple):
    """An image file's pixels, and the file itself where a record can hold it untouched.

    Attributes:
        image: uint8, uint16 or float32 [H, W, C], RGB.
        data: The bytes of a JPEG or PNG file that decode to `image`; None where they do not.
        format: `"jpeg"` or `"png"` with `data`.
    """

    image: np.ndarray
    data: bytes | None = None
    format: str | None = None


def read_image(path, channels: int | None = None, pixels: bool = True) -> SourceImage:
    """Reads an image file: JPEG, PNG, TIFF, or whatever Pillow knows.

    Orientation notes of cameras (EXIF) are not applied, as no reader of masks applies them.

    Args:
        path: The file.
        channels: C to give. Default: as in the file, without an alpha channel. Grey becomes 3 equal channels where 3
            are asked for; colour becomes grey (Rec. 601) where 1 is.
        pixels: False: where a JPEG file can be stored as it is, `image` has the shape and type only, and no pixels
            (all 0). The file is checked as well as with pixels, but faster.

    Raises:
        DataError: The file is missing, cut short, damaged, no image, or of another number of channels.
    """
    data = read_bytes(path)
    if data[:2] == b"\xff\xd8":
        return _read_jpeg(path, data, channels, pixels)
    if data[:8] == _PNG_MAGIC:
        return _read_png(path, data, channels)
    array = read_tiff(path) if is_tiff(data) else _read_with_pillow(path, data)
    return SourceImage(_as_stored(_with_channels(array, channels, path), path))


def image_channels(path) -> int:
    """Returns C of an image file without its alpha channel, from the header where that tells it."""
    with open(path, "rb") as file:
        head = file.read(32)
    if head[:8] == _PNG_MAGIC and len(head) > 25:
        return _PNG_CHANNELS.get(head[25], 3)
    if head[:2] == b"\xff\xd8":
        try:
            with Image.open(path) as image:
                return 1 if image.mode == "L" else 3
        except (OSError, SyntaxError) as error:
            raise damaged(path, error) from error
    return read_image(path).image.shape[2]


def _read_jpeg(path, data, channels, pixels) -> SourceImage:
    try:
        frame = read_frame(data)
        check_size(path, frame.width, frame.height)
        if frame.channels not in (1, 3) or frame.bits != 8:
            return _read_with_tensorflow(path, data, "jpeg", 3, channels or 3, 8)  # four inks
        if channels in (None, frame.channels) or (frame.channels, channels) == (1, 3):
            channels = channels or frame.channels
            if pixels:
                return SourceImage(decode_jpeg(data, frame, channels), data, "jpeg")
            check_jpeg(data, frame)
            shape_only = np.broadcast_to(np.uint8(0), (frame.height, frame.width, channels))
            return SourceImage(shape_only, data, "jpeg")
        return SourceImage(_with_channels(decode_jpeg(data, frame, frame.channels), channels, path))
    except DataError:
        raise
    except ValueError as error:
        raise damaged(path, error) from error


def _read_png(path, data, channels) -> SourceImage:
    try:
        read_chunks(data)
    except ValueError as error:
        raise damaged(path, error) from error
    if data[25] not in _PNG_CHANNELS:
        raise damaged(path, "no PNG header")
    check_size(path, int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    native, bits, has_alpha = _PNG_CHANNELS[data[25]], 16 if data[24] == 16 else 8, data[25] in (4, 6)
    # An alpha channel is stored where it is asked for.
    decoded = native + 1 if has_alpha and channels == native + 1 else native
    return _read_with_tensorflow(path, data, "png", decoded, channels or native, bits)


def _read_with_tensorflow(path, data, form, native, channels, bits) -> SourceImage:
    # What the decoder itself turns into what is asked for can be stored as it is.
    direct = channels == native or (native, channels) == (1, 3)
    try:
        array = decode_image(data, channels if direct else native, bits).numpy()
    except tf.errors.OpError as error:
        raise DataError(
            f"{path} is damaged or cut short (it does not decode as {form.upper()}); fetch it again"
        ) from error
    return SourceImage(array, data, form) if direct else SourceImage(_with_channels(array, channels, path))


def _read_with_pillow(path, data) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            check_size(path, *image.size)
            image.load()
            if image.mode in ("1", "LA", "La"):
                image = image.convert("L")
            elif image.mode not in ("L", "RGB", "I;16"):
                image = image.convert("RGB")
            array = np.asarray(image)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} is no picture that can be read; expected JPEG, PNG or TIFF (a volume, such as NIfTI or "
            "DICOM, has to be cut into slices first)"
        ) from error
    except DataError:
        raise
    except Exception as error:  # Pillow's readers of rarer formats raise IndexError, struct.error and others, too
        raise damaged(path, error) from error
    return array if array.ndim == 3 else array[..., None]


def _with_channels(array: np.ndarray, channels: int | None, path) -> np.ndarray:
    count = array.shape[2]
    if channels is None or count == channels:
        return array
    if (count, channels) == (1, 3):
        return np.repeat(array, 3, axis=2)
    if (count, channels) == (3, 1):
        grey = array @ np.array([0.299, 0.587, 0.114])
        return (grey if array.dtype.kind == "f" else np.rint(grey)).astype(array.dtype)[..., None]
    raise _wrong_channels(path, count, channels)


def _as_stored(array: np.ndarray, path) -> np.ndarray:
    """Returns uint8 and uint16 as they are, wider integers as uint16 where they fit; all else, or C > 4, as float32."""
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind in "iu" and array.dtype not in (np.uint8, np.uint16):
        if array.min() < 0 or array.max() > 65535:
            return array.astype(np.float32)
        array = array.astype(np.uint16)
    if array.dtype.kind not in "iuf":
        raise DataError(f"{path} holds values of type {array.dtype}; expected integers or floating point")
    if array.dtype.kind == "f" or array.shape[2] > 4:
        scale = 257 if array.dtype == np.uint16 else 1  # raw float32 is 0-255, as batches are
        return array.astype(np.float32) / np.float32(scale)
    return np.ascontiguousarray(array)


def _wrong_channels(path, found, expected) -> DataError:
    return DataError(f"{path} has {found} channels; expected {expected} (choose what to store with --channels)")
