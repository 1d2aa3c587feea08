"""What another runtime answers, beside what the Keras model answers."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tensorflow import keras

from kerasseg.export import _reference
from kerasseg.export._baked import baked
from kerasseg.export._verify import SIZES, ExportError
from kerasseg.layers import num_classes_of
from kerasseg.metrics import confusion_matrix, scores
from kerasseg.spec import IGNORE_LABEL

UNPOOLING_SHARE = {"float32": 1e-3, "float16": 0.01}
"""Share of pixels that may differ with unpooling, which sends a value elsewhere if two are equal but for rounding."""


class Reference:
    """The Keras model's logits float32 [H, W, K], K at least 2, of an image [H, W, C], its border mirrored by NumPy."""

    def __init__(self, model: keras.Model):
        self._scores = _reference.Reference(model, baked())
        self.num_classes = max(num_classes_of(model), 2)
        self.unpools = self._scores.unpools

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._scores(image)[0]


def by_windows(segment: Callable, image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Segments an image by a function that takes images of one size only.

    Larger images are seen through windows, as few as cover them, evenly spread; where two overlap, each gives its
    half. Smaller ones are mirrored at the bottom and the right.

    Args:
        segment: [h, w, C] -> [h, w].
        image: [H, W, C].
        size: h and w; None: `segment` takes any size.
    Returns:
        [H, W].
    """
    if size is None or image.shape[:2] == tuple(size):
        return segment(image)
    height, width = image.shape[:2]
    image = _at_least(image, size)
    rows, columns = (_windows(n, want) for n, want in zip(image.shape, size, strict=False))
    result = None
    for top, first_row, last_row in rows:
        for left, first, last in columns:
            classes = segment(image[top : top + size[0], left : left + size[1]])
            if result is None:
                result = np.empty(image.shape[:2], classes.dtype)
            part = classes[first_row - top : last_row - top, first - left : last - left]
            result[first_row:last_row, first:last] = part
    return result[:height, :width]


def _at_least(image, size):
    """Returns an image mirrored at the bottom and the right up to a size, where it is smaller."""
    lack = [(0, max(want - have, 0)) for want, have in zip(size, image.shape, strict=False)]
    return np.pad(image, [*lack, (0, 0)], mode="reflect")


def fitted(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Returns the middle [h, w, C] of an image [H, W, C], mirrored where it is smaller; None: all of it."""
    if size is None:
        return image
    image = _at_least(image, size)
    top, left = ((have - want) // 2 for want, have in zip(size, image.shape, strict=False))
    return image[top : top + size[0], left : left + size[1]]


def _windows(length, window):
    """Lists, of each window along a side, where it starts, and the first and one past the last pixel taken of it."""
    count = -(-length // window)
    starts = [round(i * (length - window) / max(count - 1, 1)) for i in range(count)]
    cuts = [(a + window + b) // 2 for a, b in zip(starts, starts[1:], strict=False)]
    return list(zip(starts, [0, *cuts], [*cuts, length], strict=True))


def compare(
    segment: Callable, reference: Reference, images: Sequence[np.ndarray], tolerance: float, share: float
) -> float:
    """Asks another runtime and the model about images, and returns the share of pixels of the same class.

    Args:
        segment: uint8 [H, W, C] -> uint8 [H, W].
        tolerance: How far, in parts of the largest logit, the chosen class may lie below the best.
        share: Of an image's pixels that may be further off.
    Raises:
        ExportError: More are, or the class map has another size or type.
    """
    equal = total = 0
    for image in images:
        logits, classes = reference(image), segment(image)
        size = logits.shape[:2]
        if classes.shape != size or classes.dtype != np.uint8:
            raise ExportError(f"expected a class map uint8 {size}, got {classes.dtype} {classes.shape}")
        chosen = np.take_along_axis(logits, classes[..., None].astype(np.int64), axis=2)[..., 0]
        short = logits.max(axis=2) - chosen
        wrong = short > tolerance * max(1.0, float(np.abs(logits).max()))
        if wrong.mean() > share:
            raise ExportError(
                f"{wrong.sum()} of {wrong.size} pixels differ from the Keras model on an image of {size[0]} x "
                f"{size[1]} pixels (logits differ by up to {short.max():.3g})"
            )
        equal += np.count_nonzero(classes == logits.argmax(-1))
        total += classes.size
    return equal / total


def judge(
    segment: Callable,
    reference: Reference,
    data: Iterable,
    size: tuple[int, int] | None,
    max_drop: float,
    ignore_label: int = IGNORE_LABEL,
) -> dict:
    """Scores another runtime and the model on labelled images, both through the same windows.

    Args:
        segment: uint8 [h, w, C] -> uint8 [h, w].
        data: (image [H, W, C], 0-255, mask [H, W]), with or without a batch axis of one.
        size: h and w; None: any.
        max_drop: What the mean IoU may lose.
        ignore_label: Value of masks that does not count.
    Returns:
        {"num_images", "pixels_equal", "mean_iou", "mean_iou_of_keras", "max_drop"}, shares 0-1.
    Raises:
        ValueError: There are no images, or an image or mask has another shape.
        ExportError: The mean IoU drops by more.
    """
    counts, equal, total, number = [0, 0], 0, 0, 0
    for image, mask, *_ in data:
        number += 1
        image, mask = one_image(image), np.asarray(mask)
        mask = mask[0] if mask.ndim == 3 else mask
        found = by_windows(segment, to_uint8(image), size)
        truth = by_windows(lambda window: reference(window).argmax(-1).astype(np.uint8), image, size)
        for i, answer in enumerate((found, truth)):
            counts[i] = counts[i] + confusion_matrix(mask, answer, reference.num_classes, ignore_label)
        equal += np.count_nonzero(found == truth)
        total += truth.size
    if not number:
        raise ValueError("expected labelled images to judge the export by, got none")
    mine, theirs = (scores(matrix)["mean_iou"] for matrix in counts)
    if theirs - mine > max_drop:
        raise ExportError(
            f"the mean IoU on {number} images drops from {theirs:.4f} to {mine:.4f}, by more than {max_drop:g} "
            f"({equal / total:.2%} of the pixels are of the Keras model's class)"
        )
    return {
        "num_images": number,
        "pixels_equal": equal / total,
        "mean_iou": mine,
        "mean_iou_of_keras": theirs,
        "max_drop": max_drop,
    }


def one_image(image) -> np.ndarray:
    """Returns an image [H, W, C], given with or without a batch axis of one.

    Raises:
        ValueError: It is neither.
    """
    image = np.asarray(image)
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3:
        raise ValueError(f"expected an image [H, W, C] or [1, H, W, C], got shape {image.shape}")
    return image


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Returns an image of 0-255 rounded to bytes."""
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


def random_images(model: keras.Model, size: tuple[int, int] | None, seed: int = 0) -> list[np.ndarray]:
    """Returns images uint8 to compare on: of the one size, or of `SIZES`."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*s, model.input_shape[-1]), np.uint8) for s in ([size] if size else SIZES)]


def check_max_drop(max_drop: float) -> None:
    """Raises a ValueError unless this is a difference of mean IoU."""
    if not 0 <= max_drop <= 1:
        raise ValueError(f"max_drop must be a difference of mean IoU, 0 to 1, got {max_drop}")


def checked_images(images: Sequence[np.ndarray], channels: int) -> list[np.ndarray]:
    """Returns the images.

    Raises:
        ValueError: One is not uint8 [H, W, channels].
    """
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
            raise ValueError(f"expected images uint8 [H, W, {channels}], got {image.dtype} {image.shape}")
    return list(images)
