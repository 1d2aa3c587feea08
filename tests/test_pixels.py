"""Blur, noise, cutout and windowing: equal to scipy's and NumPy's, untouched pixels where nothing is asked for."""

import threading

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from kerasseg import augment
from kerasseg.spec import CT_WINDOWS

CHANNELS = (1, 3, 4, 7)


def picture(size=(33, 47), channels=3, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(dtype)


# --- blur -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("sigma", [0.3, 0.8, 2.5])
def test_blur_is_scipys(sigma, channels):
    image = picture(channels=channels)
    expected = ndimage.gaussian_filter(image.astype(float), sigma, mode="mirror", axes=(0, 1))
    assert np.abs(expected - image).max() > 1
    graph = augment.gaussian_blur(image, sigma)
    assert graph.dtype == tf.float32
    np.testing.assert_allclose(graph, expected, atol=1e-3)
    floats = augment.gaussian_blur_cv(image.astype(np.float32), sigma)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, expected, atol=1e-3)
    levels = augment.gaussian_blur_cv(image, sigma)
    assert levels.dtype == np.uint8
    np.testing.assert_allclose(levels, expected, atol=0.51)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (3, 3)])
def test_blur_reaches_any_distance_beyond_a_small_image(size):
    image = picture(size)
    expected = ndimage.gaussian_filter(image.astype(float), 4.0, mode="mirror", axes=(0, 1))
    np.testing.assert_allclose(augment.gaussian_blur(image, 4.0), expected, atol=1e-3)
    np.testing.assert_allclose(augment.gaussian_blur_cv(image, 4.0), expected, atol=0.51)


# --- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_noise_is_normal_and_of_the_given_size_in_every_channel(dtype):
    image = np.full((300, 200, 3), 128, dtype)
    for result in (augment.gaussian_noise(image, 9.0, [1, 2]).numpy(), augment.gaussian_noise_cv(image, 9.0, 5)):
        noise = result.astype(float) - 128
        np.testing.assert_allclose(noise.std((0, 1)), 9, rtol=0.02)
        np.testing.assert_allclose(noise.mean((0, 1)), 0, atol=0.15)
        assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
        # A rounded value stands for what lies half a level to either side of it.
        spread = np.random.default_rng(0).uniform(-0.5, 0.5, noise.shape) if result.dtype == np.uint8 else 0
        assert stats.kstest((noise + spread).ravel(), "norm", (0, 9)).statistic < 0.005
    assert augment.gaussian_noise_cv(image, 9.0, 5).dtype == dtype


def test_noise_depends_on_the_seed_alone():
    image = picture(channels=4)
    expected = [augment.gaussian_noise_cv(image, 20.0, seed) for seed in range(8)]
    found = {}

    def draw(worker):
        for i in range(200):
            seed = (i + worker) % 8
            found[worker, i] = seed, augment.gaussian_noise_cv(image, 20.0, seed)

    threads = [threading.Thread(target=draw, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 800
    assert all(np.array_equal(result, expected[seed]) for seed, result in found.values())
    np.testing.assert_array_equal(
        augment.gaussian_noise(image, 5.0, [3, 4]), augment.gaussian_noise(image, 5.0, [3, 4])
    )


def test_neighbouring_seeds_give_unrelated_noise():
    image = np.full((4, 4, 1), 128, np.float32)
    drawn = np.stack([augment.gaussian_noise_cv(image, 10.0, seed).ravel() for seed in range(600)]) - 128
    assert all(stats.kstest(drawn[:, i], "norm", (0, 10)).pvalue > 1e-4 for i in range(16))
    assert np.abs(np.corrcoef(drawn.T) - np.eye(16)).max() < 0.2
    assert np.abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.15


def test_noise_stays_within_the_range():
    for dtype in (np.uint8, np.float32):
        image = picture(dtype=dtype)
        for result in (
            augment.gaussian_noise(image, 300.0, [0, 1]).numpy(),
            augment.gaussian_noise_cv(image, 300.0, 1),
        ):
            assert (result.min(), result.max()) == (0, 255)


# --- cutout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", CHANNELS)
def test_cutout_covers_the_boxes_and_nothing_else(channels):
    image = picture((20, 30), channels)
    boxes = np.array([[2, 3, 5, 6], [-4, -3, 6, 5], [18, 25, 50, 50], [5, 5, 0, 9], [5, 5, -3, 9], [40, 40, 3, 3]])
    fill = np.arange(channels) * 20 + 0.75
    expected = image.copy()
    for y in range(20):
        for x in range(30):
            if any(t <= y < t + h and left <= x < left + w for t, left, h, w in boxes):
                expected[y, x] = np.rint(fill)
    assert (expected != image).any(-1).sum() > 40
    before = image.copy()
    for result in (augment.cutout(image, boxes, fill).numpy(), augment.cutout_cv(image, boxes, fill)):
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(image, before)


def test_cutout_of_a_mask_hides_it_from_the_loss():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for result in (augment.cutout(mask, [[1, 1, 2, 2]], 255).numpy(), augment.cutout_cv(mask, [[1, 1, 2, 2]], 255)):
        np.testing.assert_array_equal(result, [[0, 1, 2, 3], [4, 255, 255, 7], [8, 255, 255, 11]])


# --- windowing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_window_values_spreads_the_window_over_the_range(dtype):
    low, high = (1000, 3000) if dtype == np.uint16 else (-1350, 150)
    values = np.array([low - 700, low, low + (high - low) / 4, (low + high) / 2, high, high + 700]).astype(dtype)
    image = np.broadcast_to(values[:, None], (2, 6, 5))
    for result in (augment.window_values(image, low, high).numpy(), augment.window_values_cv(image, low, high)):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result[1, :, 3], [0, 0, 63.75, 127.5, 255, 255], atol=1e-4)


def test_ct_windows_are_centred_where_radiologists_have_them():
    assert CT_WINDOWS["lung"] == (-1350, 150)
    assert CT_WINDOWS["brain"] == (0, 80)
    assert CT_WINDOWS["bone"] == (-500, 1300)
    air_water_bone = np.array([[[-1000], [0], [1000]]], np.int16)
    lung = augment.window_values_cv(air_water_bone, *CT_WINDOWS["lung"]).ravel()
    assert 0 < lung[0] < lung[1] < lung[2] == 255


# --- nothing asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_where_nothing_is_asked_for_every_pixel_is_untouched(dtype, channels):
    image = (
        picture(channels=channels, dtype=dtype) if dtype == np.uint8 else np.float32(picture(channels=channels) / 1.7)
    )
    none = np.zeros((0, 4), np.int32)
    results = [
        augment.gaussian_blur(image, 0.0).numpy(),
        augment.gaussian_noise(image, 0.0, [1, 2]).numpy(),
        augment.cutout(image, none, 9).numpy(),
        augment.window_values(image, 0, 255).numpy(),
        augment.window_values_cv(image, 0, 255),
    ]
    same = [
        augment.gaussian_blur_cv(image, 0.0),
        augment.gaussian_noise_cv(image, 0.0, 1),
        augment.cutout_cv(image, none, 9),
    ]
    for result in results + same:
        np.testing.assert_array_equal(result, image)
    assert {result.dtype for result in same} == {image.dtype}


def test_sizes_channels_and_strengths_may_be_unknown_in_the_graph():
    strengths = [tf.TensorSpec([], tf.float32)] * 2
    boxes = tf.TensorSpec([None, 4], tf.int32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.uint8), *strengths, boxes])
    def changed(image, sigma, std, boxes):
        return augment.cutout(augment.gaussian_noise(augment.gaussian_blur(image, sigma), std, [1, 2]), boxes, 3)

    image = picture(channels=2)
    np.testing.assert_array_equal(changed(image, 0.0, 0.0, np.zeros((0, 4), np.int32)), image)
    expected = augment.cutout(augment.gaussian_noise(augment.gaussian_blur(image, 1.0), 4.0, [1, 2]), [[0, 1, 2, 3]], 3)
    np.testing.assert_allclose(changed(image, 1.0, 4.0, [[0, 1, 2, 3]]), expected, atol=1e-3)
