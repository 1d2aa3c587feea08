"""Carries out a plan with OpenCV, outside the graph: several times as fast on a CPU, and free of Python's lock."""

import numpy as np

from kerasseg._opencv import cv2
from kerasseg.augment._augmentation import Augmentation, SimardElastic
from kerasseg.augment._blur import gaussian_blur_cv
from kerasseg.augment._colour_affine import apply_colour_map_cv
from kerasseg.augment._elastic import grid_displacement_cv, simard_displacement_cv
from kerasseg.augment._geometry import IMAGENET_MEAN, MAP_FILL, Fill
from kerasseg.augment._pixels import cutout_cv, gaussian_noise_cv
from kerasseg.augment._plan import Plan
from kerasseg.augment._warp import warp_cv
from kerasseg.spec import IGNORE_LABEL

Arrays = dict[str, np.ndarray]


def render_cv(sample: Arrays, plan: Plan, augmentation: Augmentation, into: Arrays) -> None:
    """Writes the sample as the plan has it into given arrays; the same picture as `render`'s, rounded where uint8.

    Args:
        sample: The window of the plan: "image" uint8 or float32 [H, W, C], 0-255, and any of the maps [H, W].
        plan: Of this sample, NumPy arrays in place of tensors.
        augmentation: That the plan was drawn from.
        into: For each entry of the sample an array of the result's shape that holds its values; all is overwritten.
            An image of floating point is rounded, and cut off at 0 and 255, if the array is uint8.
    """
    turns = 0 if plan.turns is None else int(plan.turns)
    # Turned views: what is written into them lies turned in the arrays.
    into = {name: np.rot90(array, -turns) if turns else array for name, array in into.items()}
    positions = None if plan.warp is None else _positions(plan, augmentation)
    for name, array in sample.items():
        region = _placed(array, name, plan, positions, augmentation)
        if name == "image":
            region = _valued(region, plan)
            if into[name].dtype == np.uint8 and region.dtype != np.uint8:
                region = np.clip(np.rint(region), 0, 255).astype(np.uint8)
            pixel = fill_pixel_cv(augmentation.fill, region)
        else:
            pixel = MAP_FILL[name]
        if name == "mask" and plan.kept_class is not None:
            region = np.where((region == plan.kept_class) | (region == IGNORE_LABEL), region, 0)
        _write(region, plan, pixel, into[name])
        if name == "image" and plan.cutout is not None:
            into[name][...] = cutout_cv(into[name], plan.cutout, pixel)


def fill_pixel_cv(fill: Fill, image: np.ndarray) -> np.ndarray:
    """Returns what is padded with, [C] of the image's dtype."""
    channels = image.shape[2]
    if not isinstance(fill, str):
        pixel = np.broadcast_to(np.float32(fill), [channels])
    else:
        pixel = np.float32(IMAGENET_MEAN) if channels == 3 else mean_pixel_cv(image)
    return (np.rint(pixel) if image.dtype.kind == "u" else pixel).astype(image.dtype)


def mean_pixel_cv(image: np.ndarray) -> np.ndarray:
    """Returns float32 [C], the mean over H and W."""
    channels = image.shape[2]
    if channels <= 4:
        return np.float32(cv2.mean(image)[:channels])
    return image.mean(axis=(0, 1), dtype=np.float32)


def _placed(array, name: str, plan: Plan, positions, augmentation: Augmentation) -> np.ndarray:
    """Returns the region that the window fills, flipped."""
    is_image = name == "image"
    if positions is not None:
        if is_image:
            fill = fill_pixel_cv(augmentation.fill, array)
            warped = warp_cv(array, positions, border=augmentation.border, fill=fill)
        else:
            warped = warp_cv(array[..., np.newaxis], positions, True, augmentation.border, MAP_FILL[name])[..., 0]
        return _flipped(warped, plan)
    height, width = plan.region[2:].tolist()
    if array.shape[:2] == (height, width):
        return _flipped(array, plan)
    interpolation = cv2.INTER_LINEAR if is_image else cv2.INTER_NEAREST_EXACT
    grows = height * width > array.shape[0] * array.shape[1]
    array = _flipped(array, plan) if grows else array  # the smaller of the two is flipped
    resized = cv2.resize(array, (width, height), interpolation=interpolation)
    resized = resized.reshape(height, width, *array.shape[2:])  # OpenCV drops a single channel
    return resized if grows else _flipped(resized, plan)


def _flipped(array: np.ndarray, plan: Plan) -> np.ndarray:
    if plan.flips is None or not plan.flips.any():
        return array
    up_down, left_right = plan.flips
    code = -1 if up_down and left_right else int(left_right)
    return cv2.flip(array, code).reshape(array.shape)


def _positions(plan: Plan, augmentation: Augmentation) -> np.ndarray:
    """Returns where each pixel of the result comes from, float32 [h, w, 2] (y, x)."""
    size, warp, elastic = tuple(plan.size.tolist()), plan.warp, augmentation.elastic
    matrix = warp.matrix
    if warp.grid is not None:
        places = grid_displacement_cv(warp.grid, size)
    elif isinstance(elastic, SimardElastic):
        places = simard_displacement_cv(int(warp.simard_seed[0]), size, elastic.alpha, elastic.sigma)
    else:
        places = np.zeros((*size, 2), np.float32)
    places[..., 0] += np.arange(size[0], dtype=np.float32)[:, np.newaxis]
    places[..., 1] += np.arange(size[1], dtype=np.float32)
    return cv2.transform(places, matrix)


def _valued(image: np.ndarray, plan: Plan) -> np.ndarray:
    """Returns the image with its values changed, of the same dtype."""
    if plan.blur is not None:
        image = gaussian_blur_cv(image, float(plan.blur))
    if plan.colour is not None:
        image = apply_colour_map_cv(image, *plan.colour)
    if plan.grey is not None:
        image = vary_grey_cv(image, *plan.grey.tolist())
    if plan.noise is not None:
        image = gaussian_noise_cv(image, float(plan.noise), int(plan.noise_seed[0]))
    return image


def vary_grey_cv(image: np.ndarray, contrast: float, brightness: float, gamma: float) -> np.ndarray:
    """As `vary_grey`, on uint8 (through a table of 256 values for each channel) or float32 [H, W, C]."""
    mean = mean_pixel_cv(image)
    values = image if image.dtype != np.uint8 else np.arange(256, dtype=np.float32)[np.newaxis, :, np.newaxis]
    changed = np.clip(values * np.float32(contrast) + (mean * (1 - contrast) + 255 * brightness), 0, 255)
    changed *= (np.maximum(changed, 1e-3) / 255) ** np.float32(gamma - 1)
    if image.dtype != np.uint8:
        return changed.astype(np.float32)
    table = np.rint(changed).astype(np.uint8)
    return cv2.LUT(image, table if image.shape[2] > 1 else table[..., 0]).reshape(image.shape)


def _write(region, plan: Plan, pixel, into: np.ndarray) -> None:
    """Writes the region where it lies and the padding around it."""
    top, left, height, width = plan.region.tolist()
    if (height, width) != into.shape[:2]:
        # A row at a time: NumPy copies long runs ten times as fast as it repeats a pixel.
        row = np.empty(into.shape[1:], into.dtype)
        row[...] = pixel
        into[:top], into[top + height :] = row, row
        into[top : top + height, :left] = row[:left]
        into[top : top + height, left + width :] = row[left + width :]
    into[top : top + height, left : left + width] = region
