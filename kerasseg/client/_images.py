"""Image files and arrays as the bytes that are sent, and the bytes that come back as masks."""

import io
from pathlib import Path

import numpy as np

from kerasseg.client._errors import ServerError
from kerasseg.spec import DataError

# What the exported model decodes by itself; other files are converted here.
_SENT_AS_THEY_ARE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

ENCODABLE_CHANNELS = (1, 3, 4)


def file_bytes(image: np.ndarray | bytes | str | Path) -> bytes:
    """Returns a JPEG or PNG file of an array, of a file's path, or of a file's bytes.

    Raises:
        DataError: The file cannot be read.
        ValueError: The array is no image of 1, 3 or 4 channels.
    """
    if isinstance(image, bytes):
        return image
    if not isinstance(image, (str, Path)):
        return _encode(checked(np.asarray(image)))
    try:
        data = Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror})") from error
    return data if data.startswith(_SENT_AS_THEY_ARE) else png(decoded(data, image))


def checked(image: np.ndarray) -> np.ndarray:
    """Returns the array if it is an image.

    Raises:
        ValueError: It is not.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not image.size:
        raise ValueError(
            f"expected images uint8 or uint16, [H, W] or [H, W, C], got {image.dtype} of the shape {image.shape}"
        )
    return image


def decoded(data: bytes, name="the image") -> np.ndarray:
    """Returns the pixels of a file's bytes as OpenCV orders them: [H, W], or [H, W, 3 or 4] from blue on.

    Raises:
        DataError: They are no image.
    """
    from kerasseg._opencv import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:  # Larger than OpenCV's limit on pixels, for one.
        pixels = None
    if pixels is None:
        raise DataError(f"{name}: cannot be read as an image")
    return pixels


def size_of(data: bytes) -> tuple[int, int] | None:
    """Returns height and width from a file's header; None where it is not understood."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = Image.open(io.BytesIO(data)).size
    except Exception:  # Pillow raises what the broken part happens to raise; the server will say what is wrong.
        return None
    return height, width


def png(pixels: np.ndarray) -> bytes:
    """Encodes pixels in OpenCV's order as PNG: lossless, 8 or 16 bits."""
    from kerasseg._opencv import cv2

    return cv2.imencode(".png", pixels)[1].tobytes()


def in_opencv_order(image: np.ndarray) -> np.ndarray:
    """Returns an RGB array [H, W] or [H, W, C] with blue first, as OpenCV takes it.

    Raises:
        ValueError: It has other than 1, 3 or 4 channels.
    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(channels)
    if order is None:
        raise ValueError(f"only images of 1, 3 or 4 channels can be sent as files, got {channels}")
    return image if image.ndim == 2 else image[..., order]


def decoded_mask(data: bytes) -> np.ndarray:
    """Returns the class ids, uint8 [H, W], of a mask that the server sent.

    Raises:
        ServerError: It is none.
    """
    from kerasseg._opencv import cv2

    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ServerError("expected masks as PNGs of one channel of 8 bits, got something else")
    return mask


def _encode(image):
    return png(in_opencv_order(image))
