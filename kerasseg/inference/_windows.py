"""Images that are read by windows: memory-mapped arrays, and TIFFs of which only the blocks looked at are decoded."""

import mmap
from pathlib import Path

import numpy as np
import tifffile

from kerasseg.inference._reading import NUMPY_MAGIC, prepared, read_image
from kerasseg.inference._tiff import TIFF_MAGIC, TiffWindows, plain_colours
from kerasseg.spec import DataError


def open_windows(path: str | Path):
    """Opens an image file to be read by windows.

        image = open_windows("slide.tif")
        window = image[:512, 2000:2512]

    An array in a `.npy` file and an uncompressed TIFF are memory-mapped; of other TIFFs, tiled or striped, the blocks
    that a window touches are decoded. The first picture is read, of pyramids the full resolution. Files of other kinds
    are read as a whole.

    Returns:
        An array [H, W, C], or what has its `shape` and `dtype` and gives an array for slices of rows and columns.

    Raises:
        DataError: The file is missing, unreadable, cut short, or no image.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with open(path, "rb") as file:
        magic = file.read(6)
    try:
        if magic == NUMPY_MAGIC:
            image = np.load(path, mmap_mode="r")
        elif magic[:4] in TIFF_MAGIC:
            image = _open_tiff(path)
        else:
            return read_image(path)
    except DataError:
        raise
    except Exception as error:  # Readers raise whatever they like on damaged files.
        raise DataError(f"{path}: cannot be read as an image ({error or type(error).__name__})") from error
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape or image.dtype.kind not in "uifb":
        raise DataError(
            f"{path}: expected one image [H, W] or [H, W, C] of numbers, got {image.dtype} of the shape {image.shape}"
        )
    return image


def release(image) -> None:
    """Takes the pages of a memory-mapped array that were read out of the process's memory; the file keeps them."""
    while isinstance(image, Prepared):
        image = image.image
    while image is not None and not isinstance(image, mmap.mmap):
        if isinstance(image, np.memmap) and image.mode == "c":  # What was written to it is in these pages alone.
            return
        image = getattr(image, "base", None)
    if image is not None and hasattr(mmap, "MADV_DONTNEED"):
        image.madvise(mmap.MADV_DONTNEED)


class Prepared:
    """An image whose windows are brought into the form that a model takes: `prepared`, window by window.

    Args:
        image: [H, W, C], an array or what `open_windows` gives.
        channels, value_range: As for `prepared`.
        name: Of the file, for errors.
    """

    def __init__(self, image, channels: int, value_range: tuple[float, float] | None = None, name=None):
        self.image, self._channels, self._value_range, self._name = image, channels, value_range, name
        self.shape = (*image.shape[:2], channels)
        self[:1, :1]  # Channels that do not fit are told before the work begins.

    def __getitem__(self, window) -> np.ndarray:
        try:
            return prepared(self.image[window], self._channels, self._value_range)
        except DataError:
            raise
        except ValueError as error:
            raise (DataError(f"{self._name}: {error}") if self._name else error) from error


def _open_tiff(path: Path):
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        page, pages = series.pages[0].aspage(), len(series.pages)
        offset = series.dataoffset  # None where the values do not lie one after the other, as they are in memory
        plain = plain_colours(page)
        dtype, shape, axes = np.dtype(file.byteorder + series.dtype.char), series.shape, series.axes
    if pages > 1 and (offset is None or len(shape) != 3 or axes[0] not in "SC"):
        return read_image(path)
    if offset is None or not plain or page.bitspersample != 8 * dtype.itemsize:
        return TiffWindows(path)
    image = np.memmap(path, dtype, "r", offset, shape)
    return np.moveaxis(image, 0, 2) if image.ndim == 3 and axes[0] in "SC" else image
