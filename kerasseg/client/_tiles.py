"""Large images, cut up before they are sent and put together from the masks that come back."""

from collections.abc import Iterator

import numpy as np


def cuts(length: int, tile: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Lays tiles over a side of an image.

    Args:
        length: Pixels of the side.
        tile: Pixels of a tile.
        overlap: Pixels that neighbours share at least, below `tile`.

    Returns:
        For each tile (first pixel, end of its pixels, first pixel that is taken from its mask, end of those): each
        pixel comes from the tile that shows more of its surroundings.
    """
    if length <= tile:
        return [(0, length, 0, length)]
    starts = [*range(0, length - tile, tile - overlap), length - tile]
    # Neighbours meet in the middle of what they share.
    borders = [0, *((a + tile + b) // 2 for a, b in zip(starts, starts[1:], strict=False)), length]
    return [
        (start, start + tile, *span)
        for start, span in zip(starts, zip(borders, borders[1:], strict=False), strict=True)
    ]


def tiles(size: tuple[int, int], tile: int, overlap: int) -> Iterator[tuple[tuple, tuple, tuple]]:
    """Yields slices for each tile of an image: where to cut it out, what to take of its mask, where to put that."""
    for top, bottom, first_row, end_row in cuts(size[0], tile, overlap):
        for left, right, first_column, end_column in cuts(size[1], tile, overlap):
            yield (
                np.s_[top:bottom, left:right],
                np.s_[first_row - top : end_row - top, first_column - left : end_column - left],
                np.s_[first_row:end_row, first_column:end_column],
            )
