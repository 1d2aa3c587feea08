"""One object that makes masks of whatever image it is given."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorflow import keras

from kerasseg.inference._load import load_model
from kerasseg.inference._reading import prepared, read_image
from kerasseg.inference._rims import merged, rim_model, softmax
from kerasseg.inference._tiled import predict_tiled
from kerasseg.inference._views import View, mean_probabilities, views
from kerasseg.layers import num_classes_of
from kerasseg.postprocess import objects, split_by_rims
from kerasseg.spec import DataError

_SMALLEST = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What a `Segmenter` finds in an image.

    Attributes:
        mask: uint8 [H, W], the most probable class of each pixel.
        objects: int32 [H, W], 1, 2, ... the single objects and 0 none; None where they were not asked for.
    """

    mask: np.ndarray
    objects: np.ndarray | None = None


class Segmenter:
    """A model that takes images of any size and kind.

        mask = Segmenter("runs/cells/best.keras").segment("image.png")
        mask = Segmenter("runs/voc/best.keras", scales=(0.5, 0.75, 1, 1.25, 1.5, 1.75), flip=True).segment("photo.jpg")

    With several scales, mirrored or turned images, the network sees the image in each of these ways, and the class
    probabilities are the mean of what it makes of them: softmax of the logits brought back to the image's size. Each of
    them costs a forward pass, larger ones a larger one; `rotate` and `flip` together are eight views for each scale.

    Args:
        model: A `keras.Model` from images to logits, or the path of a saved one.
        tile_size, overlap, memory_budget, blend: As for `predict_tiled`.
        value_range: The values of 16-bit images that become 0 and 255: the `DatasetSpec.value_range` of the data that
            the model was trained on. None: 0 and 65535.
        scales: Factors of the image's sides. DeepLab's authors take 0.5, 0.75, 1, 1.25, 1.5, 1.75, with an output
            stride of 8.
        flip: Whether the image is also seen mirrored, left to right.
        rotate: Whether it is seen turned by 90, 180 and 270 degrees too.
    Raises:
        DataError: The model's file cannot be loaded, or the model has several outputs.
        ValueError: `scales` are no positive numbers.
    Reference: Chen et al. 2017, arXiv:1706.05587, section 4.1, and tensorflow/models `research/deeplab/model.py`
        (`predict_labels_multi_scale`): images and logits are resized with aligned corners and not smoothed before,
        softmax comes after resizing, the mean is not weighted. Ronneberger et al. 2015, arXiv:1505.04597, table 1:
        the mean over "7 rotated versions"; which ones is not said. The square has eight symmetries, the image itself
        and seven more: `rotate` with `flip`.
    Differs: From DeepLab's, logits have been brought to the size of the resized image before they are resized to that
        of the image.
    """

    def __init__(
        self,
        model: keras.Model | str | Path,
        *,
        tile_size: int | tuple[int, int] | None = None,
        overlap: int | None = None,
        memory_budget: int | None = None,
        blend: str = "gaussian",
        value_range: tuple[float, float] | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        rotate: bool = False,
    ):
        self._views = views(scales, flip, rotate)
        self.model = model if isinstance(model, keras.Model) else load_model(model)
        num_classes_of(self.model)
        self._rims = rim_model(self.model)
        self.value_range = value_range
        self._tiling = {"tile_size": tile_size, "overlap": overlap, "memory_budget": memory_budget, "blend": blend}

    def logits(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns float32 [H, W, K] of an image; of several views, the log of their mean probabilities.

        Args:
            image: [H, W] or [H, W, C], uint8 (0-255), uint16 (scaled to 0-255) or float (0-255), or a file's path.
                Grey images are repeated for a model of colour ones, and the like: see `prepared`.
        Raises:
            DataError: The file cannot be read, or its channels do not fit the model.
            ValueError: The array is no image, or its channels do not fit the model.
        """
        pixels = self._pixels(image)
        if self._plain:
            return self._logits(self.model, pixels)
        return np.log(np.maximum(self._merged(self._mean(pixels)), _SMALLEST))

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """Returns what the model is given for an image [H, W] or [H, W, C]: float32 [H, W, C], see `prepared`."""
        return prepared(image, self.model.input_shape[-1], self.value_range)

    def segment(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the most probable class of each pixel, uint8 [H, W], of an image as `logits` takes it."""
        return self.everything(image).mask

    def probabilities(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns float32 [H, W, K] of an image as `logits` takes it: softmax of the logits, or its mean over views."""
        pixels = self._pixels(image)
        return softmax(self._logits(self.model, pixels)) if self._plain else self._merged(self._mean(pixels))

    def objects(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the single objects, int32 [H, W], 0 = none, of an image as `logits` takes it.

        A model that knows the rims of objects parts touching ones (`postprocess.split_by_rims`); of others, an object
        is a connected component of class 1.
        """
        pixels = self._pixels(image)
        if self._rims is None:
            return objects(self._segmented(pixels).mask)
        return split_by_rims(softmax(self._logits(self._rims, pixels)) if self._plain else self._mean(pixels))

    def everything(self, image: np.ndarray | str | Path, *, objects: bool = False) -> Segmentation:
        """Returns the mask, and the single objects if they are asked for, of an image as `logits` takes it."""
        return self._segmented(self._pixels(image), objects)

    def of_split(self, pixels: np.ndarray) -> Segmentation:
        """Returns mask and, from a model that knows rims, objects, in one pass, of an image as the model takes it.

        Args:
            pixels: float32 [H, W, C], 0-255, as `kerasseg.pipeline.eval_images` gives it; not scaled again.
        """
        if self._rims is None:
            return self._segmented(pixels)
        if not self._plain:
            return self._segmented(pixels, with_objects=True)
        logits = self._logits(self._rims, pixels)
        return Segmentation(merged(logits).argmax(-1).astype(np.uint8), split_by_rims(softmax(logits)))

    def _segmented(self, pixels, with_objects=False):
        fine = None
        if self._plain:
            scores = self._logits(self.model, pixels)
        else:
            fine = self._mean(pixels)
            scores = self._merged(fine)
        mask = scores.argmax(-1).astype(np.uint8)
        if not with_objects:
            return Segmentation(mask)
        if self._rims is None:
            return Segmentation(mask, objects(mask))
        fine = softmax(self._logits(self._rims, pixels)) if fine is None else fine
        return Segmentation(mask, split_by_rims(fine))

    @property
    def _plain(self):
        return self._views == [View()]

    def _pixels(self, image):
        if not isinstance(image, (str, Path)):
            return self.prepared(image)
        pixels = read_image(image)
        try:
            return self.prepared(pixels)
        except ValueError as error:
            raise DataError(f"{image}: {error}") from error

    def _logits(self, model, pixels):
        return predict_tiled(model, pixels, **self._tiling)

    def _mean(self, pixels):
        """Returns the mean probabilities over all views; of a model that knows rims, with the rims by themselves."""
        model = self._rims or self.model
        return mean_probabilities(lambda seen: self._logits(model, seen), pixels, self._views)

    def _merged(self, probabilities):
        if self._rims is None:
            return probabilities
        return np.stack([probabilities[..., 0], probabilities[..., 1] + probabilities[..., 2]], -1)
