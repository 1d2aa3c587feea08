"""Masks drawn to the edges of the image: mean field in a fully connected conditional random field."""

from typing import NamedTuple

import numpy as np

from kerasseg.postprocess._gaussian_sums import FeatureSums, PlaceSums

_NORMALIZATIONS = ("none", "before", "after", "symmetric")
_CLIP = 1e-5


class CRFPreset(NamedTuple):
    """Parameters of `dense_crf`, see there."""

    gaussian_sigma: float
    gaussian_weight: float
    bilateral_sigma: float
    colour_sigma: float
    bilateral_weight: float
    iterations: int
    normalization: str


CRF_PRESETS = {
    "usual": CRFPreset(3, 3, 80, 13, 10, 5, "symmetric"),
    "deconvnet": CRFPreset(3, 3, 20, 3, 5, 10, "none"),
}
"""`usual`: the example in pydensecrf's README. `deconvnet`: DeconvNet's `generate_EDeconvNet_CRF_results.m`, whose
library (meanfield-matlab) does not normalise by default: the weights of one do not suit the other."""


def dense_crf(
    image: np.ndarray,
    probabilities: np.ndarray,
    preset: str = "usual",
    *,
    gaussian_sigma: float | None = None,
    gaussian_weight: float | None = None,
    bilateral_sigma: float | None = None,
    colour_sigma: float | None = None,
    bilateral_weight: float | None = None,
    iterations: int | None = None,
    normalization: str | None = None,
    detail: int = 1000,
) -> np.ndarray:
    """Sharpens class probabilities along the image's edges, so that near and like pixels agree on their class.

    The model: energy -log p (p clipped at 1e-5) of each pixel, and for each pair of pixels of different classes the
    weighted sum of two kernels, one Gaussian in place, one in place and colour (bilateral). Each of `iterations` sets
    Q_i(l) proportional to p_i(l) exp(sum over kernels m and pixels j of w_m k_m(i, j) Q_j(l)).

    Args:
        image: [H, W, C] or [H, W], C from 1 up, 0-255 as the presets' colour distances expect (scale 16-bit images).
        probabilities: float [H, W, K], 0-1, of a softmax.
        preset: Name in `CRF_PRESETS`: "usual" or "deconvnet"; what follows replaces single values of it.
        gaussian_sigma: Standard deviation of the kernel in place, pixels.
        gaussian_weight: Its weight; 0 leaves it out.
        bilateral_sigma: Standard deviation in place of the bilateral kernel, pixels.
        colour_sigma: Its standard deviation in colour, grey levels, the same for each channel.
        bilateral_weight: Its weight; 0 leaves it out.
        iterations: Rounds of mean field.
        normalization: What a kernel's sums are divided by, n_i being the sum of pixel i's kernels: "none"; "before",
            Q_j by n_j; "after", the sum by n_i; "symmetric", each by its square root.
        detail: About how many groups of like pixels each pixel hears in the bilateral kernel. More is more exact
            and takes longer; where an image has fewer pixels than that within reach, the sums are exact.

    Returns:
        float32 [H, W, K], 0-1, sums over K 1.
    Raises:
        ValueError: A wrong shape, value (NaN, logits instead of probabilities), preset or parameter.
    Source: Krähenbühl & Koltun 2011, arXiv:1210.5644, and 2013 for the normalisations, as in their released code and
        in pydensecrf, which wraps it.
    Note: Without normalisation, messages come to thousands and a pixel between two classes may be decided by rounding:
        ten rounds then turn 1e-6 into 1e-3 here and there. Normalised kernels have no such pixels.
    Differs: Their permutohedral lattice approximates the bilateral kernel to some percent; here sums run over pixels
        as they are, and over grouped senders where these are too many (`FeatureSums`). As in their code, and unlike
        the paper's sum over j other than i, a pixel's message includes itself.
    """
    settings = _settings(preset, locals())
    if detail < 1:
        raise ValueError(f"expected a detail of at least 1, received {detail}")
    image, probabilities = _checked(image, probabilities)
    H, W, K = probabilities.shape
    # Without a divisor, messages come to thousands: then float32 would round what decides in the exponent.
    dtype = np.float64 if settings.normalization == "none" else np.float32
    unary = np.log(np.maximum(probabilities.reshape(H * W, K), dtype(_CLIP)), dtype=dtype)
    kernels = []
    if settings.iterations and settings.gaussian_weight:
        sums = PlaceSums((H, W), settings.gaussian_sigma)
        kernels.append(_Kernel(sums, H * W, settings.gaussian_weight, settings.normalization))
    if settings.iterations and settings.bilateral_weight:
        features = _features(image, settings.bilateral_sigma, settings.colour_sigma)
        sums = FeatureSums(features, detail)
        kernels.append(_Kernel(sums, H * W, settings.bilateral_weight, settings.normalization))
    beliefs = _softmax(unary)
    for _ in range(settings.iterations):
        scores = unary.copy()
        for kernel in kernels:
            kernel.add_messages(scores, beliefs)
        beliefs = _softmax(scores)
    return beliefs.reshape(H, W, K)


class _Kernel:
    """One weighted, normalised kernel."""

    def __init__(self, sums, num_pixels, weight, normalization):
        self._sums, self._weight = sums, np.float32(weight)
        self._before = self._after = None
        self._most = weight * num_pixels  # No less than what beliefs of 1 everywhere come to.
        if normalization != "none":
            total = np.maximum(sums(np.ones((num_pixels, 1), np.float32)), 1e-3)  # Of 1, but for very coarse groups.
            root = np.sqrt(total) if normalization == "symmetric" else total
            self._before = None if normalization == "after" else 1 / root
            self._after = None if normalization == "before" else 1 / root
            self._most = weight * (1 if normalization == "after" else float(root.max() / root.min()))

    def add_messages(self, scores, beliefs):
        """Adds w k * beliefs to the scores, but for classes that nobody believes in: it would not show.

        Where beliefs of 1 would make messages up to `_most`, a class believed in up to q everywhere is sent messages
        up to q times that, which raise q by less than the factor e to their power: here, by less than 1e-6.
        """
        highest = beliefs.max(axis=0)
        classes = np.flatnonzero(highest * np.expm1(np.minimum(highest * self._most, 50)) >= 1e-6)
        if not classes.size:
            return
        values = beliefs if len(classes) == beliefs.shape[1] else np.ascontiguousarray(beliefs[:, classes])
        if self._before is not None:
            values = values * self._before
        messages = self._sums(values, scores.dtype)
        messages *= self._weight if self._after is None else self._weight * self._after
        if len(classes) == beliefs.shape[1]:
            scores += messages
        else:
            scores[:, classes] += messages


def _settings(preset, given):
    if preset not in CRF_PRESETS:
        raise ValueError(f"expected a preset of {', '.join(CRF_PRESETS)}; received {preset!r}")
    settings = CRF_PRESETS[preset]._replace(
        **{name: given[name] for name in CRFPreset._fields if given[name] is not None}
    )
    for name in ("gaussian_sigma", "bilateral_sigma", "colour_sigma"):
        value = getattr(settings, name)
        if not 0 < value < np.inf:
            raise ValueError(f"expected {name} above 0, received {value}")
    for name in ("gaussian_weight", "bilateral_weight", "iterations"):
        value = getattr(settings, name)
        if not 0 <= value < np.inf:
            raise ValueError(f"expected {name} of 0 or more, received {value}")
    if settings.normalization not in _NORMALIZATIONS:
        raise ValueError(
            f"expected a normalization of {', '.join(_NORMALIZATIONS)}; received {settings.normalization!r}"
        )
    return settings


def _checked(image, probabilities):
    image, probabilities = np.asarray(image), np.asarray(probabilities)
    if image.ndim == 2:
        image = image[..., None]
    if probabilities.ndim != 3 or image.ndim != 3 or image.shape[:2] != probabilities.shape[:2]:
        raise ValueError(
            "expected an image [H, W, C] and probabilities [H, W, K] of one height and width, received "
            f"{image.shape} and {probabilities.shape}"
        )
    if not probabilities.size or not image.size:
        raise ValueError(f"expected pixels, channels and classes, received {image.shape}, {probabilities.shape}")
    image, probabilities = image.astype(np.float32), probabilities.astype(np.float32)
    if not np.isfinite(image).all():
        raise ValueError("expected an image of finite values, received NaN or infinity")
    low, high = probabilities.min(), probabilities.max()  # NaN where one is NaN
    if not (low >= -1e-6 and high <= 1.001):
        raise ValueError(f"expected probabilities from 0 to 1, received {low} to {high}; take the softmax of logits")
    return image, probabilities


def _features(image, place_sigma, colour_sigma):
    H, W, C = image.shape
    rows, columns = np.mgrid[:H, :W] / place_sigma
    colours = image.astype(np.float64) / colour_sigma
    return np.concatenate([rows[..., None], columns[..., None], colours], axis=-1).reshape(H * W, 2 + C)


def _softmax(scores):
    scores = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float32, copy=False))
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
