"""Touching objects told apart by their rims."""

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed


def split_by_rims(probabilities: np.ndarray, *, threshold: float = 0.5, min_size: int = 15) -> np.ndarray:
    """Turns probabilities of outside, inside and rim into objects, each grown from its inside over its rim.

    An object's seed is a component (4 neighbours) where "inside" is the most probable of the three. Seeds are flooded
    (watershed) over the pixels that are more probably inside or rim than `threshold`, the surest first. A component of
    such pixels without a seed, an object that is all rim, becomes one object.

    Args:
        probabilities: float [H, W, 3], of background, an object's inside and its rim.
        threshold: Probability of inside or rim together above which a pixel belongs to an object.
        min_size: Smallest object that is kept, pixels.

    Returns:
        int32 [H, W]: 0 = no object, 1, 2, ... the objects.
    Raises:
        ValueError: There are not three classes.
    """
    if probabilities.ndim != 3 or probabilities.shape[-1] != 3:
        raise ValueError(f"expected probabilities [H, W, 3] of outside, inside, rim; received {probabilities.shape}")
    foreground = 1 - probabilities[..., 0] > threshold
    seeds, count = ndimage.label((probabilities.argmax(-1) == 1) & foreground)
    parts, _ = ndimage.label(foreground)
    seeded = np.zeros(parts.max() + 1, bool)
    seeded[parts[seeds > 0]] = True
    seeds = np.where(seeded[parts], seeds, np.where(foreground, count + parts, 0))
    found = watershed(-probabilities[..., 1], seeds, mask=foreground)
    sizes = np.bincount(found.reshape(-1))
    keep = sizes >= min_size
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return numbers[found]
