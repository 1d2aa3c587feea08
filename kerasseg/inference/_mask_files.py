"""Writing masks as large as they may be, rows after rows: `.npy`, to be memory-mapped, and tiled TIFF."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from kerasseg.spec import DataError

TIFF_TILE = 256
"""Side of the tiles of masks written as TIFF, a power of two as viewers of slides like it."""

# TIFF's own offsets have 32 bits; tifffile leaves as much for all that is not pixels.
_CLASSIC_TIFF_BYTES = 2**32 - 2**25


def write_mask(
    path: Path, shape: tuple[int, int], bands: Iterator[np.ndarray], palette: np.ndarray | None = None
) -> None:
    """Writes a mask that comes in bands. The file gets its name when it is whole; what is broken off leaves none.

    Args:
        path: `.npy`, or `.tif` or `.tiff`: tiles packed without loss, BigTIFF where 4 GiB could not do.
        shape: Height and width.
        bands: uint8 [h, W], from the top to the bottom.
        palette: uint8 [256, 3], colours of the classes in a TIFF, for viewers; None: grey.
    """
    write = writer_for(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            write(file, shape, bands, palette)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def writer_for(path: Path) -> Callable:
    """Returns the function for a file's suffix.

    Raises:
        DataError: There is none.
    """
    writers = {".npy": _write_npy, ".tif": _write_tiff, ".tiff": _write_tiff}
    if path.suffix.lower() not in writers:
        raise DataError(f"{path}: masks are written by rows as {', '.join(writers)}; give it such a name")
    return writers[path.suffix.lower()]


def _write_npy(file, shape, bands, palette):
    del palette
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(int(side) for side in shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for band in bands:
        file.write(np.ascontiguousarray(band).data)


def _write_tiff(file, shape, bands, palette):
    colours = {"photometric": "minisblack"}
    if palette is not None:  # 16 bits a colour, each red first, then each green
        colours = {"photometric": "palette", "colormap": palette.T.astype(np.uint16) * 257}
    with tifffile.TiffWriter(file, bigtiff=shape[0] * shape[1] > _CLASSIC_TIFF_BYTES) as tiff:
        tiff.write(
            _tiles(_regrouped(bands, TIFF_TILE), shape[1]),
            shape=shape,
            dtype=np.uint8,
            tile=(TIFF_TILE, TIFF_TILE),
            compression="zlib",
            maxworkers=1,
            metadata=None,
            software="kerasseg",
            **colours,
        )


def _regrouped(bands: Iterator[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """Yields the rows of the bands in bands of a height; the last one may be lower."""
    held, waiting = [], 0
    for band in bands:
        while waiting + len(band) >= height:
            part, band = band[: height - waiting], band[height - waiting :]
            yield np.concatenate([*held, part])
            held, waiting = [], 0
        if len(band):
            held.append(band)
            waiting += len(band)
    if held:
        yield np.concatenate(held)


def _tiles(bands, width) -> Iterator[np.ndarray]:
    for band in bands:
        for left in range(0, width, TIFF_TILE):
            part = band[:, left : left + TIFF_TILE]
            yield np.pad(part, [(0, TIFF_TILE - side) for side in part.shape])
