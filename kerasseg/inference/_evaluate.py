"""Predictions for the images of a split, and their count against the truth."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tensorflow import keras

from kerasseg.inference._segmenter import Segmenter
from kerasseg.metrics import confusion_matrix
from kerasseg.spec import IGNORE_LABEL, DataError


@dataclasses.dataclass(frozen=True)
class Prediction:
    """An image of a split with what was predicted.

    Attributes:
        key: The image's name.
        image: float32 [H, W, C], 0-255.
        mask: The truth, int32 [H, W].
        predicted: uint8 [H, W].
        confusion_matrix: int64 [K, K], rows truth, of this image.
        objects: int32 [H, W], 1, 2, ... the objects and 0 none, from a model that knows their rims; else None.
    """

    key: str
    image: np.ndarray
    mask: np.ndarray
    predicted: np.ndarray
    confusion_matrix: np.ndarray
    objects: np.ndarray | None = None


def predictions(
    model: keras.Model | Segmenter, images: Iterable, num_classes: int, ignore_label: int = IGNORE_LABEL, **options
) -> Iterator[Prediction]:
    """Predicts image by image.

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K]; or a `Segmenter`, whose options hold (but for its
            `value_range`: the images are as the model takes them).
        images: A `tf.data.Dataset` or an iterable of (image [1, H, W, C], mask [1, H, W]) or, with the image's name,
            (image, mask, key [1]); see `kerasseg.pipeline.eval_images(..., keys=True)`.
        num_classes: K, the ignored label not among them.
        ignore_label: Mask value that does not count.
        **options: Of the `Segmenter` that is made of a `keras.Model`: `tile_size`, `scales`, ...

    Yields:
        A `Prediction` for each image.
    Raises:
        ValueError: The model has other than K classes, an image and its mask differ in size, or options are given
            beside a `Segmenter`.
        DataError: The model has several outputs, or an image cannot be segmented: it is named.
    """
    if isinstance(model, Segmenter) and options:
        raise ValueError(f"give {', '.join(options)} to the Segmenter itself; it was made with options of its own")
    segmenter = model if isinstance(model, Segmenter) else Segmenter(model, **options)
    if segmenter.num_classes != num_classes:
        raise ValueError(f"the model tells {segmenter.num_classes} classes apart, the data set has {num_classes}")
    for number, (image, mask, *key) in enumerate(images):
        image, mask = np.asarray(image)[0], np.asarray(mask)[0]
        name = np.asarray(key[0]).reshape(-1)[0] if key else str(number)
        name = name.decode() if isinstance(name, bytes) else str(name)
        try:
            found = segmenter.of_split(image, name)
        except ValueError as error:
            raise DataError(f"{name}: {error}") from error
        counts = confusion_matrix(mask, found.mask, num_classes, ignore_label)
        yield Prediction(name, image, mask, found.mask, counts, found.objects)


def evaluate(
    model: keras.Model | Segmenter,
    images: Iterable,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
    *,
    on_prediction: Callable[[Prediction], None] | None = None,
    **options,
) -> np.ndarray:
    """Counts whole-image predictions over a split.

    Args:
        model, images, num_classes, ignore_label, **options: As for `predictions`.
        on_prediction: Called with each `Prediction`, to draw, save or score it.

    Returns:
        int64 [K, K], rows truth, columns prediction: `kerasseg.metrics.scores` tells what follows from it.
    """
    total = np.zeros((num_classes, num_classes), np.int64)
    for prediction in predictions(model, images, num_classes, ignore_label, **options):
        total += prediction.confusion_matrix
        if on_prediction:
            on_prediction(prediction)
    return total
