"""Inference on images of any size, in tiles where they are large."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.inference._network import Network, network
from kerasseg.inference._tiles import BLENDS, Span, mirrored, spans, whole
from kerasseg.layers import num_classes_of

MEMORY_BUDGET = 2 * 2**30
"""Bytes that the forward pass of one tile may take, if nothing else is said."""


def predict_tiled(
    model: keras.Model,
    image: np.ndarray,
    *,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    memory_budget: int | None = None,
    blend: str = "gaussian",
) -> np.ndarray:
    """Computes the logits of an image of any size: as a whole if memory allows, else in tiles.

    Models with logits of the image's size: neighbouring tiles overlap and are blended. Sizes that the model does not
    take are mirrored up at the bottom and the right.

    Models without padding, whose logits cover the centre of their input only: the image's border is mirrored, and each
    pixel comes from one tile, so that the tiles together are what one big forward pass gives. (Tiles are a multiple of
    the model's stride apart; the U-Net authors', which are as far apart as their outputs are wide, 388 pixels, see
    other pooling windows than the whole image does.)

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K].
        image: Numeric [H, W, C], the model's values: RGB or channels of 0-255.
        tile_size: Pixels of the model's input, one number or (height, width), raised to a legal size. None: the whole
            image, or as much of it as the memory budget admits.
        overlap: Pixels that neighbouring tiles share; None: a quarter of the tile. Not used without padding.
        memory_budget: Bytes that the forward pass of a tile may take, roughly, where `tile_size` is None; None: 2 GiB.
            The logits of the whole image come on top.
        blend: Weights of overlapping tiles: "gaussian" (highest in the tile's middle) or "linear" (a ramp).

    Returns:
        Logits float32 [H, W, K].

    Raises:
        ValueError: The image is empty or has other channels than the model, or an argument is out of range.
        DataError: The model has several outputs.
    Reference: Ronneberger et al. 2015, arXiv:1505.04597, section 2 (overlap-tile); Isensee et al. 2021, nnU-Net
        (Gaussian weights).
    """
    image = np.asarray(image)
    channels = model.input_shape[-1]
    if image.ndim != 3 or not image.size or image.shape[2] != channels:
        raise ValueError(f"expected an image [H, W, {channels}] that is not empty, got the shape {image.shape}")
    if blend not in BLENDS:
        raise ValueError(f"blend must be one of {', '.join(BLENDS)}, got {blend!r}")
    net = network(model)
    tile = _tile(net, tile_size, memory_budget, image.shape[:2])
    sides = zip(image.shape[:2], net.rules, tile, strict=True)
    rows, columns = (_lay(length, rule, side, overlap, blend) for length, rule, side in sides)
    logits = np.zeros((*image.shape[:2], num_classes_of(model)), np.float32)
    for row in rows:
        for column in columns:
            _add(logits, net.forward, image, row, column)
    return logits


def _add(logits: np.ndarray, call: Callable, image: np.ndarray, row: Span, column: Span) -> None:
    """Adds a tile's share to the logits of the image."""
    height, width = image.shape[:2]
    pixels = image[
        mirrored(row.first, row.size, height)[:, None], mirrored(column.first, column.size, width)[None, :]
    ].astype(np.float32)
    tile = call(tf.constant(pixels[None])).numpy()[0, : row.stop - row.start, : column.stop - column.start]
    weights = row.weights[:, None, None] * column.weights[None, :, None]
    logits[row.start : row.stop, column.start : column.stop] += tile * weights


def _lay(length, rule, tile, overlap, blend):
    fits = rule.maximum is None or rule.covering(length) <= rule.maximum
    return whole(length, rule) if tile is None and fits else spans(length, rule, tile or length, overlap, blend)


def _tile(net: Network, tile_size, memory_budget, size):
    """Returns the wanted tile (height, width); (None, None): the whole image."""
    if tile_size is not None:
        tile = (tile_size, tile_size) if isinstance(tile_size, int) else tuple(tile_size)
        if len(tile) != 2 or min(tile) < 1:
            raise ValueError(f"tile_size must be one positive number or (height, width), got {tile_size!r}")
        return tile
    needed = math.prod(rule.covering(side) for rule, side in zip(net.rules, size, strict=True))
    budget = MEMORY_BUDGET if memory_budget is None else memory_budget
    if budget < 1:
        raise ValueError(f"memory_budget must be a positive number of bytes, got {memory_budget!r}")
    if needed * net.bytes_per_pixel <= budget:
        return None, None
    side = int((budget / net.bytes_per_pixel) ** 0.5)
    # Rounded down to a legal size, and to the grid on which strided layers agree with the whole image.
    side = side - side % 32 if side > 64 else side
    return tuple(rule.round_up(side - rule.multiple + 1) for rule in net.rules)
