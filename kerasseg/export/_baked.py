"""How a served model looks at an image: at once and as it is, or by tiles, at several scales, mirrored."""

import dataclasses
import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

RIMS = [[0], [1, 2]]
"""Background and object of the classes outside, inside and rim, as models that know rims merge them at their end.

Their views are joined before that, as `kerasseg.inference` does.
"""


@dataclasses.dataclass(frozen=True)
class Baked:
    """What is fixed when a model is exported. The words mean what they mean to `kerasseg.inference.Segmenter`.

    Attributes:
        scales: Factors of the image's sides.
        flip: Whether the image is also seen mirrored, left to right.
        tile_size: Height and width of the tiles that larger images are cut into; None: none are.
        overlap: Pixels that neighbouring tiles share; None: a quarter of the tile.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile_size: tuple[int, int] | None = None
    overlap: int | None = None

    @property
    def views(self) -> bool:
        """Whether the image is seen more than once, or not at its own scale."""
        return self.flip or self.scales != (1.0,)

    def described(self) -> dict:
        """Returns plain values, for `kerasseg.json`."""
        return {
            "scales": list(self.scales),
            "flip": self.flip,
            "tile_size": self.tile_size and list(self.tile_size),
            "overlap": self.overlap,
        }


def baked(
    scales: Sequence[float] | float = (1.0,),
    flip: bool = False,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
) -> Baked:
    """Returns the options as they are used.

    Raises:
        ValueError: A scale is not a positive number or there is none, `tile_size` is not one or two positive numbers,
            or `overlap` is negative or without tiles.
    """
    scales = tuple(scales) if isinstance(scales, (Sequence, np.ndarray)) and not isinstance(scales, str) else (scales,)
    if not scales or not all(isinstance(s, Real) and math.isfinite(s) and s > 0 for s in scales):
        raise ValueError(f"scales must be one or several positive numbers such as (0.75, 1, 1.25), got {scales!r}")
    if tile_size is not None:
        tile_size = (tile_size, tile_size) if isinstance(tile_size, int) else tuple(tile_size)
        if len(tile_size) != 2 or min(tile_size) < 1:
            raise ValueError(f"tile_size must be one positive number or (height, width), got {tile_size!r}")
    if overlap is not None and (tile_size is None or overlap < 0):
        raise ValueError(f"overlap is what tiles share, 0 or more pixels, got {overlap!r} with tile_size={tile_size!r}")
    return Baked(tuple(float(scale) for scale in scales), bool(flip), tile_size, overlap)
