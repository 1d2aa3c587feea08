"""U-Net's weight map against a brute-force computation with scipy's distance transform, and its speed."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from kerasseg.augment import border_weights, fiji_border_weights


def brute_force(instances, w0=10.0, sigma=5.0):
    """The formula, cell by cell over the whole image, in float64."""
    cell = instances > 0
    share = cell.mean()
    w_c = np.where(cell, 0.5 / share, 0.5 / (1 - share)) if 0 < share < 1 else np.ones(cell.shape)
    ids = [i for i in np.unique(instances) if i > 0]
    if len(ids) < 2:
        return w_c
    d = np.sort([ndimage.distance_transform_edt(instances != i) for i in ids], axis=0)
    return w_c + w0 * np.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))


def discs(count, size, seed=0):
    rng = np.random.default_rng(seed)
    instances = np.zeros((size, size), np.uint16)
    rows, columns = np.ogrid[:size, :size]
    for i in range(count):
        y, x = rng.uniform(0, size, 2)
        instances[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(4, 14) ** 2] = i + 1
    return instances


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.sampled_from([0, 0, 1, 2, 7])
    ),
    st.sampled_from([(10, 5), (3, 1.5), (0, 5), (50, 6)]),
)
def test_equals_brute_force_on_scattered_cells(instances, parameters):
    np.testing.assert_allclose(border_weights(instances, *parameters), brute_force(instances, *parameters), atol=2e-5)


@pytest.mark.parametrize("shape", ["square", "wide"])
def test_equals_brute_force_on_discs(shape):
    instances = discs(30, 200) if shape == "square" else discs(30, 200)[:90]
    np.testing.assert_allclose(border_weights(instances), brute_force(instances), atol=3e-6)


def test_values_of_the_second_term_by_distance():
    """One pixel of background between two cells lies 1 + 1 from them; and so on, as the formula says by hand."""
    expected = {2: 9.2312, 4: 7.2615, 6: 4.8675, 10: 1.3534, 20: 0.0034}
    for total, value in expected.items():
        line = np.zeros((1, total + 1), np.int32)
        line[0, [0, -1]] = 1, 2
        share = 2 / line.size
        border = border_weights(line) - np.where(line > 0, 0.5 / share, 0.5 / (1 - share))
        np.testing.assert_allclose(border, value, atol=5e-5)


def test_one_cell_or_none_has_no_second_term():
    instances = np.zeros((8, 10), np.uint8)
    np.testing.assert_array_equal(border_weights(instances), 1)
    instances[2:4, 2:7] = 9
    weights = border_weights(instances)
    np.testing.assert_allclose(weights[instances > 0], 80 / 2 / 10)
    np.testing.assert_allclose(weights[instances == 0], 80 / 2 / 70)
    np.testing.assert_array_equal(border_weights(np.ones((4, 4), np.uint8)), 1)


def test_balance_averages_to_one_and_counts_the_ridge_of_a_mask():
    instances = discs(20, 120)
    assert border_weights(instances, w0=0).mean() == pytest.approx(1, abs=1e-6)
    mask = (instances > 0).astype(np.uint8)
    mask[::10] = 0
    mask[:5] = 255
    weights = border_weights(instances, w0=0, mask=mask)
    assert weights.dtype == np.float32
    assert (weights[:5] == 0).all()
    assert weights[5:].mean() == pytest.approx(1, abs=1e-6)
    assert weights[mask == 1].sum() == pytest.approx(weights[mask == 0].sum(), rel=1e-5)


def test_ids_need_not_be_consecutive_or_small():
    instances = discs(6, 60).astype(np.int64)
    far = np.where(instances > 0, instances * 1_000_003, 0)
    np.testing.assert_allclose(border_weights(far), border_weights(instances), atol=1e-6)
    everywhere = np.kron(np.array([[70_000, 80_000]]), np.ones((4, 4), int))  # no background at all
    np.testing.assert_allclose(border_weights(everywhere), brute_force(everywhere), atol=3e-6)


def test_the_later_map_by_hand_and_with_few_cells():
    """Two cells with three pixels between them: d1 1, 2, 1 and d1 + d2 4, 4, 4."""
    line = np.array([[1, 0, 0, 0, 2]], np.uint16)
    border = 50 * np.exp(-16 / 72)
    near, far = (0.1 + 0.9 * np.exp(-(d**2) / 200) for d in (1, 2))
    expected = [1, near + border, far + border, near + border, 1]
    np.testing.assert_allclose(fiji_border_weights(line)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(fiji_border_weights(line, 7, 6)[0, 2], far + 7 * np.exp(-16 / 72), rtol=1e-6)
    one = fiji_border_weights(np.where(line == 1, 1, 0), background=0.3, sigma_1=2)[0]
    np.testing.assert_allclose(one, [1, *(0.3 + 0.7 * np.exp(-(d**2) / 8) for d in (1, 2, 3, 4))], rtol=1e-6)
    none = fiji_border_weights(np.zeros((3, 4), np.uint8), mask=np.array([[255, 0, 0, 0]] * 3))
    np.testing.assert_allclose(none, [[0, 0.1, 0.1, 0.1]] * 3, rtol=1e-6)
    assert none.dtype == np.float32
    with pytest.raises(ValueError, match="background from 0 to 1, received 50, 6, 10 and 2"):
        fiji_border_weights(line, background=2)


def test_fast_with_many_cells():
    """200 cells in 512x512 take about 20 ms; the bound leaves room for a busy machine."""
    instances = discs(200, 512)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        border_weights(instances)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("instances", "options", "message"),
    [
        (np.zeros((2, 2, 1), int), {}, r"integers \[H, W\], received int64 \(2, 2, 1\)"),
        (np.zeros((2, 2)), {}, "received float64"),
        (np.full((2, 2), -1), {}, "at least 0, received -1; 0 is the background"),
        (np.zeros((2, 2), int), {"sigma": 0}, "sigma above 0, received 10 and 0"),
        (np.zeros((2, 2), int), {"mask": np.zeros((2, 3), int)}, r"received int64 \(2, 3\)"),
    ],
)
def test_wrong_arguments_are_named(instances, options, message):
    with pytest.raises(ValueError, match=message):
        border_weights(instances, **options)
