"""Elastic displacements and the resampling that they need: equal to scipy's, and the same in both forms."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import interpolate, ndimage

from kerasseg import augment
from kerasseg._opencv import cv2

EXACT = int(cv2.__version__.split(".")[0]) >= 5
"""Whether this OpenCV interpolates at exact positions, and not at those rounded to 1/32 pixel."""


# --- displacement fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [(3, 3), (2, 5), (4, 1), (7, 4)])
def test_grid_displacement_is_the_natural_cubic_spline(points):
    grid = np.random.default_rng(0).normal(0, 10, (2, *points)).astype(np.float32)
    size = (37, 52)
    expected = np.stack([_spline(_spline(axis, size[0]).T, size[1]).T for axis in grid.astype(float)], -1)
    for field in (augment.grid_displacement(grid, size).numpy(), augment.grid_displacement_cv(grid, size)):
        assert field.dtype == np.float32
        np.testing.assert_allclose(field, expected, atol=2e-5)


def _spline(values, length):
    """scipy's natural cubic spline along axis 0; a single point is a constant."""
    if len(values) == 1:
        return np.repeat(values, length, axis=0)
    return interpolate.CubicSpline(np.arange(len(values)), values, bc_type="natural")(
        np.linspace(0, len(values) - 1, length)
    )


def test_inside_a_fine_grid_it_is_any_other_cubic_spline():
    grid = np.random.default_rng(1).normal(0, 10, (2, 25, 25)).astype(np.float32)
    size = (24 * 8 + 1, 24 * 8 + 1)
    field = augment.grid_displacement(grid, size).numpy()
    at = np.arange(25)
    fine = np.linspace(0, 24, size[0])
    inner = slice(10 * 8, 14 * 8 + 1)  # ten points from the ends, whose conditions die out by a factor of 3.7 a point
    for axis in range(2):
        not_a_knot = interpolate.RectBivariateSpline(at, at, grid[axis])(fine, fine)
        mirror = ndimage.map_coordinates(grid[axis], np.meshgrid(fine, fine, indexing="ij"), order=3, mode="mirror")
        for other in (not_a_knot, mirror):
            np.testing.assert_allclose(field[inner, inner, axis], other[inner, inner], atol=1e-3)
            assert np.abs(field[..., axis] - other).max() > 0.1


def test_grid_displacement_goes_through_its_points_and_is_zero_for_zeros():
    grid = np.random.default_rng(2).normal(0, 10, (2, 3, 3)).astype(np.float32)
    field = augment.grid_displacement(grid, (41, 21)).numpy()
    np.testing.assert_allclose(field[::20, ::10], grid.transpose(1, 2, 0), atol=1e-5)
    assert not augment.grid_displacement(np.zeros_like(grid), (7, 5)).numpy().any()
    assert not augment.grid_displacement_cv(np.zeros_like(grid), (7, 5)).any()
    assert (
        augment.grid_displacement(grid, (1, 1)).shape == augment.grid_displacement_cv(grid, (1, 1)).shape == (1, 1, 2)
    )


@pytest.mark.parametrize(("size", "sigma"), [((48, 70), 4.0), ((9, 13), 5.0)])
def test_simard_displacement_is_blurred_uniform_noise(size, sigma):
    seed = tf.constant([3, 4])
    noise = tf.random.stateless_uniform([2, *size], seed, -1.0, 1.0).numpy().astype(float)
    blurred = ndimage.gaussian_filter(noise, sigma, mode="mirror", axes=(1, 2))
    field = augment.simard_displacement(seed, size, 34.0, sigma).numpy()
    np.testing.assert_allclose(field, 34 * blurred.transpose(1, 2, 0), atol=1e-4)

    noise = 2 * np.random.Generator(np.random.Philox(5)).random((*size, 2), np.float32) - 1
    blurred = ndimage.gaussian_filter(noise.astype(float), sigma, mode="mirror", axes=(0, 1))
    field = augment.simard_displacement_cv(5, size, 34.0, sigma)
    assert field.dtype == np.float32
    np.testing.assert_allclose(field, 34 * blurred, atol=1e-4)
    np.testing.assert_array_equal(field, augment.simard_displacement_cv(5, size, 34.0, sigma))
    assert np.abs(field - augment.simard_displacement_cv(6, size, 34.0, sigma)).max() > 0.1


def test_both_forms_of_simards_field_have_the_stated_spread():
    expected = 34 / (np.sqrt(12 * np.pi) * 4)
    graph = augment.simard_displacement([1, 2], (300, 300), 34.0, 4.0).numpy()
    array = augment.simard_displacement_cv(1, (300, 300), 34.0, 4.0)
    for field in (graph, array):
        np.testing.assert_allclose(field.std((0, 1)), expected, rtol=0.1)
        np.testing.assert_allclose(field.mean((0, 1)), 0, atol=0.15)
        assert abs(np.corrcoef(field[..., 0].ravel(), field[..., 1].ravel())[0, 1]) < 0.1


# --- resampling -------------------------------------------------------------------------------------------------------


def both(array, positions, *args):
    positions = np.asarray(positions, np.float32)
    return augment.warp(array, positions, *args).numpy(), augment.warp_cv(array, positions, *args)


def pixels(size, channels, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(dtype)


def anywhere(size, far, seed=1, shape=(33, 44)):
    return np.random.default_rng(seed).uniform(-far, np.array(size) + far, (*shape, 2)).astype(np.float32)


def surrounded(array, far, border, fill):
    """The array with `far` pixels of its surroundings on each side, by NumPy."""
    if border == "mirror":
        return np.pad(array, [(far, far), (far, far), (0, 0)], "reflect")
    plane = np.empty((array.shape[0] + 2 * far, array.shape[1] + 2 * far, array.shape[2]), array.dtype)
    plane[:] = fill
    plane[far:-far, far:-far] = array
    return plane


@pytest.mark.parametrize("border", augment.BORDERS)
@pytest.mark.parametrize("size", [(13, 17), (1, 7), (6, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("channels", range(1, 8))
def test_warp_is_scipys_in_an_array_with_its_surroundings(size, channels, border):
    far = 60
    fill = np.arange(channels) * 30 + 5
    image = pixels(size, channels)
    positions = anywhere(size, far - 2)
    plane = surrounded(image, far, border, fill)
    at = positions.transpose(2, 0, 1).astype(float) + far
    linear = np.stack([ndimage.map_coordinates(plane[..., c].astype(float), at, order=1) for c in range(channels)], -1)
    graph, array = both(image, positions, False, border, fill)
    assert graph.dtype == np.float32
    assert array.dtype == np.uint8
    np.testing.assert_allclose(graph, linear, atol=0.02)
    np.testing.assert_allclose(array, linear, atol=0.52 if EXACT else 9)

    nearest = plane[tuple(np.rint(at).astype(int))]
    for result in both(image, positions, True, border, fill):
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, nearest)


def test_halves_go_to_the_same_pixel_in_both_forms():
    rows, columns = np.meshgrid(np.arange(-20, 20) / 2, np.arange(-30, 30) / 2, indexing="ij")
    for border in augment.BORDERS:
        graph, array = both(pixels((6, 5), 2), np.stack([rows, columns], -1), True, border, 7)
        np.testing.assert_array_equal(graph, array)


def test_reading_every_pixel_at_its_place_changes_none():
    for dtype in (np.uint8, np.uint16, np.int16, np.int32, np.float32):
        image = pixels((31, 45), 3, dtype)
        here = np.stack(np.mgrid[:31, :45], -1)
        for border in augment.BORDERS:
            for nearest in (False, True) if dtype not in (np.int16, np.int32) else (True,):
                graph, array = both(image, here, nearest, border, 9)
                np.testing.assert_array_equal(graph, image)
                np.testing.assert_array_equal(array, image)
                assert array.dtype == dtype


@pytest.mark.parametrize("border", augment.BORDERS)
def test_instance_ids_stay_exact(border):
    ids = (np.arange(35, dtype=np.int32) + 2**24 + 1).reshape(5, 7, 1)
    positions = anywhere((5, 7), 4)
    graph, array = both(ids, positions, True, border, 0)
    assert graph.dtype == array.dtype == np.int32
    np.testing.assert_array_equal(graph, array)
    assert set(np.unique(graph)) <= {0, *ids.ravel().tolist()}
    assert (0 in graph) == (border == "fill")


def test_less_than_a_pixel_outside_blends_with_the_fill():
    image = np.full((2, 2, 1), 100, np.float32)
    for result in both(image, [[[0.5, -0.25], [0.5, -0.5], [0.5, -1], [0.5, -9], [-0.5, -0.5]]], False, "fill", 20):
        np.testing.assert_allclose(result.ravel(), [80, 60, 20, 20, 40], atol=0 if EXACT else 3)


@pytest.mark.parametrize("border", augment.BORDERS)
def test_both_forms_of_a_deformed_image_agree(border):
    """0.5 is the rounding of uint8; OpenCV 4 comes to 1 on the smooth image, 3.2 where the fill begins, 9 on noise."""
    rows, columns = np.mgrid[:96, :128]
    smooth = np.stack([127 + 120 * np.sin(rows / 9), 127 + 120 * np.cos(columns / 7), (rows + columns) / 1.2], -1)
    field = augment.grid_displacement_cv(np.random.default_rng(3).normal(0, 10, (2, 3, 3)), (96, 128))
    positions = np.stack([rows, columns], -1) + field
    for image, tolerance in ((smooth.astype(np.uint8), 1 if border == "mirror" else 4), (pixels((96, 128), 3), 9)):
        graph, array = both(image, positions, False, border, 50)
        assert np.abs(graph - array).max() <= (0.51 if EXACT else tolerance)
        assert np.abs(graph - image).mean() > 5


def test_wrong_arguments_are_named():
    here = np.zeros((1, 1, 2), np.float32)
    for form in (augment.warp, augment.warp_cv):
        with pytest.raises(ValueError, match='expected border "fill" or "mirror", received \'wrap\''):
            form(pixels((2, 2), 1), here, False, "wrap")
    with pytest.raises(ValueError, match="expected an array of uint8, .*float32, received int64"):
        augment.warp_cv(pixels((2, 2), 1, np.int64), here, True)
    with pytest.raises(ValueError, match="expected an array of uint8, uint16, float32, received int32"):
        augment.warp_cv(pixels((2, 2), 1, np.int32), here)


def test_sizes_may_be_unknown_in_the_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8), tf.TensorSpec([2, 3, 3])])
    def deformed(image, grid):
        height, width, _ = tf.unstack(tf.shape(image))
        here = tf.stack(tf.meshgrid(tf.range(height), tf.range(width), indexing="ij"), -1)
        field = augment.grid_displacement(grid, (height, width))
        field += augment.simard_displacement([1, 2], (height, width), 10.0, 4.0)
        return augment.warp(image, tf.cast(here, tf.float32) + field)

    image = pixels((20, 30), 3)
    grid = np.random.default_rng(3).normal(0, 3, (2, 3, 3)).astype(np.float32)
    field = augment.grid_displacement(grid, (20, 30)) + augment.simard_displacement([1, 2], (20, 30), 10.0, 4.0)
    expected = augment.warp(image, np.stack(np.mgrid[:20, :30], -1).astype(np.float32) + field)
    np.testing.assert_allclose(deformed(image, grid), expected, atol=0.05)
