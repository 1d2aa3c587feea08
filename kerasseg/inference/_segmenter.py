"""One object that makes masks of whatever image it is given."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorflow import keras

from kerasseg.inference._arguments import crf_options
from kerasseg.inference._classes import class_ids, class_logits
from kerasseg.inference._heads import one_output
from kerasseg.inference._load import load_model
from kerasseg.inference._monte_carlo import drops, moments, sampler_of
from kerasseg.inference._proposals import Proposals
from kerasseg.inference._reading import prepared, read_image
from kerasseg.inference._rims import merged, rim_model, softmax
from kerasseg.inference._segment_file import segment_file
from kerasseg.inference._tiled import predict_tiled, segment_tiled
from kerasseg.inference._tiling import Tiling, memory_needed
from kerasseg.inference._views import View, mean_probabilities, views
from kerasseg.layers import num_classes_of
from kerasseg.postprocess import dense_crf, objects, split_by_rims
from kerasseg.spec import DataError

_SMALLEST = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """What a `Segmenter` finds in an image.

    Attributes:
        mask: uint8 [H, W], the most probable class of each pixel.
        objects: int32 [H, W], 1, 2, ... the single objects and 0 none; None where they were not asked for.
        uncertainty: float32 [H, W]; None where no samples are taken. See `Segmenter.uncertainty`.
    """

    mask: np.ndarray
    objects: np.ndarray | None = None
    uncertainty: np.ndarray | None = None


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
        head: Of models with several heads, or their mean, as UNet++ trained with deep supervision has: "mean" (its
            accurate mode) or the number of one of them, 1 the shallowest (its fast mode). None: the model as it is.
        samples: How many predictions with dropout left on are averaged, as Bayesian SegNet's authors do; 0: dropout is
            off. With several views, each sample is a mean over all of them.
        seed: Of the samples. The same one gives the same samples for the same sequence of images. None: drawn from
            NumPy's global generator.
        proposals: Boxes that are segmented one by one instead of the whole image, as DeconvNet's authors do: a
            `Proposals`. Scores are then put together, softmax comes after. Tiles are not used.
        crf: Whether a dense CRF draws the probabilities to the image's edges, after all else: the name of a preset of
            `kerasseg.postprocess.dense_crf`, or its arguments, such as {"preset": "usual", "iterations": 3}. Objects
            that a model knows by their rims are parted without it.
    Raises:
        DataError: The model's file cannot be loaded, or the model has several outputs.
        ValueError: An argument is none of the above, or they do not go together.
    Reference: Chen et al. 2017, arXiv:1706.05587, section 4.1, and tensorflow/models `research/deeplab/model.py`
        (`predict_labels_multi_scale`): images and logits are resized with aligned corners and not smoothed before,
        softmax comes after resizing, the mean is not weighted. Ronneberger et al. 2015, arXiv:1505.04597, table 1:
        the mean over "7 rotated versions"; which ones is not said. The square has eight symmetries, the image itself
        and seven more: `rotate` with `flip`. Kendall et al. 2015, arXiv:1511.02680, section 4.
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
        head: str | int | None = None,
        samples: int = 0,
        seed: int | None = None,
        proposals: Proposals | None = None,
        crf: str | Mapping | None = None,
    ):
        self._views = views(scales, flip, rotate)
        if isinstance(samples, bool) or samples not in range(1_000_000):
            raise ValueError(f"samples must be a whole number, 0 or more, got {samples!r}")
        if proposals is not None and not isinstance(proposals, Proposals):
            raise ValueError(f"proposals must be a kerasseg.inference.Proposals, got {proposals!r}")
        if proposals is not None and (samples or self._views != [View()]):
            raise ValueError("proposals do not go with scales, flip, rotate or samples; give one or the other")
        self.model = one_output(model if isinstance(model, keras.Model) else load_model(model), head)
        num_classes_of(self.model)
        self._rims = None if proposals else rim_model(self.model)
        self.value_range = value_range
        self._tiling = {"tile_size": tile_size, "overlap": overlap, "memory_budget": memory_budget, "blend": blend}
        self._samples, self._proposals, self._crf = samples, proposals, crf_options(crf)
        if samples and not drops(self.model):
            raise ValueError(f"samples are taken with dropout left on, but {self.model.name!r} has no layer of dropout")
        self._sampler = sampler_of(self._rims or self.model, seed) if samples else None

    def logits(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns float32 [H, W, K] of an image; of views, samples or a CRF, the log of probabilities.

        A model of one logit z, whose sigmoid is the probability of class 1, has two: 0 and z.

        Args:
            image: [H, W] or [H, W, C], uint8 (0-255), uint16 (scaled to 0-255) or float (0-255), or a file's path.
                Grey images are repeated for a model of colour ones, and the like: see `prepared`.
        Raises:
            DataError: The file cannot be read, or its channels do not fit the model.
            ValueError: The array is no image, or its channels do not fit the model.
        """
        given = self._given(image)
        if self._scores:
            return self._logits(self.model, *given)
        return np.log(np.maximum(self._probabilities(*given), _SMALLEST))

    @property
    def num_classes(self) -> int:
        """K; 2 of a model of one logit."""
        return max(num_classes_of(self.model), 2)

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """Returns what the model is given for an image [H, W] or [H, W, C]: float32 [H, W, C], see `prepared`."""
        return prepared(image, self.model.input_shape[-1], self.value_range)

    def segment(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the most probable class of each pixel, uint8 [H, W], of an image as `logits` takes it."""
        return self._found(*self._given(image)).mask

    def probabilities(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns float32 [H, W, K] of an image as `logits` takes it: softmax of the logits, or its mean."""
        return self._probabilities(*self._given(image))

    def uncertainty(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns how little the samples agree on an image: float32 [H, W], 0 where all of them say the same.

        It is the variance of the probabilities over the samples, averaged over the classes (of a model that knows rims,
        over outside, inside and rim). At most 0.25.

        Raises:
            ValueError: No samples are taken.
            DataError: As for `logits`.
        """
        if not self._samples:
            raise ValueError("uncertainty takes samples: Segmenter(..., samples=40)")
        return self._moments(*self._given(image))[1].mean(-1)

    def segment_file(
        self,
        source: np.ndarray | str | Path,
        target: str | Path,
        *,
        palette: np.ndarray | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Tiling:
        """Writes the mask of an image that may be larger than memory: `kerasseg.inference.segment_file`.

        Raises:
            ValueError: There are several views, samples or proposals, which are not put together by windows.
            DataError: As there.
        """
        if not self.takes_windows:
            raise ValueError("segment_file sees an image once, as it is: no other views, samples, proposals or CRF")
        options = {"palette": palette, "value_range": self.value_range, "on_progress": on_progress}
        return segment_file(self.model, source, target, **options, **self._tiling)

    def memory_needed(self, size: tuple[int, int], result: str = "mask") -> Tiling:
        """Tells how an image [H, W] would be cut and what that takes: `kerasseg.inference.memory_needed`."""
        return memory_needed(self.model, size, result=result, **self._tiling)

    def objects(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the single objects, int32 [H, W], 0 = none, of an image as `logits` takes it.

        A model that knows the rims of objects parts touching ones (`postprocess.split_by_rims`); of others, an object
        is a connected component of class 1.
        """
        given = self._given(image)
        if self._rims is None:
            return objects(self._found(*given).mask)
        fine = softmax(self._logits(self._rims, *given)) if self._scores else self._moments(*given)[0]
        return split_by_rims(fine)

    def everything(self, image: np.ndarray | str | Path, *, objects: bool = False) -> Segmentation:
        """Returns the mask, the uncertainty where samples are taken, and the objects if they are asked for, at once."""
        return self._found(*self._given(image), with_objects=objects)

    def of_split(self, pixels: np.ndarray, key: str | None = None) -> Segmentation:
        """Returns what is found in an image as the model takes it; of a model that knows rims, objects as well.

        Args:
            pixels: float32 [H, W, C], 0-255, as `kerasseg.pipeline.eval_images` gives it; not scaled again.
            key: The image's name, for proposals from files.
        """
        if self._rims is None or not self._scores:
            return self._found(pixels, key, with_objects=self._rims is not None)
        logits = self._logits(self._rims, pixels, key)
        return Segmentation(class_ids(merged(logits)), split_by_rims(softmax(logits)))

    def _probabilities(self, pixels, key):
        if self._scores:
            return softmax(self._logits(self.model, pixels, key))
        return self._sharpened(pixels, self._merged(self._moments(pixels, key)[0]))

    def _found(self, pixels, key, with_objects=False):
        fine = variance = None
        if self._plain:
            mask = segment_tiled(self.model, pixels, **self._tiling)
        elif self._scores:
            mask = class_ids(self._logits(self.model, pixels, key))
        else:
            fine, variance = self._moments(pixels, key)
            mask = class_ids(self._sharpened(pixels, self._merged(fine)))
        found = None
        if with_objects and self._rims is None:
            found = objects(mask)
        elif with_objects:
            found = split_by_rims(softmax(self._logits(self._rims, pixels, key)) if fine is None else fine)
        return Segmentation(mask, found, None if variance is None else variance.mean(-1))

    @property
    def _scores(self):
        """Whether there are logits or scores; a mean of probabilities has none."""
        return self._views == [View()] and not self._samples and self._crf is None

    @property
    def _plain(self):
        """Whether the logits of the image as it is, once, are all there is."""
        return self._scores and self._proposals is None

    @property
    def takes_windows(self) -> bool:
        """Whether an image goes through the network once and as it is, which `segment_file` needs."""
        return self._plain

    def _given(self, image):
        """Returns the pixels that the model is given for an image, and the image's name."""
        if not isinstance(image, (str, Path)):
            return self.prepared(image), None
        pixels = read_image(image)
        try:
            return self.prepared(pixels), Path(image).stem
        except ValueError as error:
            raise DataError(f"{image}: {error}") from error

    def _logits(self, model, pixels, key):
        if self._proposals is not None:
            return class_logits(self._proposals.scores(model, pixels, key))
        return class_logits(predict_tiled(model, pixels, **self._tiling))

    def _moments(self, pixels, key):
        """Returns the mean probabilities over views and samples, and their variance over samples or None.

        Of a model that knows rims, those of outside, inside and rim.
        """
        model = self._sampler or self._rims or self.model

        def draw():
            return mean_probabilities(lambda seen: self._logits(model, seen, key), pixels, self._views)

        return moments(draw, self._samples) if self._samples else (draw(), None)

    def _merged(self, probabilities):
        if self._rims is None:
            return probabilities
        return np.stack([probabilities[..., 0], probabilities[..., 1] + probabilities[..., 2]], -1)

    def _sharpened(self, pixels, probabilities):
        return probabilities if self._crf is None else dense_crf(pixels, probabilities, **self._crf)
