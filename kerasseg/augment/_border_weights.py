"""U-Net's weight maps, which make a network learn the narrow gaps between touching cells. NumPy, outside the graph."""

import numpy as np
from scipy import ndimage

from kerasseg._opencv import cv2
from kerasseg.spec import IGNORE_LABEL

_NEGLIGIBLE = 1e-9
"""A border term that is left out where it is smaller than this (float32 resolves 1e-7 of a weight of 1)."""


def border_weights(
    instances: np.ndarray, w0: float = 10, sigma: float = 5, *, mask: np.ndarray | None = None
) -> np.ndarray:
    """Returns w(x) = w_c(x) + w0 exp(-(d1 + d2)² / (2 sigma²)), high where two cells come close.

    d1 and d2 are the distances, in pixels, from the pixel x to the nearest pixel of the nearest and of the second
    nearest cell; d1 is 0 on a cell. With fewer than two cells there is no second term. w_c balances the classes: N
    pixels of K classes that occur, n_c of them of x's class c, give N / (K n_c), whose mean over the map is 1.

    Touching cells are cut apart by a ridge of background before (the authors do it by morphology): give `instances`
    with that ridge, or `mask` with it, so that w_c counts the ridge as background.

    The distances are exact. A cell is measured only in its box grown by the reach beyond which its term is below
    1e-9 (34 pixels with the defaults), and the two smallest are kept while cells pass by.

    Args:
        instances: Integers [H, W], 0 for background; ids need not be consecutive.
        w0: Height of the second term.
        sigma: Its width, pixels.
        mask: Integers [H, W], class ids for w_c; 255 weighs 0. Default: two classes, background and cell.

    Returns:
        float32 [H, W], at least 0.

    Raises:
        ValueError: Shapes disagree, a number is out of range.

    Reference: Ronneberger et al. 2015, arXiv:1505.04597, §3, eq. 2 (w0 10, sigma 5). The paper leaves w_c's
    normalisation open; a mean of 1 keeps the learning rate of an unweighted loss.
    """
    instances, labels = _checked(instances, mask)
    if w0 < 0 or not sigma > 0:
        raise ValueError(f"expected w0 of at least 0 and sigma above 0, received {w0} and {sigma}")
    weights = _border_term(instances, w0, sigma)
    weights += _balance(labels)
    weights[labels == IGNORE_LABEL] = 0
    return weights


def fiji_border_weights(
    instances: np.ndarray,
    w_b: float = 50,
    sigma_b: float = 6,
    *,
    background: float = 0.1,
    sigma_1: float = 10,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the weight map of the U-Net authors' later Fiji plug-in.

    A cell weighs 1. Background weighs b + (1 - b) exp(-d1² / (2 sigma_1²)) + w_b exp(-(d1 + d2)² / (2 sigma_b²)), so it
    counts less the farther it lies from any cell, and more between two; see `border_weights` for d1 and d2, and for the
    ridge between touching cells, which the plug-in makes as well. Classes are not balanced.

    Args:
        instances: Integers [H, W], 0 for background.
        w_b: Height of the border term.
        sigma_b: Its width, pixels.
        background: b, what background far from every cell weighs, 0 to 1 (the plug-in's lambda).
        sigma_1: How far cells reach into the background, pixels.
        mask: Integers [H, W]; where it is 255 the weight is 0.

    Returns:
        float32 [H, W], at least 0.

    Raises:
        ValueError: Shapes disagree, a number is out of range.

    Reference: lmb-freiburg/Unet-Segmentation, `TrainingSample.java` and, for the defaults, `ModelDefinition.java`.
    """
    instances, labels = _checked(instances, mask)
    if w_b < 0 or not (sigma_b > 0 and sigma_1 > 0 and 0 <= background <= 1):
        raise ValueError(
            "expected w_b of at least 0, sigma_b and sigma_1 above 0 and background from 0 to 1, received "
            f"{w_b}, {sigma_b}, {sigma_1} and {background}"
        )
    outside = instances == 0
    weights = np.full(instances.shape, background, np.float32)
    if not outside.all():
        distance = cv2.distanceTransform(outside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        weights += (1 - background) * np.exp(-(distance**2) / (2 * sigma_1**2))
    weights = np.where(outside, weights + _border_term(instances, w_b, sigma_b), 1)
    return np.where(labels == IGNORE_LABEL, 0, weights).astype(np.float32)


def _checked(instances, mask):
    """Returns instances and class ids as arrays; without a mask the classes are background and cell."""
    instances = np.asarray(instances)
    if instances.ndim != 2 or instances.dtype.kind not in "ui":
        raise ValueError(f"expected instances as integers [H, W], received {instances.dtype} {instances.shape}")
    if instances.size and instances.min() < 0:
        raise ValueError(f"expected instance ids of at least 0, received {instances.min()}; 0 is the background")
    labels = (instances > 0).astype(np.uint8) if mask is None else np.asarray(mask)
    if labels.shape != instances.shape or labels.dtype.kind not in "ui":
        raise ValueError(
            f"expected a mask of integers {instances.shape}, as the instances, received {labels.dtype} {labels.shape}"
        )
    return instances, labels


def _border_term(instances, height, sigma):
    """Returns float32 [H, W]: height exp(-(d1 + d2)² / (2 sigma²)), 0 where that is negligible."""
    reach = sigma * np.sqrt(2 * np.log(max(height / _NEGLIGIBLE, 1)))
    nearest, second = _two_smallest_distances(instances, int(np.ceil(reach)))
    # In place: new arrays of this size cost as much as what is computed.
    term = np.add(nearest, second, out=nearest)
    np.square(term, out=term)
    term *= -1 / (2 * sigma**2)
    np.exp(term, out=term)
    term *= height
    return term


def _two_smallest_distances(instances, reach):
    """Returns float32 [H, W] twice: distance to the nearest and second nearest cell, infinite beyond `reach`."""
    nearest = np.full(instances.shape, np.inf, np.float32)
    second = nearest.copy()
    if instances.size and instances.max() > np.iinfo(np.uint16).max:
        instances = np.unique(instances, return_inverse=True)[1].reshape(instances.shape) + (instances.min() > 0)
    for cell, box in enumerate(ndimage.find_objects(instances.astype(np.int32)), start=1):
        if box is None:
            continue
        grown = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        elsewhere = (instances[grown] != cell).view(np.uint8)
        distance = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near, next_near = nearest[grown], second[grown]
        np.minimum(next_near, np.maximum(near, distance), out=next_near)
        np.minimum(near, distance, out=near)
    return nearest, second


def _balance(labels):
    """Returns float32 [H, W]: N / (K n_c) for each pixel's class c, 1 where only one class occurs; 0 if ignored."""
    counts = np.bincount(labels.ravel(), minlength=IGNORE_LABEL + 1).astype(np.float64)
    counts[IGNORE_LABEL] = 0
    shown = counts > 0
    weight = np.zeros(len(counts), np.float32)
    weight[shown] = counts.sum() / (shown.sum() * counts[shown])
    return cv2.LUT(labels, weight) if labels.dtype == np.uint8 and labels.size else weight[labels]
