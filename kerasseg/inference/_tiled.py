"""Inference on images of any size, in tiles where they are large."""

from collections.abc import Callable

import numpy as np
from tensorflow import keras

from kerasseg.inference._blocks import blocks
from kerasseg.inference._classes import class_ids
from kerasseg.inference._network import network
from kerasseg.inference._tiling import RESULTS, tiling
from kerasseg.layers import num_classes_of


def predict_tiled(
    model: keras.Model,
    image: np.ndarray,
    *,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    memory_budget: int | None = None,
    blend: str = "gaussian",
    batch_size: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
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
        image: Numeric [H, W, C], the model's values: RGB or channels of 0-255. Of a memory-mapped one, the tile that is
            worked on is in memory.
        tile_size: Pixels of the model's input, one number or (height, width), raised to a legal size. None: the whole
            image, or as much of it as the memory budget admits.
        overlap: Pixels that neighbouring tiles share; None: a quarter of the tile. Not used without padding.
        memory_budget: Bytes that all of this may take, where `tile_size` is None: the forward passes (estimated), what
            is blended, and the result. None: 2 GiB, and the result comes on top. See `memory_needed`.
        blend: Weights of overlapping tiles: "gaussian" (highest in the tile's middle) or "linear" (a ramp).
        batch_size: Tiles that go through the network at the same time. None: as many small ones as have 2^15 pixels,
            which is what pays on a CPU; on a GPU more may.
        on_progress: Called with the number of tiles that went through the network, and of all.

    Returns:
        Logits float32 [H, W, K].

    Raises:
        ValueError: The image is empty or has other channels than the model, or an argument is out of range.
        DataError: The model has several outputs, or what cannot be cut takes more than the memory budget.
    Reference: Ronneberger et al. 2015, arXiv:1505.04597, section 2 (overlap-tile); Isensee et al. 2021, nnU-Net
        (Gaussian weights).
    """
    image = checked(model, image)
    options = {"tile_size": tile_size, "overlap": overlap, "memory_budget": memory_budget, "blend": blend}
    net = network(model)
    tiles = tiling(net, image.shape[:2], RESULTS["logits"], **options, batch_size=batch_size)
    logits = np.empty((*image.shape[:2], net.channels[1]), np.float32)
    for rows, columns, block in blocks(net.forward, image, tiles, on_progress):
        logits[rows, columns] = block
    return logits


def segment_tiled(
    model: keras.Model,
    image: np.ndarray,
    *,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    memory_budget: int | None = None,
    blend: str = "gaussian",
    batch_size: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Computes the classes of an image of any size without ever holding the logits of all of it.

    Args:
        model, image, tile_size, overlap, memory_budget, blend, batch_size, on_progress: As for `predict_tiled`.

    Returns:
        uint8 [H, W]: the class with the highest of the logits that `predict_tiled` gives; of one logit, 1 where it is
        above 0.

    Raises:
        ValueError: As for `predict_tiled`, or the model tells more than 256 classes apart.
        DataError: As for `predict_tiled`.
    """
    image = checked(model, image)
    options = {"tile_size": tile_size, "overlap": overlap, "memory_budget": memory_budget, "blend": blend}
    net = network(model)
    tiles = tiling(net, image.shape[:2], RESULTS["mask"], **options, batch_size=batch_size)
    mask = np.empty(image.shape[:2], np.uint8)
    for rows, columns, block in blocks(net.forward, image, tiles, on_progress):
        mask[rows, columns] = class_ids(block)
    return mask


def checked(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Returns the image as an array; raises `ValueError` where it does not suit the model."""
    num_classes_of(model)
    image = np.asarray(image)
    channels = model.input_shape[-1]
    if image.ndim != 3 or not image.size or image.shape[2] != channels:
        raise ValueError(f"expected an image [H, W, {channels}] that is not empty, got the shape {image.shape}")
    return image
