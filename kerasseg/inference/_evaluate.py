"""Predictions for the images of a split, and their count against the truth."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from tensorflow import keras

from kerasseg.inference._rims import merged, rim_model, softmax
from kerasseg.inference._tiled import predict_tiled
from kerasseg.layers import num_classes_of
from kerasseg.metrics import confusion_matrix
from kerasseg.postprocess import split_by_rims
from kerasseg.spec import IGNORE_LABEL


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
    model: keras.Model, images: Iterable, num_classes: int, ignore_label: int = IGNORE_LABEL, **tiling
) -> Iterator[Prediction]:
    """Predicts image by image.

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K].
        images: A `tf.data.Dataset` or an iterable of (image [1, H, W, C], mask [1, H, W]) or, with the image's name,
            (image, mask, key [1]); see `kerasseg.pipeline.eval_images(..., keys=True)`.
        num_classes: K, the ignored label not among them.
        ignore_label: Mask value that does not count.
        **tiling: As for `predict_tiled`.

    Yields:
        A `Prediction` for each image.
    Raises:
        ValueError: The model has other than K classes, or an image and its mask differ in size.
        DataError: The model has several outputs.
    """
    found = num_classes_of(model)
    if found != num_classes:
        raise ValueError(f"the model tells {found} classes apart, the data set has {num_classes}")
    rims = rim_model(model)
    for number, (image, mask, *key) in enumerate(images):
        image, mask = np.asarray(image)[0], np.asarray(mask)[0]
        name = np.asarray(key[0]).reshape(-1)[0] if key else str(number)
        name = name.decode() if isinstance(name, bytes) else str(name)
        logits = predict_tiled(rims or model, image, **tiling)
        predicted = (merged(logits) if rims else logits).argmax(-1).astype(np.uint8)
        counts = confusion_matrix(mask, predicted, num_classes, ignore_label)
        objects = split_by_rims(softmax(logits)) if rims else None
        yield Prediction(name, image, mask, predicted, counts, objects)


def evaluate(
    model: keras.Model,
    images: Iterable,
    num_classes: int,
    ignore_label: int = IGNORE_LABEL,
    *,
    on_prediction: Callable[[Prediction], None] | None = None,
    **tiling,
) -> np.ndarray:
    """Counts whole-image predictions over a split.

    Args:
        model, images, num_classes, ignore_label, **tiling: As for `predictions`.
        on_prediction: Called with each `Prediction`, to draw, save or score it.

    Returns:
        int64 [K, K], rows truth, columns prediction: `kerasseg.metrics.scores` tells what follows from it.
    """
    total = np.zeros((num_classes, num_classes), np.int64)
    for prediction in predictions(model, images, num_classes, ignore_label, **tiling):
        total += prediction.confusion_matrix
        if on_prediction:
            on_prediction(prediction)
    return total
