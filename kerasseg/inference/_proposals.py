"""Boxes that may hold an object, segmented one by one and put together, as DeconvNet's authors do."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.inference._network import network
from kerasseg.layers import num_classes_of

AGGREGATES = ("max", "mean")
CROP_SIZE = 224
"""Side of the crops for models that take any size: DeconvNet's."""


@dataclasses.dataclass(frozen=True)
class Proposals:
    """How `Segmenter` looks at boxes instead of the whole image. See `predict_proposals`.

    Attributes:
        source: Gives the boxes of an image: called with its pixels float32 [H, W, C], 0-255, and its name (None where
            it has none); returns [N, 4] as `predict_proposals` takes them. `EdgeBoxes()` for one.
        aggregate, limit, min_side, whole_image, batch_size: As for `predict_proposals`.
    """

    source: Callable
    aggregate: str = "max"
    limit: int = 50
    min_side: float = 112
    whole_image: bool = False
    batch_size: int = 8

    def __post_init__(self):
        if not callable(self.source):
            raise ValueError(f"source must be a function of an image and its name, got {self.source!r}")
        _check(self.aggregate, self.limit, self.min_side, self.batch_size)

    def scores(self, model: keras.Model, image: np.ndarray, key: str | None) -> np.ndarray:
        """Returns the scores float32 [H, W, K] of an image."""
        options = {name: value for name, value in vars(self).items() if name != "source"}
        return predict_proposals(model, image, self.source(image, key), **options)


def predict_proposals(
    model: keras.Model,
    image: np.ndarray,
    boxes: np.ndarray,
    *,
    aggregate: str = "max",
    limit: int = 50,
    min_side: float = 112,
    whole_image: bool = False,
    batch_size: int = 8,
) -> np.ndarray:
    """Computes the scores of an image from those of boxes in it.

    Each box is cut out, with zeros where it leaves the image, resized to the model's input (224 x 224, smoothed where
    it shrinks), and its scores are resized to the box, likewise. Scores of all boxes meet in a canvas of zeros. Where
    no box is, all scores are 0: the first class, background, is taken for the greatest of them.

    Args:
        model: Images [B, h, w, C] -> logits [B, h, w, K]; h and w fixed, or free: 224 then.
        image: Numeric [H, W, C], 0-255.
        boxes: [N, 4], ymin, xmin, ymax, xmax, where 0 and 1 are the outer edges of the image, as in records; the best
            first. They may leave the image by as much as its longer side.
        aggregate: "max": the greatest score of each class and pixel, as released; never below 0, the canvas. "mean":
            the sum over all boxes, outside of which scores are 0, divided by their number.
        limit: How many boxes are looked at, at most.
        min_side: Boxes that are narrower or lower than this number of pixels are passed over, and not counted.
        whole_image: Whether the image as a whole is one more box, of any size. The authors do not do so.
        batch_size: Crops that the model is given at a time.

    Returns:
        Scores float32 [H, W, K], of which softmax makes probabilities.

    Raises:
        ValueError: The image or an argument is none of the above, or a box is empty or far off the image.
    Reference: Noh et al. 2015, arXiv:1505.04366, section 4.4; HyeonwooNoh/DeconvNet
        `inference/generate_EDeconvNet_CRF_results.m` at 21139cb.
    Differs: The release cuts the result out one pixel too far up and left, which is not copied. MATLAB's `imresize`
        repeats pixels beyond a crop's border where it smooths; here they do not count.
    """
    _check(aggregate, limit, min_side, batch_size)
    image = np.asarray(image)
    channels = model.input_shape[-1]
    if image.ndim != 3 or not image.size or image.shape[2] != channels:
        raise ValueError(f"expected an image [H, W, {channels}] that is not empty, got the shape {image.shape}")
    height, width = image.shape[:2]
    corners = _corners(boxes, height, width)
    used = corners[(corners[:, 2:] - corners[:, :2]).min(axis=1) >= min_side][:limit]
    if whole_image:
        used = np.concatenate([[[0, 0, height, width]], used]).astype(int)
    canvas = np.zeros((height, width, num_classes_of(model)), np.float32)
    size = tuple(side or CROP_SIZE for side in model.input_shape[1:3])
    for first in range(0, len(used), batch_size):
        batch = used[first : first + batch_size]
        crops = np.stack([_resized(_cut(image, box), size) for box in batch])
        scores = network(model).forward(tf.constant(crops)).numpy()
        if scores.shape[1:3] != size:
            raise ValueError(f"expected a model with logits of its input's size, {size}, got {scores.shape[1:3]}")
        for box, score in zip(batch, scores, strict=True):
            _fold(canvas, box, score, aggregate)
    return canvas / np.float32(len(used)) if aggregate == "mean" and len(used) else canvas


def _fold(canvas: np.ndarray, box: np.ndarray, score: np.ndarray, aggregate: str) -> None:
    """Takes the scores of a crop into those of the image."""
    top, left, bottom, right = box
    score = _resized(score, (bottom - top, right - left))
    rows, columns = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
    part = canvas[rows, columns]
    score = score[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]]
    part[...] = np.maximum(part, score) if aggregate == "max" else part + score


def _cut(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Returns the pixels of a box, float32 [h, w, C], zeros where it leaves the image."""
    top, left, bottom, right = box
    crop = np.zeros((bottom - top, right - left, image.shape[2]), np.float32)
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    crop[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
    return crop


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns float32 [*size, C], bilinear with pixels' centres in place, smoothed where it shrinks."""
    if values.shape[:2] == tuple(size):
        return values
    return tf.image.resize(values, [int(side) for side in size], antialias=True).numpy()


def _corners(boxes, height, width) -> np.ndarray:
    """Returns whole pixels, int [N, 4], of shares of the image."""
    boxes = np.asarray(boxes, np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4), int)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise ValueError(f"expected finite boxes [N, 4] (ymin, xmin, ymax, xmax), got an array {boxes.shape}")
    corners = np.rint(boxes * (height, width, height, width)).astype(int)
    reach = max(height, width)
    far = (corners[:, :2] < -reach).any(1) | (corners[:, 2:] > (height + reach, width + reach)).any(1)
    wrong = far | (boxes[:, 2:] <= boxes[:, :2]).any(1)
    if wrong.any():
        raise ValueError(
            f"box {int(np.flatnonzero(wrong)[0]) + 1} of {len(boxes)} ({', '.join(f'{v:g}' for v in boxes[wrong][0])}) "
            "is empty or far off the image; expected ymin, xmin, ymax, xmax as shares of the image, 0 to 1"
        )
    return corners


def _check(aggregate, limit, min_side, batch_size):
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate must be one of {', '.join(AGGREGATES)}, got {aggregate!r}")
    if min(limit, batch_size) < 1 or not min_side >= 1:
        raise ValueError(
            "limit, min_side and batch_size must be at least 1, "
            f"got limit={limit!r}, min_side={min_side!r}, batch_size={batch_size!r}"
        )
