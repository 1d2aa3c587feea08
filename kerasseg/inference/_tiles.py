"""Where the tiles of an image lie, and how much each of them counts in each pixel."""

import dataclasses

import numpy as np

from kerasseg.layers import SizeRule, gaussian_window, tile_and_step

BLENDS = ("gaussian", "linear")


@dataclasses.dataclass(frozen=True)
class Span:
    """A tile along one side of the image.

    Attributes:
        first: Pixel of the image that the tile's input begins at; negative: in the mirrored border.
        size: Pixels of the input.
        start, stop: Pixels of the image that the tile's output, from its first pixel on, is written to.
        weights: float32 [stop - start]: the tile's share in each of them. All tiles' shares add up to 1.
    """

    first: int
    size: int
    start: int
    stop: int
    weights: np.ndarray


def whole(length: int, rule: SizeRule) -> list[Span]:
    """Returns the single tile that covers `length` pixels."""
    return [Span(-(rule.margin // 2), rule.covering(length), 0, length, np.ones(length, np.float32))]


def spans(length: int, rule: SizeRule, tile: int, overlap: int | None, blend: str) -> list[Span]:
    """Lays tiles over a side of an image.

    Args:
        length: Pixels of the image.
        rule: What the model admits.
        tile: Wanted pixels of the input of a tile; raised to a legal size. Where it covers the image: one tile.
        overlap: Pixels that neighbours share, for models with logits of the image's size; None: a quarter.
        blend: "gaussian" or "linear".

    Raises:
        ValueError: `overlap` is not smaller than the tile.
    """
    if rule.legal(tile) - rule.margin >= length:
        return whole(length, rule)
    size, step = tile_and_step(rule, tile, overlap)
    if rule.margin:
        return _seamless(length, rule, size, step)
    # The last tile ends with the image, as the whole image does: what the network does at borders happens there only.
    starts = [*range(0, length - size, step), length - size]
    window = _window(size, blend, size - step)
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + size] += window
    return [Span(s, size, s, s + size, window / total[s : s + size]) for s in starts]


def _seamless(length, rule, size, step):
    """Tiles of a network without padding, each output pixel from one tile."""
    before = rule.margin // 2
    starts = range(0, length, step)
    stops = [min(start + step, length) for start in starts]
    return [
        Span(start - before, size, start, stop, np.ones(stop - start, np.float32))
        for start, stop in zip(starts, stops, strict=True)
    ]


def _window(size, blend, overlap):
    """Returns the unscaled weight of a tile's pixels, float32 [size], highest in the middle."""
    if blend == "gaussian":
        return gaussian_window(size)
    centre = (size - 1) / 2
    distance = np.abs(np.arange(size) - centre)
    return np.minimum((centre - distance + 1) / (overlap + 1), 1).astype(np.float32)


def mirrored(first: int, size: int, length: int) -> np.ndarray:
    """Returns which pixels of `length` stand at positions `first` to `first + size`: the border is a mirror.

    The edge pixel is not repeated (numpy's "reflect"); a mirror wider than the image mirrors again.
    """
    period = max(2 * (length - 1), 1)
    position = np.abs(np.arange(first, first + size)) % period
    return np.minimum(position, period - position) if length > 1 else np.zeros(size, np.int64)
