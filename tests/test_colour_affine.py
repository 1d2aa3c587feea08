"""The fast colour option: equal to its four steps taken one by one, in any order, in both forms."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from kerasseg import augment

LUMA = np.array([0.299, 0.587, 0.114])
SOME = {"brightness": 0.08, "saturation": 1.4, "hue": -0.13, "contrast": 0.7}


def picture(height=23, width=31, dtype=np.uint8, low=0, high=256):
    return np.random.default_rng(height).integers(low, high, (height, width, 3)).astype(dtype)


def numbers(colour_map):
    return [part.numpy() for part in colour_map]


def step_by_step(image, order, brightness, saturation, hue, contrast):
    """The four steps as they are defined, with I and Q as one complex number; float64, not clipped."""

    def chroma(pixels):
        luma = pixels @ LUMA
        # Luma and chroma back to RGB: NTSC's equations solved, rather than a matrix inverted.
        i, q = pixels @ [0.5959, -0.2746, -0.3213], pixels @ [0.2115, -0.5227, 0.3112]
        return luma, i + 1j * q

    def from_chroma(luma, chroma):
        rows = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
        yiq = np.stack([luma, chroma.real, chroma.imag], -1)
        return np.linalg.solve(rows, yiq.reshape(-1, 3).T).T.reshape(yiq.shape)

    def scaled(pixels, factor):
        luma, colour = chroma(pixels)
        return from_chroma(luma, colour * factor)

    steps = {
        "brightness": lambda x: x + 255 * brightness,
        "saturation": lambda x: scaled(x, saturation),
        "hue": lambda x: scaled(x, np.exp(-2j * np.pi * hue)),
        "contrast": lambda x: (x - x.mean((0, 1))) * contrast + x.mean((0, 1)),
    }
    image = image.astype(float)
    for name in augment.COLOUR_ORDERS[order]:
        image = steps[name](image)
    return image


@pytest.mark.parametrize("order", range(4))
def test_the_map_is_its_four_steps_in_every_order(order):
    image = picture()
    colour_map = augment.colour_map(**SOME)
    expected = np.clip(step_by_step(image, order, **SOME), 0, 255)
    assert np.abs(expected - image).mean() > 10
    np.testing.assert_allclose(augment.apply_colour_map(image, colour_map), expected, atol=2e-3)
    floats = augment.apply_colour_map_cv(image.astype(np.float32), *numbers(colour_map))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, expected, atol=2e-3)


@pytest.mark.parametrize(("brightness", "contrast"), [(0.1, 1.0), (-0.2, 1.0), (0.0, 0.5), (0.0, 1.5), (0.07, 0.8)])
def test_brightness_and_contrast_are_tf_images(brightness, contrast):
    image = picture(low=90, high=160, dtype=np.float32)  # nothing comes near the ends of the range
    ours = augment.apply_colour_map(image, augment.colour_map(brightness, 1.0, 0.0, contrast))
    theirs = tf.image.adjust_contrast(tf.image.adjust_brightness(image, 255 * brightness), contrast)
    assert np.min(theirs) > 0
    assert np.max(theirs) < 255
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_identity_leaves_every_pixel_untouched(dtype):
    image = picture(64, 64, dtype)
    if dtype == np.float32:
        image = np.random.default_rng(0).uniform(0, 255, image.shape).astype(np.float32)
    identity = augment.colour_map(0.0, 1.0, 0.0, 1.0)
    np.testing.assert_array_equal(augment.apply_colour_map(image, identity), image)
    mapped = augment.apply_colour_map_cv(image, *numbers(identity))
    assert mapped.dtype == dtype
    np.testing.assert_array_equal(mapped, image)


def test_hue_and_saturation_keep_luma_and_grey():
    image = picture(low=100, high=150, dtype=np.float32)
    grey = np.broadcast_to(image[..., :1], image.shape)
    for hue, saturation in itertools.product((-0.5, -0.1, 0.3), (0.0, 0.6, 1.5)):
        colour_map = augment.colour_map(0.0, saturation, hue, 1.0)
        turned = augment.apply_colour_map(image, colour_map).numpy()
        np.testing.assert_allclose(turned @ LUMA, image @ LUMA, atol=1e-3)
        np.testing.assert_allclose(augment.apply_colour_map(grey, colour_map), grey, atol=1e-3)


@pytest.mark.parametrize(("hue", "brightest"), [(1 / 3, 1), (-1 / 3, 2), (2 / 3, 2), (0.05, 0)])
def test_hue_turns_the_way_of_tf_image(hue, brightest):
    red = np.array([[[160, 60, 60]]], np.float32)
    ours = augment.apply_colour_map(red, augment.colour_map(0.0, 1.0, hue, 1.0)).numpy()
    theirs = tf.image.adjust_hue(red / 255, hue - round(hue)).numpy()
    assert ours.argmax() == theirs.argmax() == brightest


def test_no_saturation_is_grey():
    grey = augment.apply_colour_map(picture(), augment.colour_map(0.0, 0.0, 0.0, 1.0)).numpy()
    np.testing.assert_allclose(np.ptp(grey, axis=-1), 0, atol=1e-3)


def test_a_batch_is_its_images_one_by_one():
    images = np.stack([picture(height=8, width=9), picture(height=8, width=9)[::-1], picture(8, 9) // 2])
    drawn = [tf.constant(values) for values in ([0.1, -0.1, 0.0], [0.5, 1.0, 1.5], [0.2, 0.0, -0.2], [1.0, 1.3, 0.6])]
    batch_map = augment.colour_map(*drawn)
    assert [part.shape.as_list() for part in batch_map] == [[3, 3, 3], [3, 3, 3], [3, 3]]
    batch = augment.apply_colour_map(images, batch_map)
    for i in range(3):
        one = augment.colour_map(*(values[i] for values in drawn))
        np.testing.assert_allclose(batch[i], augment.apply_colour_map(images[i], one), atol=1e-4)


def test_both_forms_agree_within_a_level():
    image = np.random.default_rng(1).integers(0, 256, (97, 83, 3)).astype(np.uint8)
    rng = np.random.default_rng(2)
    for _ in range(20):
        draw = rng.uniform([-0.13, 0.5, -0.2, 0.5], [0.13, 1.5, 0.2, 1.5]).astype(np.float32)
        colour_map = augment.colour_map(*draw)
        graph = augment.apply_colour_map(image, colour_map).numpy()
        array = augment.apply_colour_map_cv(image, *numbers(colour_map))
        assert array.dtype == np.uint8
        assert np.abs(graph - array).max() <= 1
        given = augment.apply_colour_map_cv(image, *numbers(colour_map), mean=image.mean((0, 1)))
        np.testing.assert_array_equal(given, array)


def test_sizes_may_be_unknown_in_the_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def distorted(image):
        return augment.apply_colour_map(image, augment.colour_map(**SOME))

    image = picture()
    expected = augment.apply_colour_map(image, augment.colour_map(**SOME))
    np.testing.assert_allclose(distorted(image), expected, atol=1e-4)
