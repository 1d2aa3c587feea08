"""Touching objects told apart by their rims."""

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
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
    return _numbered(found, min_size)


def split_by_distance(
    mask: np.ndarray, object_class: int = 1, *, min_distance: int = 5, sigma: float = 2.0, min_size: int = 15
) -> np.ndarray:
    """Turns a class map into objects, parted at their waists: for models that know no rims.

    Each pixel's distance from the outside of the class (smoothed by a Gaussian) is a landscape, its summits are the
    seeds of a watershed. Round objects that touch are told apart so; long ones may be cut into several.

    Args:
        mask: Class ids, integer [H, W].
        object_class: The class that is taken apart.
        min_distance: Summits are at least that far from each other, pixels: about the radius of small objects.
        sigma: Of the smoothing, pixels: ragged outlines give no summits of their own.
        min_size: Smallest object that is kept, pixels.

    Returns:
        int32 [H, W]: 0 = no object, 1, 2, ... the objects.
    Raises:
        ValueError: `mask` has other than two axes.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"expected a mask [H, W], received the shape {mask.shape}")
    foreground = mask == object_class
    # Outside the picture is outside the class: an object cut off by the border has its summit within.
    distance = ndimage.distance_transform_edt(np.pad(foreground, 1))[1:-1, 1:-1]
    distance = ndimage.gaussian_filter(distance, sigma)
    summits = peak_local_max(np.where(foreground, distance, 0), min_distance=min_distance, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(summits.T)] = np.arange(1, len(summits) + 1)
    parts, _ = ndimage.label(foreground)
    seeded = np.zeros(parts.max(initial=0) + 1, bool)
    seeded[parts[seeds > 0]] = True
    # A component whose summit is another's neighbour has none of its own: it is one object.
    seeds = np.where(seeded[parts], seeds, np.where(foreground, len(summits) + parts, 0))
    return _numbered(watershed(-distance, seeds, mask=foreground), min_size)


def _numbered(found, min_size):
    """Returns the objects of at least that size, int32, numbered without gaps."""
    sizes = np.bincount(found.reshape(-1))
    keep = sizes >= min_size
    keep[0] = False
    numbers = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return numbers[found]
