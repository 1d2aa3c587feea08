"""Reading TIFF files: any depth, several pages, LZW without further packages, and nothing cut short taken for whole."""

import io
import logging

import numpy as np
import tifffile
from PIL import Image, ImageSequence

from kerasseg._opencv import cv2
from kerasseg.records._files import check_size, damaged, is_tiff, read_bytes
from kerasseg.spec import DataError

# What it finds wrong comes as an error of ours, in one line.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read_pages(path) -> np.ndarray:
    """Returns all pages of a multi-page TIFF, [N, H, W] or [N, H, W, C]; N = 1 for a single picture.

    Raises:
        DataError: It is no TIFF, damaged or cut short, or its pages differ in size.
    """
    data = read_bytes(path)
    if not is_tiff(data):
        raise DataError(f"{path} is no TIFF file; expected a multi-page TIFF")
    try:
        count = _count_pages(data)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            dtype = file.pages[0].dtype
            for page in file.pages:
                check_size(path, page.imagewidth, page.imagelength)
            pages = _decode(data, file)
    except DataError:
        raise
    except Exception as error:
        raise damaged(path, error) from error
    shapes = {page.shape for page in pages}
    of_one_size = len(shapes) == 1 and pages[0].size and pages[0].ndim in (2, 3)
    if len(pages) != count or not of_one_size or pages[0].dtype != dtype:
        found = ", ".join(sorted({f"{page.shape} {page.dtype}" for page in pages}))
        raise damaged(path, f"{len(pages)} of {count} pages decode, of {found or 'nothing'}; expected all, of one size")
    return np.stack(pages)


def _count_pages(data: bytes) -> int:
    """Follows the chain of pages; raises `ValueError` where it leaves the file, which tifffile takes for its end."""
    order = "little" if data[:2] == b"II" else "big"
    is_big = data[2:4] in (b"+\0", b"\0+")
    word, count_size, entry = (8, 8, 20) if is_big else (4, 2, 12)

    def number(position, size):
        if position + size > len(data):
            raise ValueError(f"it ends at byte {len(data)}, before page {pages}")
        return int.from_bytes(data[position : position + size], order)

    pages, seen = 0, set()
    position = number(8 if is_big else 4, word)
    while position:
        if position in seen:
            raise ValueError(f"page {pages} is page {len(seen)} again")
        seen.add(position)
        position = number(position + count_size + entry * number(position, count_size), word)
        pages += 1
    if not pages:
        raise ValueError("it has no page")
    return pages


def _decode(data: bytes, file: tifffile.TiffFile) -> list[np.ndarray]:
    try:
        return [page.asarray() for page in file.pages]
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    # LZW and others, for which tifffile wants a further package that Pillow and OpenCV do not need.
    if file.pages[0].samplesperpixel > 1 and file.pages[0].dtype != np.uint8:  # Pillow would give 8 bits
        pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[1] or ()
        order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
        return [cv2.cvtColor(page, order[page.shape[2]]) if page.ndim == 3 else page for page in pages]
    with Image.open(io.BytesIO(data)) as image:
        return [np.array(page).astype(file.pages[0].dtype, copy=False) for page in ImageSequence.Iterator(image)]


def read_tiff(path) -> np.ndarray:
    """Returns [H, W, C] of a TIFF with one picture; channels may be samples of a page or pages of an image series."""
    data = read_bytes(path)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series, page = file.series[0], file.pages[0]
            axes, shape, page_count = series.axes, series.shape, len(file.pages)
            samples, alpha = page.samplesperpixel, any(int(v) in (1, 2) for v in page.extrasamples)
            is_rgb = int(page.photometric) == 2
    except Exception as error:
        raise damaged(path, error) from error
    if page_count > 1 and axes != "CYX":
        raise DataError(
            f"{path} holds {page_count} pages (axes {axes}, shape {shape}); expected one picture: split it into "
            "single files, or use a layout that takes stacks (convert_cells.py --layout isbi2012)"
        )
    pages = read_pages(path)
    if page_count > 1:
        return np.moveaxis(pages, 0, -1)  # "CYX": each page a channel
    array = pages[0]
    if axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    return array[..., :3] if is_rgb and alpha and samples == 4 else array
