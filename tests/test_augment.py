"""Augmentation: equal to the original's values, every map moved alike, the same eagerly and inside tf.data."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasseg import augment
from kerasseg.pipeline import presets

SEED = tf.constant([7, 1], tf.int64)
few = settings(max_examples=25, deadline=None)


def sample(height, width, channels=3, seed=0, dtype=np.uint8):
    """Random pixels, with maps that all hold the same blocky pattern: 1 + its number in the mask."""
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.integers(0, 21, (height // 4 + 1, width // 4 + 1)), np.ones((4, 4), int))[:height, :width]
    return {
        "image": tf.constant(rng.integers(0, 256, (height, width, channels)).astype(dtype)),
        "mask": tf.constant(mask.astype(np.uint8)),
        "weight": tf.constant((mask + 1).astype(np.float32)),
        "instances": tf.constant((mask + 1).astype(np.int32)),
        "key": tf.constant("name"),
    }


def numpy(result):
    return {name: value.numpy() for name, value in result.items()}


def assert_same(one, other):
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# --- the original's values --------------------------------------------------------------------------------------------


def test_centre_crop_equals_the_original(oracle):
    cases = np.load(oracle / "data/crop_pad.npz")
    for i in range(int(cases["n"])):
        given = {
            "image": tf.constant(cases[f"c{i}_image"], tf.float32),
            "mask": tf.constant(cases[f"c{i}_annotation"][..., 0]),
        }
        side = int(cases[f"c{i}_crop"])
        result = numpy(augment.centre_crop(given, (side, side)))
        np.testing.assert_array_equal(result["image"], cases[f"c{i}_out_image"])
        np.testing.assert_array_equal(result["mask"], cases[f"c{i}_out_annotation"])


def test_rescale_equals_the_original(oracle):
    cases = np.load(oracle / "data/rescale.npz")
    for i in range(int(cases["n"])):
        given = {"image": tf.constant(cases[f"r{i}_image"]), "mask": tf.constant(cases[f"r{i}_annotation"][..., 0])}
        result = numpy(augment.rescale(given, cases[f"r{i}_scale"], sampling="legacy"))
        np.testing.assert_allclose(result["image"], cases[f"r{i}_out_image"], atol=1e-4)
        np.testing.assert_array_equal(result["mask"], cases[f"r{i}_out_annotation"][..., 0])


@pytest.mark.parametrize("order", range(4))
def test_colour_equals_the_original(oracle, order):
    cases = np.load(oracle / "data/colour.npz")
    result = augment.distort_colour(cases["image"], order, **json.loads(str(cases["params"])))
    np.testing.assert_allclose(result, cases[f"order{order}"], atol=1e-3)


# --- given parameters -------------------------------------------------------------------------------------------------


@few
@given(
    *(st.integers(1, 12) for _ in range(4)),
    st.integers(-5, 12),
    st.integers(-5, 12),
)
def test_crop_or_pad_is_the_window_of_a_padded_plane(height, width, out_h, out_w, top, left):
    given = sample(height, width)
    result = numpy(augment.crop_or_pad(given, (out_h, out_w), top, left, fill=(1.0, 2.0, 3.0)))
    far = 40  # a plane much larger than any of the windows
    for name, fill in (("image", [1, 2, 3]), ("mask", 255), ("weight", 0), ("instances", 0)):
        array = given[name].numpy()
        plane = np.empty((2 * far, 2 * far, *array.shape[2:]), array.dtype)
        plane[:] = fill
        plane[far : far + height, far : far + width] = array
        expected = plane[far + top : far + top + out_h, far + left : far + left + out_w]
        np.testing.assert_array_equal(result[name], expected, err_msg=name)
        assert result[name].dtype == array.dtype


def test_fill_mean_is_imagenets_for_rgb_else_the_images_own():
    grey = {"image": tf.constant(np.array([[[10], [21]]], np.float32))}
    assert augment.crop_or_pad(grey, (1, 3), 0, 0, fill="mean")["image"].numpy().ravel().tolist() == [10, 21, 15.5]
    rgb = {"image": tf.zeros([1, 1, 3], tf.uint8)}
    assert augment.crop_or_pad(rgb, (1, 2), 0, 0, fill="mean")["image"].numpy()[0, 1].tolist() == [124, 117, 104]
    with pytest.raises(ValueError, match="one per channel, or \"mean\", received 'black'"):
        augment.crop_or_pad(rgb, (1, 2), 0, 0, fill="black")


def test_flip_and_rotation_are_numpys():
    given = sample(5, 8)
    for turns in range(4):
        assert_same(numpy(augment.rotate90(given, turns)), {n: _rot(a, turns) for n, a in numpy(given).items()})
    both = numpy(augment.flip(given, left_right=True, up_down=True))
    assert_same(both, {n: _rot(a, 2) for n, a in numpy(given).items()})
    mirrored = numpy(augment.flip(given, left_right=True))
    assert_same(mirrored, {n: a[:, ::-1] if np.ndim(a) else a for n, a in numpy(given).items()})


def _rot(array, turns):
    return np.rot90(array, turns) if np.ndim(array) else array


@pytest.mark.parametrize("sampling", ["half_pixel", "legacy"])
def test_resize_is_tensorflows_to_the_bit(sampling):
    """In a graph, where sizes are not known when it is made, over sizes that shrink, grow and leave an axis alone."""
    rng = np.random.default_rng(0)
    half_pixel = sampling == "half_pixel"
    resize = tf.function(
        lambda image, mask, size: augment.resize({"image": image, "mask": mask}, size, sampling=sampling)
    )
    resize = resize.get_concrete_function(
        tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([None, None], tf.uint8), tf.TensorSpec([2], tf.int32)
    )
    for height, width, rows, columns in [*rng.integers(1, 200, (60, 4)), (7, 9, 7, 9), (40, 50, 20, 50), (1, 1, 5, 3)]:
        image = tf.constant(rng.integers(0, 256, (1, height, width, 3), np.uint8))
        mask = tf.constant(rng.integers(0, 256, (1, height, width, 1), np.uint8))
        size = tf.constant([rows, columns], tf.int32)
        found = resize(image[0], mask[0, ..., 0], size)
        options = {"size": size, "half_pixel_centers": half_pixel}
        np.testing.assert_array_equal(found["image"], tf.raw_ops.ResizeBilinear(images=image, **options)[0])
        expected = tf.raw_ops.ResizeNearestNeighbor(images=mask, **options)[0, ..., 0]
        np.testing.assert_array_equal(found["mask"], expected)


def test_rescale_rounds_half_to_even_and_never_to_nothing():
    for side, scale, expected in ((25, 0.5, 12), (27, 0.5, 14), (3, 0.1, 1), (10, 1.26, 13)):
        result = augment.rescale(sample(side, side), scale)
        assert result["image"].shape[0] == result["mask"].shape[0] == expected
    with pytest.raises(ValueError, match='"half_pixel" or "legacy", received \'corners\''):
        augment.rescale(sample(4, 4), 1.0, sampling="corners")


@pytest.mark.parametrize("sampling", ["half_pixel", "legacy"])
@pytest.mark.parametrize("scale", [0.5, 0.8, 1.37, 2.0])
def test_rescale_reads_the_positions_that_it_names(sampling, scale):
    given = sample(10, 14, channels=1)
    result = numpy(augment.rescale(given, scale, sampling=sampling))
    rows, columns = (
        _positions(before, after, sampling) for before, after in zip((10, 14), result["mask"].shape, strict=True)
    )
    nearest = given["mask"].numpy()[np.ix_(*(_nearest(*p, sampling) for p in (rows, columns)))]
    np.testing.assert_array_equal(result["mask"], nearest)
    linear = _linear(_linear(given["image"].numpy()[..., 0].astype(float), *rows).T, *columns).T
    np.testing.assert_allclose(result["image"][..., 0], linear, atol=1e-3)


def _positions(before, after, sampling):
    """Returns where on the axis of `before` pixels each of `after` pixels reads, and `before`."""
    shift = 0.5 if sampling == "half_pixel" else 0
    return (np.arange(after) + shift) * before / after - shift, before


def _nearest(position, before, sampling):
    return np.minimum(np.floor(position + (0.5 if sampling == "half_pixel" else 0) + 1e-6), before - 1).astype(int)


def _linear(rows, position, before):
    position = np.clip(position, 0, before - 1)
    low = np.floor(position).astype(int)
    part = (position - low)[:, None]
    return rows[low] * (1 - part) + rows[np.minimum(low + 1, before - 1)] * part


def test_identity_parameters_leave_the_pixels_untouched():
    given = sample(9, 12, dtype=np.float32)
    for result in (
        augment.rescale(given, 1.0),
        augment.crop_or_pad(given, (9, 12), 0, 0),
        augment.centre_crop(given, (9, 12)),
        augment.flip(given),
        augment.rotate90(given, 4),
        {**given, "image": augment.vary_grey(given["image"])},
        augment.random_rescale(given, SEED, 1.0, 1.0),
        augment.random_grey(given, SEED, contrast=1, brightness=0, gamma=1),
    ):
        assert_same(numpy(result), numpy(given))
    for order in range(4):
        np.testing.assert_allclose(augment.distort_colour(given["image"], order), given["image"], atol=0.01)


def test_vary_grey_by_hand():
    image = tf.constant([[[0.0], [100.0], [200.0]]])  # mean 100
    assert augment.vary_grey(image, contrast=0.5).numpy().ravel().tolist() == [50, 100, 150]
    np.testing.assert_allclose(augment.vary_grey(image, brightness=0.2).numpy().ravel(), [51, 151, 251], atol=1e-4)
    assert augment.vary_grey(image, brightness=0.9).numpy().max() == 255
    expected = 255 * (image.numpy() / 255) ** 1.7
    np.testing.assert_allclose(augment.vary_grey(image, gamma=1.7), expected, atol=1e-3)
    assert np.isfinite(augment.vary_grey(image, gamma=0.3).numpy()).all()


# --- drawn parameters -------------------------------------------------------------------------------------------------

PRESETS = ("deeplab_original", "deeplab_paper", "unet", "cells", "deconvnet_stage1")
RANDOM = {
    "rescale": lambda s, seed: augment.random_rescale(s, seed),
    "rescale_steps": lambda s, seed: augment.random_rescale(s, seed, 0.5, 2.0, step=0.25),
    "crop": lambda s, seed: augment.random_crop(s, seed, (9, 30), fill="mean"),
    "flip": augment.random_flip,
    "rotate90": augment.random_rotate90,
    "colour": augment.random_colour,
    "grey": augment.random_grey,
    **{name: lambda s, seed, name=name: with_preset(name, s, seed, (17, 24)) for name in PRESETS},
}
BOXES = {
    "objects": tf.constant([[0.1, 0.2, 0.6, 0.7], [0.5, 0.5, 1.0, 1.0]]),
    "object_labels": tf.constant([1, 2], tf.int64),
    "proposals": tf.zeros([0, 4]),
}


def with_preset(name, given, seed, crop_size):
    preset = getattr(presets, name)
    if isinstance(preset, augment.Augmentation):
        return augment.apply(preset, given | BOXES, seed, crop_size)
    return preset(given, seed, crop_size)


@pytest.mark.parametrize("name", RANDOM)
def test_every_draw_is_the_same_eagerly_and_in_tf_data_on_any_threads(name):
    given = sample(21, 26)
    seeds = [[s, 3] for s in range(12)]
    eager = [numpy(RANDOM[name](given, tf.constant(seed, tf.int64))) for seed in seeds]
    data = tf.data.Dataset.from_tensor_slices(tf.constant(seeds, tf.int64))
    for threads in (1, 4):
        mapped = data.map(lambda seed: RANDOM[name](given, seed), num_parallel_calls=threads)
        for one, other in zip(eager, mapped.as_numpy_iterator(), strict=True):
            for part in ("mask", "weight", "instances", "key"):
                np.testing.assert_array_equal(one[part], other[part])
            # A graph may fuse float operations, hence not bit for bit.
            np.testing.assert_allclose(one["image"], other["image"], atol=2e-2)


@pytest.mark.parametrize("name", RANDOM)
def test_draws_differ_from_seed_to_seed_and_maps_move_alike(name):
    given = sample(21, 26)
    results = [numpy(RANDOM[name](given, tf.constant([s, 0], tf.int64))) for s in range(20)]
    for result in results:
        mask = result["mask"].astype(int)
        assert result["image"].shape[:2] == mask.shape
        assert set(np.unique(mask)) <= set(np.unique(given["mask"])) | {255}
        moved = np.where(mask == 255, 0, mask + 1)
        if name != "deconvnet_stage1":  # it keeps one class of the mask
            np.testing.assert_array_equal(result["weight"], moved)
            np.testing.assert_array_equal(result["instances"], moved)
        assert result["image"].min() >= 0
        assert result["image"].max() <= 255
    assert len({result["image"].tobytes() for result in results}) > 1


@few
@given(st.integers(0, 2**31), st.sampled_from(["rescale", "deeplab_original", "deeplab_paper", "rotate90", "cells"]))
def test_an_image_that_is_its_mask_stays_so(seed, name):
    """A mask that is drawn into the image moves with it, under every preset's geometry."""
    mask = np.zeros((40, 48), np.uint8)
    mask[8:30, 6:20] = 1
    mask[14:36, 24:44] = 2
    given = {"image": tf.constant(mask[..., None] * 100), "mask": tf.constant(mask)}
    geometry = {
        "deeplab_original": lambda s, d: augment.centre_crop(
            augment.random_rescale(s, d, sampling="legacy"), (32, 36), fill=0.0
        ),
        "deeplab_paper": lambda s, d: with_preset("deeplab_paper", s, d, (32, 36)),
        "cells": lambda s, d: augment.random_crop(augment.random_rotate90(s, d), d, (32, 36)),
    }.get(name, RANDOM.get(name))
    result = numpy(geometry(given, tf.constant([seed, 0], tf.int64)))
    valid = result["mask"] != 255
    if not valid.any():
        return
    near = np.abs(result["image"][..., 0].astype(float) - 100.0 * result["mask"]) < 1
    assert near[valid].mean() > 0.75
    # Interpolation mixes what lies on either side of an outline (or of the window's edge), no further than 2 pixels.
    assert all(near[_eroded(result["mask"] == label, 2)].all() for label in (0, 1, 2))


def _eroded(region, by):
    padded = np.pad(region, by)
    rows, columns = region.shape
    return np.all([padded[y : y + rows, x : x + columns] for y, x in np.ndindex(2 * by + 1, 2 * by + 1)], axis=0)


@few
@given(st.integers(0, 2**31), st.sampled_from([name for name in presets.__all__ if name != "deconvnet_stage1"]))
def test_augmentation_commutes_with_relabelling(seed, name):
    given, table = sample(20, 20), np.arange(256)
    table[:21] = np.random.default_rng(seed).permutation(21)
    relabelled = {**given, "mask": tf.constant(table[given["mask"].numpy()].astype(np.uint8))}
    draw = tf.constant([seed, 5], tf.int64)
    after = with_preset(name, given, draw, (16, 24))["mask"].numpy()
    np.testing.assert_array_equal(table[after], with_preset(name, relabelled, draw, (16, 24))["mask"].numpy())


def test_draws_have_the_distributions_that_they_promise():
    given = {"image": tf.zeros([100, 100, 1]), "mask": tf.zeros([100, 100], tf.uint8)}
    seeds = tf.data.Dataset.range(400).map(lambda i: tf.stack([i, 11]))
    sides = np.array(
        list(seeds.map(lambda s: tf.shape(augment.random_rescale(given, s)["mask"])[0]).as_numpy_iterator())
    )
    assert 50 <= sides.min() < 60
    assert 190 < sides.max() <= 200
    assert 115 < sides.mean() < 135
    steps = seeds.map(lambda s: tf.shape(augment.random_rescale(given, s, 0.5, 2.0, step=0.25)["mask"])[0])
    assert set(steps.as_numpy_iterator()) == {50, 75, 100, 125, 150, 175, 200}

    ramp = {"image": tf.reshape(tf.range(25), [5, 5, 1]), "mask": tf.reshape(tf.cast(tf.range(25), tf.uint8), [5, 5])}
    corners = seeds.map(lambda s: augment.random_crop(ramp, s, (4, 3))["mask"][0, 0])
    assert set(corners.as_numpy_iterator()) == {0, 1, 2, 5, 6, 7}, "every place that the window fits in"
    first = seeds.map(lambda s: augment.random_rotate90(augment.random_flip(ramp, s), -s)["mask"][:2, 0])
    assert len({tuple(pair) for pair in first.as_numpy_iterator()}) == 8, "all positions of a square"


def test_colour_of_images_that_are_not_rgb_varies_in_brightness_and_contrast_only():
    given = sample(8, 8, channels=4)
    assert augment.random_colour(given, SEED)["image"].shape == (8, 8, 4)
    image = given["image"].numpy().astype(float)
    result = augment.random_colour(given, SEED)["image"].numpy()
    inside = (result > 0) & (result < 255)
    for channel in range(4):
        x, y = image[..., channel][inside[..., channel]], result[..., channel][inside[..., channel]]
        assert np.corrcoef(x, y)[0, 1] > 0.9999
