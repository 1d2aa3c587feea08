"""From a file to a file, for images larger than memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tensorflow import keras

from kerasseg.inference._blocks import Block, blocks
from kerasseg.inference._classes import class_ids
from kerasseg.inference._mask_files import write_mask, writer_for
from kerasseg.inference._network import network
from kerasseg.inference._tiff import TiffWindows
from kerasseg.inference._tiling import RESULTS, Tiling, tiling
from kerasseg.inference._windows import Prepared, open_windows
from kerasseg.layers import num_classes_of
from kerasseg.spec import DataError


def segment_file(
    model: keras.Model,
    source: str | Path | np.ndarray,
    target: str | Path,
    *,
    palette: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    memory_budget: int | None = None,
    blend: str = "gaussian",
    batch_size: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Tiling:
    """Segments an image that may be larger than memory: reads it by windows, and writes the mask row by row of tiles.

        segment_file(model, "slide.tif", "mask.tif", on_progress=print)

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K].
        source: A `.npy` file, a TIFF, or what else `read_image` reads, or an array, memory-mapped for one; [H, W] or
            [H, W, C], with values and channels that `prepared` takes.
        target: The mask's file: `.npy` uint8 [H, W], which NumPy can memory-map, or `.tif`, tiled and packed without
            loss. It has its name when it is whole; until then, and no longer, the name ends in `.partial`.
        palette: uint8 [256, 3], the classes' colours in a TIFF; None: grey values are class ids.
        value_range: As for `prepared`.
        tile_size, overlap, memory_budget, blend, batch_size, on_progress: As for `predict_tiled`, of whose logits the
            mask is the class of the highest; the budget covers what is held of source and target as well.

    Returns:
        How the image was cut, and the memory that it was estimated to take.

    Raises:
        DataError: `source` is missing, unreadable or no image, or has values that are not finite or channels that do
            not fit; `target` is not of a known kind, or is the source itself; the model has several outputs.
        ValueError: An argument is out of range.
    """
    target = Path(target)
    writer_for(target)
    num_classes_of(model)
    name, image = None, source
    if isinstance(source, (str, Path)):
        name, image = source, open_windows(source)
        if target.exists() and target.samefile(name):
            raise DataError(f"{target}: is the image itself; give the mask another name")
    elif image.ndim == 2:
        image = image[..., None]
    net = network(model)
    prepared = Prepared(image, net.channels[0], value_range, name)

    def output_bytes(size, classes, height):
        kept = image.bytes_kept(height) if isinstance(image, TiffWindows) else 0
        return kept + RESULTS["file"](size, classes, height)

    options = {"tile_size": tile_size, "overlap": overlap, "memory_budget": memory_budget, "blend": blend}
    tiles = tiling(net, image.shape[:2], output_bytes, **options, batch_size=batch_size)
    parts = blocks(net.forward, prepared, tiles, on_progress)
    write_mask(target, image.shape[:2], _bands(parts, image.shape[1]), palette)
    return tiles


def _bands(parts: Iterator[Block], width: int) -> Iterator[np.ndarray]:
    """Yields the mask uint8 [h, W] of each row of blocks."""
    for rows, columns, logits in parts:
        if columns.start == 0:
            band = np.empty((rows.stop - rows.start, width), np.uint8)
        band[:, columns] = class_ids(logits)
        if columns.stop == width:
            yield band
