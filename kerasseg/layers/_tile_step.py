"""How tiles of an image are laid for a model, by inference and inside exported graphs alike."""

import numpy as np

from kerasseg.layers._size_rule import SizeRule

# Tiles begin at multiples of this where they can, so that the strided layers of a network see the same grid in all.
_GRID = 32


def tile_and_step(rule: SizeRule, tile: int, overlap: int | None) -> tuple[int, int]:
    """Returns a tile's input pixels along a side, and how far apart tiles are.

    Tiles of a network without padding do not share output. The authors' are as far apart as their outputs are wide (388
    pixels); but max-pooling looks at the image in windows that begin at multiples of 16, so tiles have to as well to
    give what the whole image would.

    Args:
        rule: What the model admits along this side.
        tile: Wanted pixels; raised to a legal size.
        overlap: Pixels that neighbours share, for models with logits of the image's size; None: a quarter, on a grid of
            32. Not looked at without padding.

    Raises:
        ValueError: `overlap` is negative or not smaller than the tile.
    """
    size = rule.legal(tile)
    if rule.margin:
        while size - rule.margin < rule.multiple:
            size += rule.multiple
        return size, (size - rule.margin) // rule.multiple * rule.multiple
    if overlap is None:
        apart = size - size // 4
        return size, apart - apart % _GRID or max(min(size, _GRID) // 2, 1)
    if not 0 <= overlap < size:
        raise ValueError(f"overlap must lie in 0 to {size - 1} for tiles of {size} pixels, got {overlap}")
    return size, size - overlap


def gaussian_window(size: int) -> np.ndarray:
    """Returns how much a tile's pixels count among its neighbours', float32 [size], highest in the middle.

    A standard deviation of an eighth of the tile, as nnU-Net has it, kept from vanishing at the tile's ends.
    """
    distance = np.arange(size) - (size - 1) / 2
    return np.maximum(np.exp(-0.5 * (distance / (size / 8)) ** 2), 1e-3).astype(np.float32)
