"""The logits of an image's tiles, put together to those of the image: a moving band, never the whole."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from kerasseg.inference._tiles import Span, mirrored
from kerasseg.inference._tiling import Tiling
from kerasseg.inference._windows import release

Block = tuple[slice, slice, np.ndarray]
"""Rows and columns of the image, and their logits float32 [h, w, K], which nothing is added to any more."""


def blocks(
    call: Callable, image: np.ndarray, tiling: Tiling, on_progress: Callable[[int, int], None] | None = None
) -> Iterator[Block]:
    """Computes the logits of an image block by block, each pixel once, from the upper left to the lower right.

    What neighbouring tiles share is kept until the last of them has come: to the right, columns of one tile; downwards,
    rows as wide as the image. Everything else leaves at once.

    Args:
        call: Images float32 [B, h, w, C] -> logits float32 [B, h, w, K].
        image: [H, W, C], an array or what gives one for a slice of rows and a slice of columns.
        tiling: Where the tiles lie.
        on_progress: Called with the number of tiles that went through the network, and of all.
    """
    tiles = _logits(call, image, tiling, on_progress)
    below: list = [None] * len(tiling.columns)
    for row, row_end in _with_ends(tiling.rows):
        right = None
        for number, (column, column_end) in enumerate(_with_ends(tiling.columns)):
            tile = _weighted(next(tiles), row, column)
            if right is not None and right.size:
                tile[:, : right.shape[1]] += right
            right = tile[:, column_end - column.start :]
            tile = tile[:, : column_end - column.start]
            above = below[number]
            if above is not None and above.size:
                tile[: len(above)] += above
            below[number] = tile[row_end - row.start :].copy()  # A view would keep all of the tile.
            yield slice(row.start, row_end), slice(column.start, column_end), tile[: row_end - row.start]


def _with_ends(line: list[Span]) -> Iterator[tuple[Span, int]]:
    """Yields each tile of a line, and where the next one begins."""
    for span, following in itertools.zip_longest(line, line[1:]):
        yield span, following.start if following else span.stop


def _weighted(tile: np.ndarray, row: Span, column: Span) -> np.ndarray:
    """Returns a tile's share; the tile itself, not to be written to, where it has no neighbour to share with."""
    if (row.weights == 1).all() and (column.weights == 1).all():
        return tile
    return tile * (row.weights[:, None] * column.weights)[..., None]


def _logits(call, image, tiling, on_progress) -> Iterator[np.ndarray]:
    """Yields the logits of tile after tile, those pixels of it that count, float32 [h, w, K]."""
    places = itertools.product(tiling.rows, tiling.columns)
    for done in range(0, tiling.num_tiles, tiling.batch_size):
        batch = list(itertools.islice(places, tiling.batch_size))
        pixels = np.empty((len(batch), *tiling.tile_size, image.shape[2]), np.float32)
        for place, (row, column) in zip(pixels, batch, strict=True):
            place[...] = _pixels(image, row, column)
        if any(column is tiling.columns[-1] for _, column in batch):
            release(image)
        logits = call(tf.constant(pixels)).numpy()
        if on_progress:
            on_progress(done + len(batch), tiling.num_tiles)
        for (row, column), tile in zip(batch, logits, strict=True):
            yield tile[: row.stop - row.start, : column.stop - column.start]


def _pixels(image, row: Span, column: Span) -> np.ndarray:
    """Returns what a tile sees of the image, its mirrored border included."""
    places = [mirrored(span.first, span.size, side) for span, side in zip((row, column), image.shape, strict=False)]
    first = [int(place.min()) for place in places]
    pixels = image[tuple(slice(a, int(place.max()) + 1) for a, place in zip(first, places, strict=True))]
    for axis, (a, place, span) in enumerate(zip(first, places, (row, column), strict=True)):
        if span.first != a or pixels.shape[axis] != span.size:  # The tile reaches over the border.
            pixels = np.take(pixels, place - a, axis)
    return pixels
