"""Drawing: what the pixels of overlays, legends and sheets are."""

import numpy as np
import pytest

from kerasseg.metrics import detections
from kerasseg.postprocess import (
    colourise,
    displayable,
    error_map,
    legend,
    montage,
    objects,
    overlay,
    split_by_distance,
    split_by_rims,
)
from kerasseg.records import read_labels
from kerasseg.spec import VOC_CLASS_NAMES, voc_palette

PALETTE = np.array([[0, 0, 0], [200, 0, 0], [0, 100, 50]])


def test_displayable_shows_any_number_of_channels():
    rng = np.random.default_rng(0)
    for channels, expected in ((1, (0, 0, 0)), (3, (0, 1, 2)), (4, (0, 1, 2)), (7, (0, 1, 2))):
        image = rng.integers(0, 256, (9, 8, channels), np.uint8)
        np.testing.assert_array_equal(displayable(image), image[..., expected])
    two = displayable(rng.integers(0, 256, (9, 8, 2), np.uint8))
    assert not two[..., 2].any()
    np.testing.assert_array_equal(displayable(image[..., 0]), displayable(image[..., :1]))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_displayable_keeps_the_full_range(dtype):
    top = {"bool": 1, "uint16": 65535}.get(dtype, 255)
    ramp = np.linspace(0, top, 256)[None].repeat(4, 0).astype(dtype)
    np.testing.assert_array_equal(displayable(ramp)[..., 0], np.round(ramp * (255 / top)).astype(np.uint8))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_displayable_stretches_what_would_look_black(dtype):
    dark = np.linspace(0, 30, 10_000).reshape(100, 100).astype(dtype)
    picture = displayable(dark)
    assert picture.min() == 0
    assert picture.max() == 255


def test_displayable_survives_nan_and_constant_images():
    assert displayable(np.full((3, 3), np.nan, np.float32)).max() == 0
    assert displayable(np.zeros((3, 3), np.uint16)).max() == 0
    with pytest.raises(ValueError, match=r"expected an image .* got the shape \(3,\)"):
        displayable(np.zeros(3))


def test_colourise_looks_colours_up():
    mask = np.array([[0, 1, 2, 3, 255]])
    expected = [[[0, 0, 0], [200, 0, 0], [0, 100, 50], [0, 0, 0], [224, 224, 192]]]
    np.testing.assert_array_equal(colourise(mask, PALETTE), expected)
    np.testing.assert_array_equal(colourise(mask[:, -1:], voc_palette()), [[[224, 224, 192]]])


def test_overlay_tints_outlines_and_hatches():
    image = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    mask[:3] = 255
    picture = overlay(image, mask, PALETTE, alpha=0.5)
    assert tuple(picture[18, 18]) == (100, 100, 100)  # Black classes leave the image alone.
    assert tuple(picture[10, 10]) == (150, 50, 50)
    assert tuple(picture[5, 5]) == (228, 128, 128)  # The outline: halfway between the class colour and white.
    hatched = picture[:3].reshape(-1, 3)
    assert len(np.unique(hatched, axis=0)) == 2
    assert (hatched == hatched[:, :1]).all()
    np.testing.assert_array_equal(image, 100)  # The caller's array is not drawn upon.


def test_overlay_with_alpha_zero_shows_the_outline_only():
    image = np.full((9, 9), 100, np.uint8)
    mask = np.zeros((9, 9), np.int32)
    mask[2:7, 2:7] = 2
    changed = (overlay(image, mask, PALETTE, 0.0) != 100).any(axis=2)
    expected = mask == 2
    expected[3:6, 3:6] = False
    np.testing.assert_array_equal(changed, expected)


def test_arguments_are_checked():
    image, mask = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=r"mask must have the image's size \(4, 5\), got \(5, 4\)"):
        overlay(image, mask.T, PALETTE)
    with pytest.raises(ValueError, match="alpha must lie in 0-1, got 2"):
        overlay(image, mask, PALETTE, 2)
    with pytest.raises(ValueError, match="expected an integer mask"):
        colourise(mask.astype(np.float32), PALETTE)
    with pytest.raises(ValueError, match="expected labels of 0-255, got -1 to 0"):
        colourise(mask.astype(np.int32) - np.eye(4, 5, dtype=np.int32), PALETTE)
    with pytest.raises(ValueError, match="expected a palette"):
        colourise(mask, PALETTE[:, :2])


def test_legend_shows_the_classes_asked_for():
    full = legend(VOC_CLASS_NAMES, voc_palette(), ignored=True)
    few = legend(VOC_CLASS_NAMES, voc_palette(), classes=[0, 15, 255])
    assert few.shape[0] < full.shape[0] / 5
    colours = {tuple(c) for c in few.reshape(-1, 3)}
    assert tuple(voc_palette()[15]) in colours
    assert tuple(voc_palette()[1]) not in colours
    assert legend(VOC_CLASS_NAMES, voc_palette(), width=800).shape[1] == 800
    with pytest.raises(ValueError, match=r"no name or no colour for the classes \[21\]"):
        legend(VOC_CLASS_NAMES, voc_palette(), classes=[1, 21])


def test_montage_lays_out_pictures_of_all_sizes():
    rows = [
        [np.full((10, 20), 50, np.uint8), None],
        [np.full((600, 300, 3), (90, 20, 200), np.uint8), np.zeros((64, 64))],
    ]
    sheet = montage(rows, captions=[["a", ""], ["b" * 200, "c"]], titles=["left", "right"], side=128)
    assert sheet.shape[1] == 120 + 128 + 3 * 8  # 10x20 grows by a whole factor to 60x120, 64 to 128.
    assert (sheet == (90, 20, 200)).all(axis=2).sum() == 128 * 64
    footed = montage(rows, side=128, footer=lambda width: np.full((7, width), 3, np.uint8))
    assert footed.shape == (montage(rows, side=128).shape[0] + 7, sheet.shape[1], 3)
    with pytest.raises(ValueError, match="at least one picture"):
        montage([[None]])
    with pytest.raises(ValueError, match="captions must be laid out"):
        montage(rows, captions=[["a"]])


def test_objects_are_components_grown_over_their_rims():
    mask = np.zeros((12, 12), np.uint8)
    mask[1:6, 1:11] = 2  # Rims around two objects that touch at them.
    mask[2:5, 2:5] = mask[2:5, 7:10] = 1
    mask[8:10, 8:10] = mask[10, 10] = 1  # Two more, which meet at a corner only.
    found = objects(mask)
    assert found.max() == 4
    assert (found[1:6, 1:6] == found[3, 3]).all()
    assert (found[1:6, 6:11] == found[3, 8]).all()
    assert not found[mask == 0].any()
    assert found[10, 10] != found[9, 9]
    assert objects(mask, object_class=2).max() == 1


def test_objects_grow_from_their_insides_over_their_rims():
    """Two squares that touch, one that is all rim, and a speck that is too small."""
    truth = np.zeros((20, 40), int)
    truth[4:14, 3:13], truth[4:14, 13:23], truth[2:5, 30:38], truth[15:17, 30:33] = 1, 2, 3, 4
    labels = np.where(truth > 0, 2, 0)
    labels[5:13, 4:12] = labels[5:13, 14:22] = 1
    probabilities = 0.8 * np.eye(3)[labels] + 0.2 / 3
    found = split_by_rims(probabilities)
    pairs = {(a, b) for a, b in zip(truth.ravel(), found.ravel(), strict=True)}
    assert len(pairs) == 5  # background, three objects one to one, and the speck to nothing
    assert (4, 0) in pairs
    assert sorted(np.unique(found)) == [0, 1, 2, 3]
    assert len(np.unique(split_by_rims(probabilities, min_size=1))) == 5
    assert not split_by_rims(probabilities, threshold=0.95).any()


def test_probabilities_of_other_classes_have_no_rims():
    with pytest.raises(ValueError, match=r"\[H, W, 3\] of outside, inside, rim; received \(4, 4, 2\)"):
        split_by_rims(np.zeros((4, 4, 2)))


def test_overlays_may_leave_the_outlines_out():
    """Then a class's pixels all have its tint, at its border too."""
    mask = np.zeros((6, 6), np.uint8)
    mask[2:4, 2:4] = 1
    image, palette = np.full((6, 6, 3), 100, np.uint8), [[0, 0, 0], [200, 0, 0]]
    flat = overlay(image, mask, palette, outlines=False)
    assert (flat[mask == 1] == (150, 50, 50)).all()
    assert (overlay(image, mask, palette)[mask == 1] == (228, 128, 128)).all()
    np.testing.assert_array_equal(flat[mask == 0], image[mask == 0])


def discs(*circles, size=(60, 80)):
    """Returns int32 [H, W]: the number of the circle (row, column, radius) that a pixel lies in, 0 outside them."""
    rows, columns = np.indices(size)
    distances = np.stack([np.hypot(rows - row, columns - column) - radius for row, column, radius in circles])
    return np.where(distances.min(0) <= 0, distances.argmin(0) + 1, 0).astype(np.int32)


def test_touching_discs_are_parted_at_their_waist():
    truth = discs((20, 20, 12), (20, 41, 12), (45, 60, 8), (52, 8, 5))
    assert objects(truth > 0).max() == 3
    found = split_by_distance((truth > 0).astype(np.uint8))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found > 0, truth > 0)
    assert detections(truth, found, 0.95) == (4, 0, 0)
    # At the picture's edge, too; and what is below min_size is no object.
    cut = split_by_distance(truth[20:] > 0)
    assert detections(truth[20:], cut, 0.9) == (4, 0, 0)
    assert split_by_distance(2 * (truth > 0), object_class=2, min_size=100).max() == 3
    assert not split_by_distance(np.zeros((5, 7), np.uint8)).any()
    whole = split_by_distance(np.ones((5, 7), np.uint8))
    assert whole.min() == whole.max() == 1
    with pytest.raises(ValueError, match=r"expected a mask \[H, W\], received the shape \(2, 5, 7\)"):
        split_by_distance(np.ones((2, 5, 7)))


def test_parting_by_distance_finds_more_real_nuclei_than_components(real_data):
    """From the true class maps: what is left to gain are the nuclei that touch."""
    counts = np.zeros((2, 3), int)
    for folder in sorted((real_data / "cells/dsb2018/stage1_train").iterdir())[:12]:
        masks = [read_labels(path) > 0 for path in sorted((folder / "masks").glob("*.png"))]
        truth = np.zeros(masks[0].shape, np.int32)
        for number, mask in enumerate(masks, 1):
            truth[mask] = number
        counts += [detections(truth, split(truth > 0)) for split in (objects, split_by_distance)]
    components, parted = counts[:, 0] / counts.sum(1)
    assert components + 0.02 < parted < 1


def test_errors_are_drawn_by_hand():
    mask = np.array([[0, 1, 255, 255], [2, 2, 0, 1]])
    predicted = np.array([[0, 2, 0, 7], [2, 1, 0, 1]])
    picture = error_map(mask, predicted)
    right, wrong = picture[0, 0], picture[0, 1]
    is_right, is_wrong = (picture == right).all(-1), (picture == wrong).all(-1)
    np.testing.assert_array_equal(is_right, (mask == predicted))
    np.testing.assert_array_equal(is_wrong, (mask != predicted) & (mask != 255))
    assert (np.ptp(picture[0, 2:].astype(int), axis=-1) == 0).all()  # grey hatching
    np.testing.assert_array_equal((error_map(mask, predicted, ignore_label=None) == wrong).all(-1), mask != predicted)
    # Apart by lightness, over the blackest and the whitest image.
    for value in (0, 255):
        over = error_map(mask, predicted, np.full((2, 4), value, np.uint8))
        lightness = over @ [0.2126, 0.7152, 0.0722]
        assert lightness[is_right].max() + 60 < lightness[is_wrong].min()
    with pytest.raises(ValueError, match=r"of one size, received \(2, 4\), \(2, 3\)"):
        error_map(mask, predicted[:, 1:])
    with pytest.raises(ValueError, match=r"an image of the mask's size \(2, 4\)"):
        error_map(mask, predicted, np.zeros((3, 3)))
