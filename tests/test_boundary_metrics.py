"""Boundary F1 and trimaps: by hand, against their definitions over all pairs of pixels, and on VOC's rims of void."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.segmentation import find_boundaries

from kerasseg.metrics import (
    boundary_counts,
    boundary_f1,
    boundary_scores,
    confusion_matrix,
    scores,
    trimap,
    trimap_confusion_matrix,
)

VOID = 255


def nearest_label(mask):
    """Void filled; checked to be the label of one of the nearest labelled pixels, of which there may be several."""
    if not (mask == VOID).any():
        return mask, np.zeros(mask.shape)
    index = ndimage.distance_transform_edt(mask == VOID, return_distances=False, return_indices=True)
    filled, depth = mask[tuple(index)], np.zeros(mask.shape)
    labelled = np.argwhere(mask != VOID)
    for y, x in np.argwhere(mask == VOID):
        distance = np.hypot(*(labelled - (y, x)).T)
        depth[y, x] = distance.min()
        assert filled[y, x] in mask[tuple(labelled[distance == distance.min()].T)]
    return filled, depth


def neighbours(y, x, shape):
    around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    return [(i, j) for i, j in around if 0 <= i < shape[0] and 0 <= j < shape[1]]


def brute_counts(mask, predicted, num_classes, tolerance):
    filled, depth = nearest_label(mask)

    def border(labels, k):
        return [
            p
            for p in np.ndindex(labels.shape)
            if labels[p] == k and any(labels[q] != k for q in neighbours(*p, labels.shape))
        ]

    def near(p, others):
        return any((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= tolerance**2 for q in others)

    counts = np.zeros((num_classes, 4), int)
    for k in range(num_classes):
        true, found = border(filled, k), border(predicted, k)
        known = [p for p in true if depth[p] <= tolerance]
        unknown = [p for p in true if depth[p] > tolerance]
        for p in found:
            right = near(p, known)
            counts[k, 1] += right
            counts[k, 0] += right or not (mask[p] == VOID or near(p, unknown))
        counts[k, 2] = len(known)
        counts[k, 3] = sum(near(p, found) for p in known)
    return counts


def brute_trimap(mask, width, which):
    """Where several pixels of a rim's middle are nearest, the least (min) or the most (max) of their depths decides."""
    filled, depth = nearest_label(mask)
    shape = mask.shape
    middle = [
        p for p in np.ndindex(shape) if mask[p] == VOID and any(filled[q] != filled[p] for q in neighbours(*p, shape))
    ]
    between = set()
    for p in np.ndindex(shape):
        if mask[p] == VOID and middle:
            distances = [np.hypot(p[0] - q[0], p[1] - q[1]) for q in middle]
            nearest = [depth[q] for q, d in zip(middle, distances, strict=True) if d == min(distances)]
            if min(distances) <= which(nearest):
                between.add(p)
    band = np.zeros(shape, bool)
    for p in np.ndindex(shape):
        if mask[p] != VOID:
            band[p] = any(
                mask[q] not in (VOID, mask[p]) or q in between
                for q in np.ndindex(shape)
                if (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 <= width**2
            )
    return band


def blobs(seed, shape=(14, 17), num_classes=4, void=0.0):
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), 2) for _ in range(num_classes)]
    labels = np.argmax(noise, 0).astype(np.uint8)
    if void:
        labels[ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > np.quantile(noise[0], 1 - void)] = VOID
    return labels


def test_a_shifted_edge_by_hand():
    """The edge of a 10 x 12 image lies between columns 3 and 4; predicted between 5 and 6, two pixels off."""
    mask, predicted = np.zeros((10, 12), np.uint8), np.zeros((10, 12), np.int64)
    mask[:, 4:], predicted[:, 6:] = 1, 1
    np.testing.assert_array_equal(boundary_counts(mask, predicted, 3, 2), [[10, 10, 10, 10]] * 2 + [[0] * 4])
    np.testing.assert_array_equal(boundary_f1(mask, predicted, 3, 2), [1, 1, np.nan])
    np.testing.assert_array_equal(boundary_f1(mask, predicted, 3, 1.9), [0, 0, np.nan])
    np.testing.assert_array_equal(boundary_f1(mask, mask, 3, 0), [1, 1, np.nan])
    predicted[:5] = mask[:5]  # Half of it right: 5 of 10 true pixels, and of 11 predicted: 5, a step of 1, and 5 off.
    np.testing.assert_allclose(boundary_f1(mask, predicted, 2, 0)[0], 2 * (5 / 11) * (5 / 10) / (5 / 11 + 5 / 10))
    band = trimap(mask, 2)
    np.testing.assert_array_equal(band, np.isin(np.arange(12), [2, 3, 4, 5])[None].repeat(10, 0))
    np.testing.assert_array_equal(
        trimap_confusion_matrix(mask, predicted, 2, 2), [[20, 0], [5 * 2, 5 * 2]]
    )  # Columns 4 and 5 are predicted wrong in the lower five rows.
    assert not trimap(mask, 0).any()


def test_boundaries_equal_their_definition_over_all_pairs_of_pixels():
    for seed in range(8):
        mask, predicted = blobs(seed, void=0.3 * (seed % 2)), blobs(seed + 100)
        if seed == 4:
            predicted = np.roll(mask, 1, 1)
        tolerance = (0, 1, 1.5, 3)[seed // 2]
        expected = brute_counts(mask, predicted, 5, tolerance)
        np.testing.assert_array_equal(boundary_counts(mask, predicted, 5, tolerance), expected)
        for width in (1, 2.5):
            least, most = brute_trimap(mask, width, min), brute_trimap(mask, width, max)
            band = trimap(mask, width)
            np.testing.assert_array_equal(band, (band & most) | least, err_msg=f"{seed} {width}")
            assert (most & ~least).sum() < 9
        if not seed % 2:
            pixels = [find_boundaries(mask == k, connectivity=1, mode="inner").sum() for k in range(5)]
            np.testing.assert_array_equal(expected[:, 2], pixels)


def test_the_default_tolerance_is_a_share_of_the_diagonal():
    mask, predicted = np.zeros((300, 400), np.uint8), np.zeros((300, 400), np.uint8)
    mask[:, 200:], predicted[:, 203:] = 1, 1  # 0.0075 x 500 = 3.75
    np.testing.assert_array_equal(boundary_f1(mask, predicted, 2), [1, 1])
    predicted[:, :204] = 0
    np.testing.assert_array_equal(boundary_f1(mask, predicted, 2), [0, 0])


def test_counts_add_up_and_give_the_scores_of_a_set():
    cases = [(blobs(i, void=0.2), blobs(i + 50)) for i in range(3)]
    total = sum(boundary_counts(*case, 5, 2) for case in cases)
    result = boundary_scores(total, ["a", "b", "c", "d", "e"])
    precision, recall = total[0, 1] / total[0, 0], total[0, 3] / total[0, 2]
    assert result["per_class_boundary_f1"]["a"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert set(result["per_class_boundary_f1"]) == set("abcd")
    assert result["mean_boundary_f1"] == pytest.approx(np.mean(list(result["per_class_boundary_f1"].values())))
    assert boundary_scores(np.zeros((2, 4)))["mean_boundary_f1"] is None


def test_void_is_no_class_and_its_edge_no_border():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = VOID  # In the middle of one class.
    predicted = np.zeros_like(mask)
    assert not boundary_counts(mask, predicted, 2, 2).any()
    assert not trimap(mask, 5).any()
    predicted[12:18, 12:18] = 1  # Something where nobody knows costs nothing.
    np.testing.assert_array_equal(boundary_counts(mask, predicted, 2, 1), 0)
    predicted[30:35, 30:35] = 1  # A square of 5 has 16 border pixels on its inside and 20 around it.
    np.testing.assert_array_equal(boundary_counts(mask, predicted, 2, 1)[:, 0], [20, 16])
    rim = np.zeros((40, 40), np.uint8)
    rim[:, 20:] = 1
    rim[:, 18:23] = VOID
    halves = np.zeros_like(rim)
    for edge in (18, 20, 21, 23):  # Wherever in the rim it is drawn, it lies within 3 of the middle.
        halves[:] = np.arange(40) >= edge
        np.testing.assert_array_equal(boundary_f1(rim, halves, 2, 3), [1, 1])
    np.testing.assert_array_equal(boundary_f1(rim, (np.arange(40)[None].repeat(40, 0) >= 32).astype(int), 2, 3), [0, 0])
    np.testing.assert_array_equal(np.flatnonzero(trimap(rim, 2)[0]), [16, 17, 23, 24])
    np.testing.assert_array_equal(boundary_counts(np.full((5, 5), VOID), np.eye(5, dtype=int), 2, 2), 0)
    assert not trimap(np.full((5, 5), VOID), 2).any()
    named = halves.copy()
    named[rim == VOID] = VOID  # A prediction that leaves void out, too.
    np.testing.assert_array_equal(boundary_f1(rim, named, 2, 3), [1, 1])


def test_rims_of_voc(real_data):
    folder = real_data / "voc" / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    paths = sorted(folder.glob("*.png"))[:3]
    total = np.zeros((21, 21), np.int64)
    whole = np.zeros_like(total)
    for path in paths:
        mask = np.asarray(Image.open(path))
        filled, depth = nearest_label(mask[::8, ::8])  # Checks the helper on few pixels.
        index = ndimage.distance_transform_edt(mask == VOID, return_distances=False, return_indices=True)
        filled = mask[tuple(index)]
        right = boundary_f1(mask, filled, 21)
        assert np.nanmin(right) == 1, path.name
        off = boundary_f1(mask, np.roll(filled, 12, 1), 21)
        assert np.nanmean(off) < 0.7, path.name
        band = trimap(mask, 5)
        # DeepLab's band, around all void, holds the same pixels: VOC's void is nearly all rim.
        around = (ndimage.distance_transform_edt(mask != VOID) <= 5) & (mask != VOID)
        assert (band & around).sum() > 0.9 * (band | around).sum(), path.name
        shifted = np.roll(filled, 3, 1)
        total += trimap_confusion_matrix(mask, shifted, 21, 5)
        whole += confusion_matrix(mask, shifted, 21)
        np.testing.assert_array_equal(
            trimap_confusion_matrix(mask, shifted, 21, 1e4), confusion_matrix(mask, shifted, 21)
        )
    assert scores(total)["mean_iou"] < scores(whole)["mean_iou"] - 0.02


def test_wrong_arguments_are_refused():
    mask = np.zeros((4, 4), int)
    for call, message in [
        (lambda: boundary_f1(mask, mask, 2, -1), "a tolerance of 0 pixels or more"),
        (lambda: trimap(mask, -1), "a width of 0 pixels or more"),
        (lambda: boundary_f1(mask, mask[:2], 2), "of one shape"),
        (lambda: boundary_f1(mask, mask + 2, 2), r"labels 0..1 in the prediction, received \[2\]"),
        (lambda: boundary_f1(mask[None], mask[None], 2), r"a mask \[H, W\]"),
        (lambda: trimap_confusion_matrix(mask[None], mask[None], 2, 1), r"a mask \[H, W\]"),
        (lambda: boundary_scores(np.zeros((2, 3))), r"counts \[K, 4\]"),
        (lambda: boundary_scores(np.zeros((2, 4)), ["a"]), "expected 2 class names"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="take argmax"):
        boundary_f1(mask, mask.astype(float), 2)
