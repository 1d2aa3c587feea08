"""Several networks' answers put together."""

from collections.abc import Mapping, Sequence

import numpy as np

from kerasseg.inference._arguments import crf_options
from kerasseg.inference._reading import prepared
from kerasseg.inference._rims import softmax
from kerasseg.inference._segmenter import Segmentation, Segmenter

COMBINATIONS = ("mean", "product")


class Ensemble(Segmenter):
    """Several segmenters as one, such as EDeconvNet: DeconvNet on proposals and FCN-8s on the whole image.

        boxes = Proposals(EdgeBoxes())
        both = Ensemble([Segmenter("deconvnet.keras", proposals=boxes), Segmenter("fcn_8s.keras")])

    All that a `Segmenter` answers, it answers; each member looks at an image in its own way.

    Args:
        segmenters: Two or more, which tell the same classes apart.
        combine: "mean": the mean of the probabilities, as the paper says. "product": as released, the scores below 0
            are raised to 0 and multiplied, and softmax is taken of the product. Members with several views or samples
            have no scores for that.
        crf: As for `Segmenter`, after the members are put together; the colours are those that the first one sees.

    Raises:
        ValueError: An argument is none of the above, or the numbers of classes differ.
    Reference: Noh et al. 2015, arXiv:1505.04366, section 4.4; HyeonwooNoh/DeconvNet
        `inference/generate_EDeconvNet_CRF_results.m` at 21139cb.
    Differs: The release runs FCN-8s on a canvas of 500 x 500 pixels with the image in its corner; here a member sees
        the image as it is.
    """

    def __init__(self, segmenters: Sequence[Segmenter], combine: str = "mean", crf: str | Mapping | None = None):
        segmenters = list(segmenters)
        if len(segmenters) < 2 or not all(isinstance(one, Segmenter) for one in segmenters):
            raise ValueError(f"expected two Segmenters or more, got {segmenters!r}")
        if combine not in COMBINATIONS:
            raise ValueError(f"combine must be one of {', '.join(COMBINATIONS)}, got {combine!r}")
        counts = [one.num_classes for one in segmenters]
        if len(set(counts)) > 1:
            raise ValueError(f"expected models of the same classes, got {', '.join(map(str, counts))} classes")
        if combine == "product" and not all(one._scores for one in segmenters):
            raise ValueError('combine="product" multiplies scores, and several views or samples have none; take "mean"')
        self.segmenters, self.combine = segmenters, combine
        self.model, self.value_range = segmenters[0].model, segmenters[0].value_range
        self._rims, self._samples, self._crf = None, 0, crf_options(crf)
        self._tiling = segmenters[0]._tiling

    def of_split(self, pixels: np.ndarray, key: str | None = None) -> Segmentation:
        """As `Segmenter.of_split`; objects are not parted by rims."""
        return self._found([prepared(pixels, one.model.input_shape[-1]) for one in self.segmenters], key)

    _plain = _scores = False

    def _given(self, image):
        given = [one._given(image) for one in self.segmenters]
        return [pixels for pixels, _ in given], given[0][1]

    def _sharpened(self, pixels, probabilities):
        return super()._sharpened(pixels[0], probabilities)

    def _moments(self, pixels, key):
        members = list(zip(self.segmenters, pixels, strict=True))
        if self.combine == "product":
            product = np.float32(1)
            for one, seen in members:
                product = product * np.maximum(one._logits(one.model, seen, key), 0)
            return softmax(product), None
        return sum(one._probabilities(seen, key) for one, seen in members) / np.float32(len(members)), None
