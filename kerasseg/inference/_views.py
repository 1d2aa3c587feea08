"""The same image seen several ways, and the mean of what a network makes of them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import tensorflow as tf

from kerasseg.inference._rims import softmax


@dataclasses.dataclass(frozen=True)
class View:
    """A way to look at an image: resized, then mirrored left to right, then turned.

    Attributes:
        scale: Factor of the image's sides: (n - 1) * scale + 1 pixels, cut to whole ones (DeepLab's authors).
        flip: Whether left and right change places.
        turns: Quarter turns, counter-clockwise.
    """

    scale: float = 1.0
    flip: bool = False
    turns: int = 0

    def of(self, image: np.ndarray) -> np.ndarray:
        """Returns the image [H, W, C] as it is seen this way."""
        size = tuple(int((side - 1) * self.scale + 1) for side in image.shape[:2])
        seen = resized(image, size)
        seen = seen[:, ::-1] if self.flip else seen
        return np.ascontiguousarray(np.rot90(seen, self.turns))

    def undone(self, logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Returns logits [h, w, K] of what is seen as those of the image, [*size, K]."""
        straight = np.rot90(logits, -self.turns)
        straight = straight[:, ::-1] if self.flip else straight
        return resized(np.ascontiguousarray(straight), size)


def views(scales: Sequence[float] = (1.0,), flip: bool = False, rotate: bool = False) -> list[View]:
    """Lists the ways to look at an image: every scale, mirrored or not, in one or in four directions.

    Raises:
        ValueError: A scale is not a positive number, or there is none.
    """
    scales = tuple(scales) if isinstance(scales, (Sequence, np.ndarray)) and not isinstance(scales, str) else (scales,)
    right = all(isinstance(scale, Real) and math.isfinite(scale) and scale > 0 for scale in scales)
    if not scales or not right:
        raise ValueError(f"scales must be one or several positive numbers such as (0.75, 1, 1.25), got {scales!r}")
    flips, turns = (False, True) if flip else (False,), range(4) if rotate else (0,)
    return [View(float(scale), mirrored, turn) for scale in scales for turn in turns for mirrored in flips]


def mean_probabilities(logits_of: Callable, image: np.ndarray, ways: Sequence[View]) -> np.ndarray:
    """Returns the mean of the softmax over several views of an image, float32 [H, W, K].

    Args:
        logits_of: Images float32 [h, w, C] -> logits float32 [h, w, K].
        image: [H, W, C].
        ways: How to look at it.
    """
    total = 0
    for way in ways:
        total = total + softmax(way.undone(logits_of(way.of(image)), image.shape[:2]))
    return total / np.float32(len(ways))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an array [H, W, C] resized bilinearly, corners upon corners, float32 [*size, C]; itself if it is so."""
    if image.shape[:2] == tuple(size):
        return image
    pixels = tf.constant(image[None], tf.float32)
    return tf.raw_ops.ResizeBilinear(images=pixels, size=size, align_corners=True).numpy()[0]
