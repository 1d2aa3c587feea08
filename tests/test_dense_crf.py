"""The fully connected CRF: against mean field over all pairs of pixels, against pydensecrf, and on real images."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from kerasseg.metrics import confusion_matrix, scores
from kerasseg.postprocess import CRF_PRESETS, dense_crf
from kerasseg.postprocess._gaussian_sums import FeatureSums, PlaceSums


def brute_force(image, probabilities, preset, normalization):
    """Mean field with every kernel of every pair, float64."""
    settings = CRF_PRESETS[preset]
    H, W, K = probabilities.shape
    place = np.argwhere(np.ones((H, W)))
    colour = np.asarray(image, np.float64).reshape(H * W, -1)

    def apart(points):
        return ((points[:, None] - points) ** 2).sum(-1)

    near = np.exp(-apart(place) / (2 * settings.gaussian_sigma**2))
    alike = np.exp(-apart(place) / (2 * settings.bilateral_sigma**2) - apart(colour) / (2 * settings.colour_sigma**2))
    kernels = []
    for weight, kernel in ((settings.gaussian_weight, near), (settings.bilateral_weight, alike)):
        total = kernel.sum(1)
        divisor = {
            "none": 1,
            "before": total[None],
            "after": total[:, None],
            "symmetric": np.sqrt(total[None] * total[:, None]),
        }[normalization]
        kernels.append(weight * kernel / divisor)
    unary = np.log(np.maximum(probabilities.reshape(H * W, K).astype(np.float64), 1e-5))

    def softmax(values):
        values = np.exp(values - values.max(1, keepdims=True))
        return values / values.sum(1, keepdims=True)

    beliefs = softmax(unary)
    for _ in range(settings.iterations):
        beliefs = softmax(unary + sum(kernel @ beliefs for kernel in kernels))
    return beliefs.reshape(H, W, K)


def smooth_case(shape, channels, num_classes, seed=0):
    """A random image of soft regions with noise, and random probabilities that follow it a little."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=(*shape, channels)), (4, 4, 0))
    image = 127 + 50 * image / image.std() + rng.normal(scale=4, size=image.shape)
    probabilities = rng.dirichlet(np.ones(num_classes) / 2, shape) + 0.3 * (np.arange(num_classes) == 0)
    return np.clip(image, 0, 255).astype(np.uint8), probabilities / probabilities.sum(-1, keepdims=True)


@pytest.mark.parametrize("preset", ["usual", "deconvnet"])
def test_equals_brute_force_over_all_pairs(preset):
    for seed, (channels, num_classes) in enumerate([(3, 21), (1, 4), (5, 2)]):
        image, probabilities = smooth_case((16, 21), channels, num_classes, seed)
        for normalization in ("none", "before", "after", "symmetric")[seed % 2 :: 2]:
            expected = brute_force(image, probabilities, preset, normalization)
            found = dense_crf(image, probabilities, preset, normalization=normalization)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, atol=1e-3, err_msg=f"{channels} {normalization}")
            assert np.abs(expected - probabilities).max() > 0.1
    grey, probabilities = smooth_case((9, 11), 1, 3)
    np.testing.assert_array_equal(dense_crf(grey[..., 0], probabilities), dense_crf(grey, probabilities))


def test_equals_brute_force_on_real_images(real_data):
    rng = np.random.default_rng(0)
    folder = real_data / "voc" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    for name, place in (("2007_000033", (100, 150)), ("2011_000003", (200, 200))):
        image = np.asarray(Image.open(folder / f"{name}.jpg"))[place[0] :, place[1] :][:28, :30]
        probabilities = ndimage.gaussian_filter(rng.dirichlet(np.ones(21) / 9, image.shape[:2]), (2, 2, 0))
        for preset in CRF_PRESETS:
            expected = brute_force(image, probabilities, preset, CRF_PRESETS[preset].normalization)
            np.testing.assert_allclose(dense_crf(image, probabilities, preset), expected, atol=1e-3)
            few = dense_crf(image, probabilities, preset, detail=100)  # Grouped: near, not equal.
            assert np.abs(few - expected).mean() < 1e-3


def test_sums_over_place_equal_a_convolution():
    values = np.random.default_rng(0).random((70 * 83, 3)).astype(np.float32)
    taps = np.exp(-0.5 * (np.arange(-40, 41) / 3) ** 2)
    expected = values.reshape(70, 83, 3).astype(np.float64)
    for axis in (0, 1):
        expected = ndimage.correlate1d(expected, taps, axis, mode="constant")
    np.testing.assert_allclose(PlaceSums((70, 83), 3.0)(values), expected.reshape(-1, 3), rtol=1e-5)


def test_sums_over_features_equal_all_pairs_and_groups_come_close():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(2000, 5)) * [2, 2, 3, 1, 1] + 80).astype(np.float32)  # Far from 0, for float32.
    values = rng.random((2000, 90)).astype(np.float32)
    apart = ((features[:, None].astype(np.float64) - features) ** 2).sum(-1)
    expected = np.exp(-apart / 2) @ values
    exact = FeatureSums(features, 10**6)
    assert exact.num_groups == 2000
    np.testing.assert_allclose(exact(values), expected, rtol=2e-3)  # Kernels below 1e-5 are left out.
    np.testing.assert_allclose(exact(values[:, :1]), exact(values)[:, :1], rtol=1e-5)
    grouped = FeatureSums(features, 150)
    assert 300 < grouped.num_groups < 1900
    error = np.abs(
        grouped(values) / grouped(np.ones((2000, 1), np.float32)) - expected / np.exp(-apart / 2).sum(1)[:, None]
    )
    assert error.mean() < 0.04
    few = FeatureSums(features, 20)
    assert few.num_groups < grouped.num_groups


def test_draws_coarse_masks_to_the_edges_of_real_images(real_data):
    """Ground truth at every sixteenth pixel, enlarged again, as from a network of stride 16; images at half size."""
    folder = real_data / "voc" / "VOCdevkit" / "VOC2012"
    before, after = np.zeros((21, 21), np.int64), np.zeros((21, 21), np.int64)
    for name in ("2007_000129", "2007_000323"):
        image = np.asarray(Image.open(folder / "JPEGImages" / f"{name}.jpg"))[::2, ::2]
        mask = np.asarray(Image.open(folder / "SegmentationClass" / f"{name}.png"))[::2, ::2]
        coarse = coarse_probabilities(mask, 16)
        fine = dense_crf(image, coarse, "deconvnet", normalization="symmetric", iterations=5, detail=300)
        np.testing.assert_allclose(fine.sum(-1), 1, atol=1e-5)
        ours, theirs = (confusion_matrix(mask, x.argmax(-1), 21) for x in (fine, coarse))
        assert np.trace(ours) > np.trace(theirs), name
        after, before = after + ours, before + theirs
    assert scores(after)["mean_iou"] > scores(before)["mean_iou"] + 0.02


def coarse_probabilities(mask, stride):
    nearest = ndimage.distance_transform_edt(mask == 255, return_distances=False, return_indices=True)
    small = np.eye(21, dtype=np.float32)[mask[tuple(nearest)][stride // 2 :: stride, stride // 2 :: stride]]
    large = [np.asarray(Image.fromarray(small[..., k]).resize(mask.shape[::-1], Image.BILINEAR)) for k in range(21)]
    return 0.9 * np.stack(large, -1) + 0.1 / 21


def test_agrees_with_pydensecrf():
    """Its lattice approximates the bilateral kernel: the masks are the same but for few pixels."""
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf is not installed (it needs a compiler)")
    image, probabilities = smooth_case((60, 80), 3, 4)
    crf = densecrf.DenseCRF2D(80, 60, 4)
    unary = -np.log(np.maximum(probabilities, 1e-5)).reshape(-1, 4).T
    crf.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    theirs = np.array(crf.inference(5)).T.reshape(60, 80, 4)
    ours = dense_crf(image, probabilities)
    assert (theirs.argmax(-1) == ours.argmax(-1)).mean() > 0.97
    assert np.abs(theirs - ours).mean() < 0.02


def test_small_and_plain_cases():
    image, probabilities = np.zeros((1, 1, 3)), np.array([[[0.2, 0.8]]])
    expected = brute_force(image, probabilities, "usual", "symmetric")
    np.testing.assert_allclose(dense_crf(image, probabilities), expected, atol=1e-6)
    image, probabilities = smooth_case((7, 5), 3, 3)
    np.testing.assert_array_equal(dense_crf(image, np.ones((7, 5, 1))), 1)
    np.testing.assert_allclose(dense_crf(image, probabilities, iterations=0), probabilities, atol=2e-5)
    alone = dense_crf(image, probabilities, gaussian_weight=0, bilateral_weight=0)
    np.testing.assert_allclose(alone, probabilities, atol=2e-5)
    sure = np.zeros((7, 5, 3))
    sure[..., 2] = 1  # Zeros are clipped, not infinite.
    np.testing.assert_array_equal(dense_crf(image, sure).argmax(-1), 2)
    weak = dense_crf(image, probabilities, gaussian_weight=1e-9, bilateral_weight=1e-9)
    np.testing.assert_allclose(weak, probabilities, atol=2e-5)
    image, probabilities = smooth_case((40, 50), 3, 3)
    for normalization in ("none", "before", "after", "symmetric"):  # However coarse, it stays finite.
        coarse = dense_crf(image, probabilities, "deconvnet", normalization=normalization, detail=1)
        np.testing.assert_allclose(coarse.sum(-1), 1, atol=1e-5)
    flat = dense_crf(np.full((40, 50), 9, np.uint8), smooth_case((40, 50), 1, 2)[1])
    assert (flat.argmax(-1) == flat.argmax(-1)[0, 0]).all()  # Without edges all agree in the end.


def test_bad_input_is_refused():
    image, probabilities = smooth_case((4, 5), 3, 2)
    nan = probabilities.copy()
    nan[0, 0, 0] = np.nan
    for call, message in [
        (lambda: dense_crf(image, nan), "probabilities from 0 to 1, received nan"),
        (lambda: dense_crf(image, probabilities * 9), "take the softmax of logits"),
        (lambda: dense_crf(image * np.nan, probabilities), "finite values"),
        (lambda: dense_crf(image[:3], probabilities), "of one height and width"),
        (lambda: dense_crf(image, probabilities[..., 0]), "of one height and width"),
        (lambda: dense_crf(image[..., :0], probabilities), "expected pixels, channels and classes"),
        (lambda: dense_crf(image, probabilities, "best"), "a preset of usual, deconvnet; received 'best'"),
        (lambda: dense_crf(image, probabilities, colour_sigma=0), "colour_sigma above 0"),
        (lambda: dense_crf(image, probabilities, iterations=-1), "iterations of 0 or more"),
        (lambda: dense_crf(image, probabilities, normalization="mean"), "normalization of none, before"),
        (lambda: dense_crf(image, probabilities, detail=0), "a detail of at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
