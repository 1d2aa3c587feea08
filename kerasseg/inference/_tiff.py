"""TIFFs of which only the blocks looked at are decoded."""

import logging
import math
import weakref
from pathlib import Path

import numpy as np
import tifffile

from kerasseg.inference._tiff_block import decode_block
from kerasseg.spec import DataError

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MAX_PIXELS = 178_956_970
"""Of what is decoded at once, Pillow's limit: a header that claims more may be a trap for memory."""

# What it finds wrong comes as an error of ours, in one line.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class TiffWindows:
    """The first picture of a TIFF, whose blocks (tiles, or strips of rows) are decoded when a window touches them.

    Blocks are kept until a window begins below them, so that windows from the upper left to the lower right, each row
    of them after the other, decode each block once.

    Attributes:
        shape: (H, W, C); C = 3 for CMYK, which becomes RGB.
        dtype: Of the windows: uint8, uint16, bool, or float32 for all else.
    """

    ndim = 3

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self._file = tifffile.TiffFile(self._path)
        weakref.finalize(self, self._file.close)
        self._page = page = self._file.series[0].pages[0].aspage()
        self._inks = int(page.photometric) == 5 and page.samplesperpixel == 4 and page.dtype == np.uint8
        if page.imagedepth != 1 or page.dtype is None or page.dtype.kind not in "uifb":
            raise DataError(f"{path}: expected one image of numbers, got {page.dtype} of the shape {page.shape}")
        if not plain_colours(page) and not (self._inks or int(page.photometric) == 0):
            raise DataError(f"{path}: expected grey values or RGB, got {page.photometric.name}; convert it")
        self._samples = page.samplesperpixel
        self.shape = (page.imagelength, page.imagewidth, 3 if self._inks else self._samples)
        self.dtype = page.dtype if page.dtype in (np.uint8, np.uint16, bool) else np.dtype(np.float32)
        self._planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
        sides = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        self._sides = min(sides[0], self.shape[0]) if not page.is_tiled else sides[0], sides[1]
        self._grid = tuple(-(-side // block) for side, block in zip(self.shape[:2], self._sides, strict=True))
        self._kept: dict = {}
        self._check()

    def _check(self):
        """Refuses files whose blocks are not all there."""
        offsets, counts = self._page.dataoffsets, self._page.databytecounts
        expected = self._planes * self._grid[0] * self._grid[1]
        end = max((a + n for a, n in zip(offsets, counts, strict=True)), default=0)
        size = self._path.stat().st_size
        if len(offsets) != expected or end > size or not expected:
            raise DataError(
                f"{self._path}: cannot be read as an image (damaged or cut short: {len(offsets)} of {expected} blocks, "
                f"{size} of {end} bytes)"
            )
        if math.prod(self._sides) > MAX_PIXELS:
            raise too_large(self._path, *self._sides, "in one block")

    def bytes_kept(self, height: int) -> int:
        """Returns how much memory the blocks that windows of a height touch take, those of a whole row of windows."""
        blocks = min(height // self._sides[0] + 2, self._grid[0])
        return blocks * self._sides[0] * self._grid[1] * self._sides[1] * self._samples * self.dtype.itemsize

    def __getitem__(self, window) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (
            cut.indices(side) for cut, side in zip(window, self.shape[:2], strict=True)
        )
        height, width = self._sides
        self._kept = {place: block for place, block in self._kept.items() if (place[1] + 1) * height > top}
        pixels = np.empty((max(bottom - top, 0), max(right - left, 0), self._samples), self.dtype)
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                y, x = row * height, column * width
                inside = slice(max(top - y, 0), bottom - y), slice(max(left - x, 0), right - x)
                target = pixels[max(y - top, 0) : y + height - top, max(x - left, 0) : x + width - left]
                for plane in range(self._planes):
                    samples = slice(plane, plane + 1) if self._planes > 1 else slice(None)
                    target[..., samples] = self._block(plane, row, column)[inside]
        return _rgb(pixels) if self._inks else pixels

    def _block(self, plane, row, column) -> np.ndarray:
        place = plane, row, column
        if place not in self._kept:
            number = (plane * self._grid[0] + row) * self._grid[1] + column
            height = self._sides[0]
            if not self._page.is_tiled:  # The last strip may be a low one.
                height = min(height, self.shape[0] - row * height)
            samples = self._samples if self._planes == 1 else 1
            try:
                block = decode_block(self._file, self._page, number, (height, self._sides[1], samples))
            except Exception as error:
                raise DataError(f"{self._path}: cannot be read as an image (block {number}: {error})") from error
            self._kept[place] = block.astype(self.dtype, copy=False)
        return self._kept[place]


def plain_colours(page: tifffile.TiffPage) -> bool:
    """Whether a page's values are grey or RGB as they are (those of palettes are taken for grey)."""
    kind = int(page.photometric)
    return kind in (1, 2, 3, 4, 32803) or (kind == 6 and int(page.compression) in (6, 7))


def _rgb(inks: np.ndarray) -> np.ndarray:
    """Returns uint8 [..., 3] of cyan, magenta, yellow and black, 255 = full ink, as Pillow does."""
    light = 255 - inks.astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def too_large(path, height: int, width: int, where: str = "") -> DataError:
    """Returns the error for an image that is not decoded."""
    return DataError(
        f"{path}: claims {width}x{height} pixels{where and ' '}{where}; at most {MAX_PIXELS:,} are decoded at once. If "
        "it is as large as that, store it as a TIFF of tiles or strips, or as .npy, and segment it by windows "
        "(kerasseg.inference.segment_file)"
    )
