"""What an example must be like to enter a data set."""

import numpy as np

from kerasseg._opencv import cv2
from kerasseg.records._example import BIT_DEPTHS, MAX_WEIGHT, Example
from kerasseg.spec import DataError, DatasetSpec


def check(example: Example, spec: DatasetSpec) -> np.ndarray:
    """Returns the counts of the mask's labels, int64 [256]; raises `DataError` where `example` contradicts `spec`."""
    image, label = example.image, example.label
    if image.ndim != 3 or 0 in image.shape:
        raise DataError(f"{label}: expected an image [H, W, C], received shape {image.shape}")
    if image.shape[2] != spec.channels:
        raise DataError(
            f"{label}: the image has {image.shape[2]} channels, but the data set {spec.channels}; "
            "convert all images to one number of channels (--channels)"
        )
    if BIT_DEPTHS.get(image.dtype.name) != spec.bit_depth:
        raise DataError(f"{label}: the image is {image.dtype}, but the data set has {spec.bit_depth} bits per channel")
    if image.dtype != np.float32 and spec.channels > 4:
        raise DataError(
            f"{label}: {spec.channels} channels are stored as float32 (bit depth 32), received {image.dtype}"
        )
    for name, dtype in (("mask", np.uint8), ("instances", np.uint16), ("weight", np.float32)):
        array = getattr(example, name)
        if array is None:
            continue
        if array.shape != image.shape[:2]:
            raise DataError(
                f"{label}: the {name} is {_size(array)} pixels, but the image {_size(image)}; each image needs a "
                f"{name} of its own size (was one of them resized, or do they belong to different images?)"
            )
        if array.dtype != dtype:
            raise DataError(f"{label}: expected a {name} of type {np.dtype(dtype)}, received {array.dtype}")
    if example.weight is not None:
        low, high = example.weight.min(), example.weight.max()
        if not (low >= 0 and high <= MAX_WEIGHT):
            raise DataError(f"{label}: weights must lie between 0 and {MAX_WEIGHT:.3f}, received {low} to {high}")
    if example.proposals is not None:
        _check_boxes(example.proposals, label)
    return _label_counts(example, spec)


def _check_boxes(boxes: np.ndarray, label: str) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != np.float32:
        raise DataError(f"{label}: expected proposals float32 [N, 4], received {boxes.dtype} {boxes.shape}")
    with np.errstate(invalid="ignore"):
        good = (boxes >= 0).all(1) & (boxes <= 1).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not good.all():
        i = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"{label}: proposal {i} is {boxes[i].tolist()}; expected ymin, xmin, ymax, xmax within 0 to 1, each "
            "maximum above its minimum"
        )


def _label_counts(example: Example, spec: DatasetSpec) -> np.ndarray:
    if example.mask is None:
        return np.zeros(256, np.int64)
    counts = _histogram(example.mask)
    illegal = [int(v) for v in np.flatnonzero(counts) if v >= spec.num_classes and v != spec.ignore_label]
    if illegal:
        found = ", ".join(f"{v} ({counts[v]} pixels)" for v in illegal[:5]) + (", ..." if len(illegal) > 5 else "")
        raise DataError(
            f"{example.label}: the mask holds {found}; expected class ids 0 to {spec.num_classes - 1} or "
            f"{spec.ignore_label} (ignored); check the list of "
            f"classes, or change labels while converting (--ignore {illegal[0]}, --map {illegal[0]}=...)"
        )
    return counts


def _histogram(mask: np.ndarray) -> np.ndarray:
    """Returns int64 [256] of uint8 [H, W]; OpenCV is the faster, but counts in float32, exact to 2**24."""
    if mask.size >= 2**24:
        return np.bincount(mask.ravel(), minlength=256)
    return cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
