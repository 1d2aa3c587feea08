"""Images of all kinds, brought into the form that models take."""

import io
import math
import warnings
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from kerasseg.inference._tiff import MAX_PIXELS, TIFF_MAGIC, TiffWindows, too_large
from kerasseg.spec import DataError, to_255

NUMPY_MAGIC = b"\x93NUMPY"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Weights of red, green and blue in grey: ITU-R BT.601, as in JPEG and Pillow.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file: JPEG, PNG, TIFF, what else Pillow reads, and arrays in `.npy` files.

    Palettes are resolved (but for TIFFs', whose values are taken as they are), CMYK becomes RGB, an orientation in the
    file's metadata is ignored: all as in training. Grey TIFFs whose 0 is white are inverted.

    Args:
        path: The file.

    Returns:
        [H, W, C] uint8, uint16 or float32, C = 1 for grey, 3 for RGB, more as the file has it.

    Raises:
        DataError: The file is missing, unreadable, cut short, not one image, or of more than 178,956,970 pixels.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, "rb") as file:
        magic = file.read(6)
    try:
        image = (_tiff if magic[:4] in TIFF_MAGIC else _array if magic == NUMPY_MAGIC else _decoded)(path)
    except DataError:
        raise
    except Exception as error:  # Decoders raise whatever they like on damaged files.
        reason = str(error) or type(error).__name__
        reason = "not an image file that can be read" if "cannot identify" in reason else reason
        raise DataError(f"{path}: cannot be read as an image ({reason})") from error
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or not image.size:
        raise DataError(f"{path}: expected one image [H, W] or [H, W, C], got an array of the shape {image.shape}")
    return image


def _tiff(path):
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        if math.prod(series.shape) > MAX_PIXELS * 4:
            raise too_large(path, *series.keyframe.shape[:2])
        if len(series.pages) == 1:
            return TiffWindows(path)[:, :]
        if len(series.shape) != 3 or series.axes[0] not in "SC":
            raise ValueError(f"a stack of {len(series.pages)} images; expected one")
        image = np.moveaxis(series.asarray(), 0, 2)  # Planes one after the other.
    return image if image.dtype in (np.uint8, np.uint16, bool) else image.astype(np.float32)


def _array(path):
    image = np.load(path, mmap_mode="r")
    if image.dtype.kind not in "uifb":
        raise ValueError(f"its values are of type {image.dtype}")
    if image.size > MAX_PIXELS * 4:
        raise too_large(path, *image.shape[:2])
    return np.array(image) if image.dtype in (np.uint8, np.uint16, bool) else image.astype(np.float32)


def _decoded(path):
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # Below the limit all is well.
        with Image.open(io.BytesIO(data)) as file:
            if file.width * file.height > MAX_PIXELS:
                raise too_large(path, file.height, file.width)
            if data[:8] == _PNG_MAGIC and data[24] == 16 and data[25] != 0:
                return _png_16_bit(data)
            file.load()
            if file.mode in ("P", "PA"):
                file = file.convert("RGBA" if "transparency" in file.info else "RGB")
            elif file.mode not in ("L", "LA", "RGB", "RGBA", "I", "F") and not file.mode.startswith("I;16"):
                file = file.convert("L" if file.mode == "1" else "RGB")
            image = np.array(file)
    return image.astype({"I": np.float32}.get(file.mode, image.dtype))


def _png_16_bit(data):
    """Pillow would keep the upper 8 bits of colour images only."""
    from kerasseg._opencv import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("damaged PNG")
    return image[..., [2, 1, 0, 3][: image.shape[2]]] if image.ndim == 3 else image


def prepared(image: np.ndarray, channels: int, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Brings an image's values and channels into the form that a model takes.

    Args:
        image: [H, W] or [H, W, C]: uint8; uint16, scaled to 0-255; bool, to 0 and 255; other types are taken as they
            are (0-255) unless there is a `value_range`.
        channels: What the model takes. Grey is repeated for three; of colour, the luma is taken for one; an alpha
            channel is dropped.
        value_range: The values that become 0 and 255 in images of all types but uint8 and bool
            (`DatasetSpec.value_range` of the data that the model was trained on); None: 0 and 65535 of uint16.

    Returns:
        float32 [H, W, channels].

    Raises:
        ValueError: The array is no image, is not finite, or its channels do not fit the model.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or not image.size or image.dtype.kind not in "uifb":
        raise ValueError(f"expected an image [H, W] or [H, W, C] of numbers, got {image.dtype} of shape {image.shape}")
    kind, image = image.dtype.name, image.astype(np.float32)
    if kind == "bool":
        image *= 255
    elif kind == "uint16" or (kind != "uint8" and value_range is not None):
        image = to_255(image, value_range)
    if not np.isfinite(image).all():
        raise ValueError("the image holds values that are not finite (NaN or infinity)")
    found = image.shape[2]
    if found != channels and found in (2, 4) and channels in (1, 3):
        image = image[..., : found - 1]
    if image.shape[2] == 1 and channels == 3:
        image = np.repeat(image, 3, axis=2)
    elif image.shape[2] == 3 and channels == 1:
        image = image @ _LUMA[:, None]
    if image.shape[2] != channels:
        raise ValueError(f"the model takes images of {channels} channels, got one of {found}")
    return image
