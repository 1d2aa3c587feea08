"""Which tiles an image is cut into, and how much memory that takes."""

import dataclasses
import math
from collections.abc import Callable

from tensorflow import keras

from kerasseg.inference._network import Network, network
from kerasseg.inference._tiles import BLENDS, Span, spans, whole
from kerasseg.spec import DataError

MEMORY_BUDGET = 2 * 2**30
"""Bytes for the forward passes and the blending, if nothing else is said."""

# Tiles together of at most so many pixels go through the network in one call. Tiles of 64 x 64 take 0.5 to 0.55 of the
# time in batches of 8, those of 128 x 128 0.8 to 1.1, those of 256 x 256 0.9 to 1.65 (U-Net, DeepLab-v3; 2 CPU cores).
_BATCH_PIXELS = 2**15

# Sides of tiles that a budget leads to are multiples of it where they can be: on this grid, strided layers see in all
# tiles what they see in the whole image.
_GRID = 32


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The tiles of an image, and the memory for them.

    Attributes:
        rows, columns: Where the tiles lie along the image's height and width; each row with each column is one tile.
        batch_size: Tiles that go through the network at the same time.
        forward_bytes: For the forward pass of a batch, estimated on the safe side.
        band_bytes: For what is blended: logits of a batch, and of the rows that tiles above share with those below.
        output_bytes: For the result.
    """

    rows: list[Span]
    columns: list[Span]
    batch_size: int
    forward_bytes: int
    band_bytes: int
    output_bytes: int

    @property
    def tile_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.rows[0].size, self.columns[0].size

    @property
    def num_tiles(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.forward_bytes + self.band_bytes + self.output_bytes

    def __str__(self):
        height, width = self.tile_size
        tiles = "1 tile" if self.num_tiles == 1 else f"{self.num_tiles} tiles, {self.batch_size} at a time,"
        return f"{tiles} of {height}x{width} pixels, about {in_words(self.bytes)} of memory"


def memory_needed(
    model: keras.Model,
    size: tuple[int, int],
    *,
    result: str = "logits",
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    memory_budget: int | None = None,
    blend: str = "gaussian",
    batch_size: int | None = None,
) -> Tiling:
    """Tells how an image would be cut into tiles, and how much memory that would take. Nothing is computed.

        print(memory_needed(model, (20000, 20000), result="file", memory_budget=2**30))

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K].
        size: Height and width of the image.
        result: "logits", as `predict_tiled` returns them, 4·K bytes a pixel; "mask", as `segment_tiled`, one byte; or
            "file", as `segment_file` writes it, of which memory holds the rows of one tile.
        tile_size, overlap, memory_budget, blend, batch_size: As for `predict_tiled`.

    Returns:
        The `Tiling`, with its `bytes` beyond those of image, weights and libraries. Network by network the estimate was
        1.0 to 15 times what a process grew by (fourteen networks, 512 and 1024 pixels a side).

    Raises:
        ValueError: An argument is out of range.
        DataError: The model has several outputs, or what cannot be cut takes more than the budget.
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be the height and width of an image, got {size!r}")
    if result not in RESULTS:
        raise ValueError(f"result must be one of {', '.join(RESULTS)}, got {result!r}")
    return tiling(
        network(model),
        size,
        RESULTS[result],
        tile_size=tile_size,
        overlap=overlap,
        memory_budget=memory_budget,
        blend=blend,
        batch_size=batch_size,
    )


def _logits_bytes(size, classes, tile_height):
    del tile_height
    return 4 * math.prod(size) * classes


def _mask_bytes(size, classes, tile_height):
    del classes, tile_height
    return math.prod(size)


def _file_bytes(size, classes, tile_height):
    """The rows of the mask that one row of tiles ends, and those that wait for a whole row of the file's blocks."""
    del classes
    return 2 * size[1] * min(tile_height + 256, size[0])


RESULTS: dict[str, Callable] = {"logits": _logits_bytes, "mask": _mask_bytes, "file": _file_bytes}


def tiling(
    net: Network,
    size: tuple[int, int],
    output_bytes: Callable,
    *,
    tile_size: int | tuple[int, int] | None,
    overlap: int | None,
    memory_budget: int | None,
    blend: str,
    batch_size: int | None,
) -> Tiling:
    """Lays tiles over an image of a size: of the size given, or as large as the memory budget admits.

    Args:
        output_bytes: One of `RESULTS`.
    """
    if blend not in BLENDS:
        raise ValueError(f"blend must be one of {', '.join(BLENDS)}, got {blend!r}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be a positive number of tiles, got {batch_size!r}")
    if memory_budget is not None and memory_budget < 1:
        raise ValueError(f"memory_budget must be a positive number of bytes, got {memory_budget!r}")

    def lay(tile, count=batch_size):
        sides = zip(size, net.rules, tile, strict=True)
        rows, columns = (_lay(length, rule, side, overlap, blend) for length, rule, side in sides)
        count = count or max(_BATCH_PIXELS // (rows[0].size * columns[0].size), 1)
        return _accounted(net, size, rows, columns, min(count, len(rows) * len(columns)), output_bytes)

    if tile_size is not None:
        return lay(_checked(tile_size))
    # What nobody limited may be as large as it is: a limit on the rest keeps tiles from becoming tiny.
    free = output_bytes(size, net.channels[1], 0) if memory_budget is None else 0
    budget = (memory_budget or MEMORY_BUDGET) + free
    found = lay((None, None))
    if found.bytes > budget:
        found = _largest(lay, net.rules, size, overlap or 0, budget)
    if found.bytes > budget and memory_budget is not None:
        height, width = found.tile_size
        raise DataError(
            f"memory_budget of {in_words(memory_budget)} is too small: tiles of {height}x{width} pixels take about "
            f"{in_words(found.forward_bytes + found.band_bytes)}, the result for {size[0]}x{size[1]} pixels "
            f"{in_words(found.output_bytes)} (kerasseg.inference.segment_file needs no room for the result)"
        )
    return found


def _largest(lay: Callable, rules, size, overlap, budget) -> Tiling:
    """Returns the largest square tiles that keep to the budget; the smallest of all where none do."""

    def square(side):
        # Rounded down to legal sides, and up again where tiles would have no pixel of their own.
        sides = (rule.round_up(side - rule.multiple + 1) for rule in rules)
        return lay([max(side, 1 if rule.margin else overlap + 1) for rule, side in zip(rules, sides, strict=True)])

    low, high = 0, -(-max(rule.covering(side) for rule, side in zip(rules, size, strict=True)) // _GRID)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if square(middle * _GRID).bytes <= budget else (low, middle)
    if low:
        return square(low * _GRID)
    sides = (side for side in (16, 8, 4, 2) if square(side).bytes <= budget)
    return square(next(sides, 1))


def _checked(tile_size) -> tuple[int, int]:
    tile = (tile_size, tile_size) if isinstance(tile_size, int) else tuple(tile_size)
    if len(tile) != 2 or min(tile) < 1:
        raise ValueError(f"tile_size must be one positive number or (height, width), got {tile_size!r}")
    return tile


def _lay(length, rule, tile, overlap, blend) -> list[Span]:
    fits = rule.maximum is None or rule.covering(length) <= rule.maximum
    return whole(length, rule) if tile is None and fits else spans(length, rule, tile or length, overlap, blend)


def _accounted(net, size, rows, columns, batch_size, output_bytes) -> Tiling:
    pixels = rows[0].size * columns[0].size
    channels, classes = net.channels
    shared = max((above.stop - below.start for above, below in zip(rows, rows[1:], strict=False)), default=0)
    # Pixels that wait and those of the pass before, logits and two copies with weights.
    tiles = batch_size * pixels * 4 * (2 * channels + classes) + 2 * pixels * 4 * classes
    return Tiling(
        rows=rows,
        columns=columns,
        batch_size=batch_size,
        forward_bytes=int(net.bytes_per_pixel * pixels * batch_size),
        band_bytes=tiles + shared * size[1] * classes * 4,
        output_bytes=output_bytes(size, classes, rows[0].size),
    )


def in_words(number: int) -> str:
    """Returns a number of bytes as people say it."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= unit:
            return f"{number / unit:.2g} {name}" if number < 100 * unit else f"{number / unit:,.0f} {name}"
    return f"{number} bytes"
