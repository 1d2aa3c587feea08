"""Scores of single objects: against counting by brute force, against scikit-image, by hand, and on real cells."""

import time

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.metrics import variation_of_information

from kerasseg.metrics import (
    IOU_THRESHOLDS,
    adapted_rand_f_score,
    average_precision,
    counts_precision,
    detection_counts,
    detections,
    instance_ious,
    isbi_information_score,
    isbi_rand_score,
    isbi_scores,
    seg_score,
    seg_values,
    thin_borders,
)


def random_pair(seed, shape=(13, 17)):
    """Two label images that agree in part, with gaps between the numbers; int64 beyond what fits into 32 bits."""
    rng = np.random.default_rng(seed)
    instances = np.kron(rng.integers(0, 6, (3, 4)), np.ones((5, 5), int))[: shape[0], : shape[1]]
    predicted = np.where(rng.random(shape) < 0.25, rng.integers(0, 4, shape), instances)
    if seed % 2:
        return instances.astype(np.int64) * 7_000_000_001, predicted.astype(np.int64) * 3_000_000_000
    return instances.astype(np.uint16) * 11, predicted.astype(np.uint8)


def sets(labels):
    return [{tuple(p) for p in np.argwhere(labels == k)} for k in np.unique(labels) if k]


def test_objects_equal_brute_force_over_sets_of_pixels():
    for seed in range(6):
        instances, predicted = random_pair(seed)
        true, found = sets(instances), sets(predicted)
        iou = np.array([[len(a & b) / len(a | b) for b in found] for a in true])
        np.testing.assert_allclose(instance_ious(instances, predicted), iou.max(1))
        seg = [sum(len(a & b) / len(a | b) for b in found if len(a & b) > len(a) / 2) for a in true]
        np.testing.assert_allclose(seg_values(instances, predicted), seg)
        assert seg_score(instances, predicted) == pytest.approx(np.mean(seg))
        counts = detection_counts(instances, predicted)
        hits = [(iou > t).sum() for t in IOU_THRESHOLDS]
        np.testing.assert_array_equal(counts, [[h, len(found) - h, len(true) - h] for h in hits])
        assert detections(instances, predicted, 0.75) == tuple(counts[5])
        ap = np.mean([h / (len(found) + len(true) - h) for h in hits])
        assert average_precision(instances, predicted) == pytest.approx(ap)
        assert adapted_rand_f_score(instances, predicted) == pytest.approx(pair_f_score(instances, predicted))


def pair_f_score(instances, predicted, singles=False):
    """F over pairs of pixels of true objects; with `singles` pairs with themselves count and background is apart."""
    true, found = instances[instances > 0], predicted[instances > 0]
    same_true = true[:, None] == true
    same_found = found[:, None] == found
    if singles:
        same_found &= ((found[:, None] > 0) & (found > 0)) | np.eye(len(true), dtype=bool)
    others = np.ones_like(same_true) if singles else ~np.eye(len(true), dtype=bool)
    return 2 * (same_true & same_found & others).sum() / ((same_true & others).sum() + (same_found & others).sum())


def test_isbi_scores_equal_brute_force_and_scikit_image():
    for seed in range(6):
        instances, predicted = random_pair(seed)
        expected = pair_f_score(instances, predicted, singles=True)
        assert isbi_rand_score(instances, predicted, thin=False) == pytest.approx(expected)
        true, found = (np.unique(x[instances > 0], return_inverse=True)[1] for x in (instances, predicted))
        alone = predicted[instances > 0] == 0  # Each a cell of its own.
        found[alone] = found.max() + 1 + np.arange(alone.sum())
        entropies = [-sum(p * np.log2(p) for p in np.bincount(x) / x.size if p) for x in (true, found)]
        expected = 1 - sum(variation_of_information(true, found)) / sum(entropies)
        assert isbi_information_score(instances, predicted, thin=False) == pytest.approx(expected)


def test_isbi_scores_by_hand():
    """Two true cells of 4 pixels; predicted: one of 3, the other as 2 + 2."""
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2]])
    found = np.array([[5, 5, 5, 0, 0, 6, 6, 7, 7]])
    assert isbi_rand_score(truth, found, thin=False) == pytest.approx(2 * (9 + 1 + 4 + 4) / (32 + 9 + 1 + 4 + 4))
    assert isbi_rand_score(truth, truth * 9) == isbi_information_score(truth, truth * 9) == 1
    everything = np.ones_like(truth)  # Merged: half of all pairs are right; nothing is known.
    assert isbi_rand_score(truth, everything) == pytest.approx(2 * 32 / (32 + 64))
    assert isbi_information_score(truth, everything) == pytest.approx(0, abs=1e-12)
    nothing = np.zeros_like(truth)
    assert isbi_rand_score(truth, nothing) == pytest.approx(2 * 8 / (32 + 8))
    assert isbi_information_score(truth, nothing) == pytest.approx(2 * np.log(2) / (np.log(2) + np.log(8)))
    for score in (isbi_rand_score, isbi_information_score):
        assert score(nothing, truth) is None
        assert score(everything, everything) == 1


def test_thinning_grows_cells_until_lines_part_them():
    np.testing.assert_array_equal(thin_borders(np.array([[3, 0, 0, 0, 9]])), [[1, 1, 0, 2, 2]])
    assert np.count_nonzero(thin_borders(np.array([[3, 0, 0, 9]])) == 0) == 1
    np.testing.assert_array_equal(thin_borders(np.array([[0, 7, 0, 0]])), 1)
    np.testing.assert_array_equal(thin_borders(np.array([[4, 5, 0, 5]])), [[1, 2, 2, 2]])  # What touches stays.
    np.testing.assert_array_equal(thin_borders(np.zeros((2, 3), int)), 0)
    instances = np.zeros((40, 60), int)
    instances[5:15, 5:20], instances[22:36, 8:30], instances[3:30, 40:55] = 8, 4, 6
    thin = thin_borders(instances)
    np.testing.assert_array_equal(thin[instances > 0], instances[instances > 0] // 2 - 1)
    lines = thin == 0
    assert 0.01 < lines.mean() < 0.05
    assert not ndimage.binary_erosion(lines, np.ones((3, 3))).any()
    around = [ndimage.maximum_filter(thin, 3), ndimage.minimum_filter(np.where(lines, 99, thin), 3)]
    assert (around[0] != around[1])[lines].all()  # Each pixel of a line lies between two cells.


def test_membranes_of_isbi_2012(real_data):
    truth = np.asarray(Image.open(real_data / "isbi2012" / "train" / "label" / "0.png"))[:256, :256] > 0
    cells = ndimage.label(truth)[0]
    thick = ndimage.binary_erosion(truth, iterations=2)
    rand, information = isbi_scores(cells, thick.astype(float))
    assert min(rand[0], information[0]) > 0.97  # Thick membranes cost next to nothing,
    assert isbi_rand_score(cells, ndimage.label(thick)[0], thin=False) < rand[0] - 0.05
    leaky = truth.copy()
    leaky[100:140] = True  # but leaks do.
    worse = isbi_scores(cells, leaky.astype(float))
    assert worse[0][0] < rand[0] - 0.05
    assert worse[1][0] < information[0] - 0.05
    probability = ndimage.gaussian_filter(truth.astype(float), 2)
    many = isbi_scores(cells, probability, (0.3, 0.5, 0.8))
    assert many[0].shape == many[1].shape == (3,)
    assert many[0][1] == isbi_rand_score(cells, ndimage.label(probability > 0.5)[0])
    assert many[0][2] > many[0][0]  # A high threshold closes the membranes.


def test_average_precision_by_hand():
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 2]])
    found = np.array([[7, 7, 7, 0, 0, 9, 9, 9, 9, 9]])  # IoU 0.75, no hit at 0.75, and 1
    expected = (5 * 2 / 2 + 5 * 1 / 3) / 10
    assert average_precision(truth, found) == pytest.approx(expected)
    nothing = np.zeros_like(truth)
    assert average_precision(truth, nothing) == average_precision(nothing, truth) == 0
    assert average_precision(nothing, nothing) == 1
    pooled = detection_counts(truth, found) + detection_counts(nothing, found)
    np.testing.assert_array_equal(pooled[[0, 9]], [[2, 2, 0], [1, 3, 1]])
    assert counts_precision(pooled) == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)
    for t in IOU_THRESHOLDS:  # An IoU of exactly a threshold is no hit, however it rounds.
        truth, found = np.zeros((2, 100), int), np.zeros((2, 100), int)
        truth[0], found[0, : round(100 * t)] = 1, 1
        assert detection_counts(truth, found, [t])[0, 0] == 0, t
        found[0, : round(100 * t) + 1] = 1
        assert detection_counts(truth, found, [t])[0, 0] == 1, t


def test_seg_by_hand():
    truth = np.array([[4, 4, 4, 4, 0, 6, 6, 8, 8, 8]])
    found = np.array([[1, 1, 3, 3, 3, 2, 2, 2, 2, 0]])  # Half is not more than half; 2 covers both others.
    np.testing.assert_allclose(seg_values(truth, found), [0, 2 / 4, 2 / 5])
    assert seg_score(np.zeros_like(truth), found) is None


def test_thousands_of_objects_take_no_table_of_all_pairs():
    rng = np.random.default_rng(0)
    instances = np.arange(200 * 200).reshape(200, 200).repeat(5, 0).repeat(5, 1)  # 39,999 objects
    shuffled = rng.permutation(40_000)[instances] * 1000
    start = time.process_time()
    counts = detection_counts(instances, np.where(instances == 0, 0, shuffled))
    values = seg_values(instances, np.where(instances == 0, 0, shuffled))
    assert time.process_time() - start < 10
    assert min(counts[:, 0].min(), values.sum()) >= 39_998


def test_real_cells(real_data):
    folder = real_data / "cells" / "ctc" / "PhC-C2DL-PSC" / "01_ST" / "SEG"
    truth = np.asarray(Image.open(sorted(folder.glob("*.tif"))[-1])).astype(np.int64)
    count = len(np.unique(truth)) - 1
    assert count > 300
    np.testing.assert_array_equal(seg_values(truth, truth), np.ones(count))
    assert average_precision(truth, truth) == 1
    shrunk = np.where(ndimage.minimum_filter(truth, 3) == ndimage.maximum_filter(truth, 3), truth, 0)
    sizes, left = np.bincount(truth.ravel()), np.bincount(shrunk.ravel(), minlength=truth.max() + 1)
    there = np.flatnonzero(sizes[1:]) + 1
    share = left[there] / sizes[there]
    np.testing.assert_allclose(seg_values(truth, shrunk), np.where(share > 0.5, share, 0))
    np.testing.assert_allclose(instance_ious(truth, shrunk), share)
    hits = [(share > t).sum() for t in IOU_THRESHOLDS]
    np.testing.assert_array_equal(detection_counts(truth, shrunk)[:, 0], hits)


def test_wrong_labels_are_refused():
    labels = np.ones((3, 3), int)
    with pytest.raises(TypeError, match="predicted objects as integer labels"):
        seg_score(labels, labels.astype(float))
    with pytest.raises(ValueError, match=r"true objects as labels from 0 \(none\) up, received -1"):
        instance_ious(-labels, labels)
    with pytest.raises(ValueError, match="of one shape"):
        average_precision(labels, labels[:2])
    with pytest.raises(ValueError, match="from 0.5 to below 1, received 0.3"):
        average_precision(labels, labels, [0.5, 0.3])
    with pytest.raises(ValueError, match="at least one true cell"):
        isbi_scores(labels * 0, labels / 2)
    with pytest.raises(ValueError, match="of the truth's shape"):
        isbi_scores(labels, labels[:2] / 2)
    with pytest.raises(ValueError, match=r"objects as integers \[H, W\]"):
        thin_borders(labels / 2)
    for empty in (np.zeros((0, 4), int), np.zeros((1, 1), np.uint8)):
        assert seg_values(empty, empty).size == instance_ious(empty, empty).size == 0
        assert adapted_rand_f_score(empty, empty) is isbi_rand_score(empty, empty, thin=False) is None
