"""From instance numbers to class masks."""

import numpy as np
import scipy.ndimage
import skimage.segmentation

TARGETS = {
    "ridge": ("background", "cell"),
    "rim": ("background", "inside", "rim"),
    "semantic": ("background", "cell"),
}
"""Kinds of class mask that instances are turned into, with their classes."""


def instance_targets(instances: np.ndarray, kind: str) -> np.ndarray:
    """Returns the class mask of an instance map, uint8 [H, W].

    Args:
        instances: Integer [H, W], 0 = background.
        kind: `"ridge"`: 1 in cells, with touching cells parted by background, as U-Net's authors train (U-Net §3).
            `"rim"`: 1 inside cells, 2 on each cell's outermost pixels. `"semantic"`: 1 wherever there is a cell.

    Raises:
        ValueError: `kind` is none of these.
    """
    if kind == "semantic":
        return (instances > 0).astype(np.uint8)
    if kind == "ridge":
        return ((instances > 0) & ~touching(instances)).astype(np.uint8)
    if kind == "rim":
        rim = skimage.segmentation.find_boundaries(instances, connectivity=2, mode="inner")
        return np.where(instances > 0, 1 + rim, 0).astype(np.uint8)
    raise ValueError(f"kind must be one of {', '.join(TARGETS)}; received {kind!r}")


def touching(instances: np.ndarray) -> np.ndarray:
    """Returns bool [H, W]: where taken away, no two cells touch any more, not even at a corner.

    Of two neighbouring pixels (of eight) of different cells it holds the later one in reading order, so the ridge is
    one pixel wide, as in the U-Net authors' Fiji plug-in, which compares with the upper and left neighbours.
    """
    result = np.zeros(instances.shape, bool)
    for rows, columns in ((0, 1), (1, 1), (1, 0), (1, -1)):  # the neighbours before a pixel: W, NW, N, NE
        here, before = _shifted(instances, rows, columns)
        differ = (here > 0) & (before > 0) & (here != before)
        _shifted(result, rows, columns)[0][differ] = True
    return result


def _shifted(array: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two views: the pixels that have a neighbour `rows` up and `columns` left, and these neighbours."""
    height, width = array.shape
    here = array[rows:, max(columns, 0) : width + min(columns, 0)]
    before = array[: height - rows, max(-columns, 0) : width - max(columns, 0)]
    return here, before


def components(foreground: np.ndarray) -> np.ndarray:
    """Returns the connected components (4-neighbours) of a binary mask, uint16 [H, W], 0 = background."""
    return scipy.ndimage.label(foreground)[0].astype(np.uint16)
