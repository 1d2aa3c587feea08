"""DeconvNet's windows, proposals and masks: against NumPy loops, on real photographs with their objects."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasseg import augment, records


def overlap(a, b, cells=400):
    """IoU by counting the points of a fine grid that lie in both boxes, or in either."""
    points = (np.arange(cells) + 0.5) / cells
    inside = [
        np.outer((points >= box[0]) & (points < box[2]), (points >= box[1]) & (points < box[3])) for box in (a, b)
    ]
    either = (inside[0] | inside[1]).sum()
    return (inside[0] & inside[1]).sum() / either if either else 0.0


def random_boxes(rng, number):
    return np.sort(rng.random((number, 2, 2)), axis=1).reshape(number, 4).astype(np.float32)


def test_iou_is_what_counting_points_gives():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 7), random_boxes(rng, 5)
    found = augment.iou(tf.constant(a), tf.constant(b)).numpy()
    np.testing.assert_allclose(found, [[overlap(x, y) for y in b] for x in a], atol=0.02)
    np.testing.assert_allclose(np.diag(augment.iou(tf.constant(a), tf.constant(a))), 1, atol=1e-6)
    apart = augment.iou(tf.constant([[0, 0, 0.5, 0.5]]), tf.constant([[0.5, 0, 1, 0.5], [0.2, 0.2, 0.2, 0.2]]))
    np.testing.assert_array_equal(apart, [[0, 0]])
    assert augment.iou(tf.zeros([0, 4]), tf.constant(b)).shape == (0, 5)


def voc_objects(real_data):
    """Yields mask, instances and boxes of the real photographs that have objects numbered."""
    root = real_data / "voc/VOCdevkit/VOC2012"
    for path in sorted((root / "SegmentationObject").glob("*.png")):
        mask = np.asarray(Image.open(root / "SegmentationClass" / path.name))
        instances = np.asarray(Image.open(path)).astype(np.uint16)
        instances[instances == 255] = 0
        yield path.stem, mask, instances, *records.object_boxes(instances, mask)


def test_windows_of_real_objects(real_data):
    """The window is 1.2 times the box that NumPy finds, about its centre; with 1 it holds exactly the object."""
    count = 0
    for _, mask, instances, boxes, _ in voc_objects(real_data):
        numbers = np.unique(instances[instances > 0])
        for i, number in enumerate(numbers):
            rows, columns = np.nonzero(instances == number)
            exact = np.array([rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1])
            tight = augment.object_window(boxes, i, mask.shape, enlarge=1.0)
            np.testing.assert_allclose(tight, exact, atol=1e-3)
            top, left, height, width = (v.numpy() for v in augment.object_window(boxes, i, mask.shape))
            np.testing.assert_allclose([height, width], 1.2 * exact[2:], rtol=1e-4)
            np.testing.assert_allclose(
                [top + height / 2, left + width / 2], exact[:2] + exact[2:] / 2, rtol=1e-4, atol=1e-3
            )
            count += 1
    assert count > 30


def test_every_object_is_drawn_equally_often_and_none_is_the_whole_image():
    boxes = random_boxes(np.random.default_rng(1), 4)
    draw = tf.function(lambda u: tf.stack(augment.object_window(boxes, u, [100, 50], 1.0)))
    windows = [tuple(draw(tf.constant(u, tf.float32)).numpy()) for u in (np.arange(40) + 0.5) / 40]
    assert [windows.count(window) for window in dict.fromkeys(windows)] == [10] * 4
    expected = boxes[0] * [100, 50, 100, 50]
    np.testing.assert_allclose(windows[0][:2], expected[:2], atol=1e-4)
    assert tuple(draw(tf.constant(np.nextafter(np.float32(1), np.float32(0)))).numpy()) == windows[-1]
    whole = augment.object_window(tf.zeros([0, 4]), tf.constant(0.3), [100, 50])
    np.testing.assert_array_equal(whole, [0, 0, 100, 50])


def test_proposals_that_overlap_real_objects(real_data):
    """Those chosen are exactly those that a loop finds to overlap some object by half or more."""
    rng, drawn = np.random.default_rng(2), 0
    choose = tf.function(augment.choose_proposal, reduce_retracing=True)
    for _, _, _, objects, _ in voc_objects(real_data):
        near = objects[rng.integers(len(objects), size=12)] + rng.normal(0, 0.08, (12, 4))
        proposals = np.concatenate([random_boxes(rng, 12), np.clip(near, 0, 1)]).astype(np.float32)
        proposals = proposals[(proposals[:, 2:] > proposals[:, :2]).all(axis=1)]
        best = [max(exact_iou(p, o) for o in objects) for p in proposals]
        good = [tuple(p) for p, v in zip(proposals, best, strict=True) if v >= 0.5]
        uniforms = (np.arange(2 * max(len(good), len(objects))) + 0.5) / (2 * max(len(good), len(objects)))
        chosen = [tuple(choose(proposals, objects, tf.constant(u, tf.float32)).numpy()) for u in uniforms]
        expected = good or [tuple(o) for o in objects]
        assert set(chosen) == set(expected)
        drawn += bool(good)
    assert drawn > 15


def exact_iou(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(sides, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def test_without_good_proposals_an_object_is_taken_and_without_objects_the_whole_image():
    objects = np.array([[0, 0, 0.2, 0.2], [0.5, 0.5, 1, 1]], np.float32)
    proposals = np.array([[0, 0, 1, 1]], np.float32)
    for u, expected in ((0.1, objects[0]), (0.9, objects[1])):
        np.testing.assert_array_equal(augment.choose_proposal(proposals, objects, u), expected)
        np.testing.assert_array_equal(augment.choose_proposal(proposals[:0], objects, u), expected)
    np.testing.assert_array_equal(augment.choose_proposal(proposals, objects, 0.1, min_iou=0.2), proposals[0])
    np.testing.assert_array_equal(augment.choose_proposal(proposals, objects[:0], 0.1), [0, 0, 1, 1])


def test_jittered_boxes_overlap_their_object_and_differ():
    rng = np.random.default_rng(3)
    objects = np.array([[0.3, 0.3, 0.6, 0.7], [0, 0.4, 0.1, 1]], np.float32)
    jitter = tf.function(augment.jittered_box)
    found = {0: [], 1: []}
    for i in range(200):
        uniforms = tf.constant(rng.random((16, 4)), tf.float32)
        box = jitter(objects, tf.constant((i % 2 + 0.5) / 2, tf.float32), uniforms).numpy()
        assert (box >= 0).all()
        assert (box <= 1).all()
        assert exact_iou(box, objects[i % 2]) >= 0.5 - 1e-6
        found[i % 2].append(tuple(box))
    assert all(len(set(boxes)) == 100 for boxes in found.values())
    sides = np.array(found[0])[:, 2:] - np.array(found[0])[:, :2]
    assert 0.66 < (sides / [0.3, 0.4]).min() < 0.75
    assert 1.35 < (sides / [0.3, 0.4]).max() < 1.51


def test_the_first_candidate_that_is_good_enough_is_taken_else_the_box():
    objects = np.array([[0.2, 0.2, 0.6, 0.6]], np.float32)
    far, same, near = [0.99] * 4, [0.5] * 4, [0.6, 0.5, 0.5, 0.5]
    np.testing.assert_allclose(augment.jittered_box(objects, 0.0, tf.constant([far, near, same])),
                               [0.224, 0.2, 0.624, 0.6], atol=1e-6)  # fmt: skip
    np.testing.assert_array_equal(augment.jittered_box(objects, 0.0, tf.constant([far, far])), objects[0])
    np.testing.assert_array_equal(augment.jittered_box(objects[:0], 0.0, tf.constant([same])), [0, 0, 1, 1])


def test_one_class_of_real_masks_is_kept(real_data):
    for _, mask, _, _, labels in voc_objects(real_data):
        for label in np.unique(labels):
            expected = mask.copy()
            for other in set(np.unique(mask)) - {label, 255}:
                expected[mask == other] = 0
            kept = augment.keep_class(tf.constant(mask), tf.constant(label))
            assert kept.dtype == tf.uint8
            np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_ignored_pixels_stay_ignored(dtype):
    mask = np.array([[0, 3, 7, 255]], dtype)
    np.testing.assert_array_equal(augment.keep_class(mask, 3), [[0, 3, 0, 255]])
    np.testing.assert_array_equal(augment.keep_class(mask, 3, background=1, ignore_label=7), [[1, 3, 7, 1]])


def test_rim_targets_are_those_of_conversion(real_data):
    """Neither touching objects nor the image's edge make a difference; ignored pixels stay."""
    for _, mask, instances, *_ in list(voc_objects(real_data))[:4]:
        instances = instances.astype(np.int32)
        expected = records.instance_targets(instances, "rim").astype(np.int32)
        expected[mask == 255] = 255
        found = augment.rim_targets(mask.astype(np.int32)[None], instances[None])
        np.testing.assert_array_equal(found[0], expected)
