"""Confusion matrix, scores and MeanIoU: by hand, by brute force, and against the original's values."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import metrics
from kerasseg.losses import CrossEntropy
from kerasseg.metrics import AllScores, MeanIoU, confusion_matrix, scores


def brute_force(mask, predicted, num_classes, ignore_label=255):
    counts = np.zeros((num_classes, num_classes), np.int64)
    for true, guess in zip(mask.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if true != ignore_label:
            counts[true, guess] += 1
    return counts


def in_graph(metric, **options):
    def update(mask, predicted):
        metric.update_state(mask, predicted)

    return tf.function(update, **options)


def random_case(num_classes=5, shape=(3, 13, 9), seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, num_classes, shape).astype(np.uint8)
    mask[rng.uniform(size=shape) < 0.2] = 255
    return mask, rng.integers(0, num_classes, shape).astype(np.uint8)


def test_background_everywhere_by_hand():
    """Of 12 pixels 6 are background, 3 class 1, 1 class 2, 2 void; class 3 does not occur."""
    mask = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 2, 255, 255]], np.uint8)
    counts = confusion_matrix(mask, np.zeros_like(mask), 4)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, [[6, 0, 0, 0], [3, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    result = scores(counts, ["background", "cat", "dog", "cow"])
    assert result["mean_iou"] == pytest.approx((6 / 10 + 0 + 0) / 3)
    assert result["pixel_accuracy"] == pytest.approx(6 / 10)
    assert result["mean_accuracy"] == pytest.approx(1 / 3)
    assert result["frequency_weighted_iou"] == pytest.approx(0.6 * 0.6)
    assert result["per_class_iou"] == {"background": pytest.approx(0.6), "cat": 0, "dog": 0}
    assert result["absent_classes"] == ["cow"]
    json.dumps(result, allow_nan=False)


def test_a_class_that_is_only_predicted_counts_in_the_mean_iou():
    counts = confusion_matrix(np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), 4)
    result = scores(counts)
    assert result["mean_iou"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result["mean_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert result["absent_classes"] == ["3"]


def test_what_is_predicted_at_ignored_pixels_never_counts():
    mask, predicted = random_case()
    other = np.where(mask == 255, (predicted + 1) % 5, predicted)
    beyond = np.where(mask == 255, 77, predicted)
    expected = confusion_matrix(mask, predicted, 5)
    np.testing.assert_array_equal(confusion_matrix(mask, other, 5), expected)
    np.testing.assert_array_equal(confusion_matrix(mask, beyond, 5), expected)
    assert expected.sum() == (mask != 255).sum()


def test_agrees_with_brute_force_and_adds_up():
    mask, predicted = random_case()
    whole = confusion_matrix(mask, predicted, 5)
    np.testing.assert_array_equal(whole, brute_force(mask, predicted, 5))
    np.testing.assert_array_equal(whole, sum(confusion_matrix(m, p, 5) for m, p in zip(mask, predicted, strict=True)))


def test_no_pixels_at_all_give_zeros_and_only_absent_classes():
    result = scores(np.zeros((3, 3), np.int64))
    assert (result["mean_iou"], result["per_class_iou"], result["absent_classes"]) == (0, {}, ["0", "1", "2"])


@pytest.mark.parametrize(
    ("mask", "predicted", "message"),
    [
        ([[0, 7]], [[0, 0]], r"expected labels 0..2 in the mask, received \[7\] at 1 pixels"),
        ([[0, -1]], [[0, 0]], r"received \[-1\]"),
        ([[0, 1]], [[0, 3]], "in the prediction"),
        ([[0, 1]], [[0, 1, 1]], r"one shape, received \(1, 2\) and \(1, 3\)"),
    ],
)
def test_bad_labels_and_shapes_are_refused(mask, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(mask), np.array(predicted), 3)


def test_logits_are_refused_where_class_ids_are_expected():
    with pytest.raises(TypeError, match="take argmax"):
        confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 2), np.float32), 3)


def test_original_metrics(oracle):
    """Each of the seven cases alone, and the mean over them all as the original takes it over a split."""
    arrays = np.load(oracle / "data" / "metrics.npz")
    expected = json.loads((oracle / "data" / "metrics.json").read_text())
    matrices = [
        confusion_matrix(arrays[f"m{i}_gt"], arrays[f"m{i}_pred"], 256, ignore_label=None) for i in range(len(expected))
    ]
    assert len(matrices) == 7
    for ours, theirs in [
        ("pixel_accuracy", "pixel_accuracy"),
        ("mean_accuracy", "mean_accuracy"),
        ("mean_iou", "mean_IU"),
        ("frequency_weighted_iou", "frequency_weighted_IU"),
    ]:
        for matrix, values in zip(matrices, expected, strict=True):
            result = scores(matrix[None], per_image=True)[ours]
            assert result == pytest.approx(values[theirs], abs=1e-12), (ours, values["description"])
            if ours != "mean_iou":  # The one that differs from that of the split.
                assert scores(matrix)[ours] == pytest.approx(result, abs=1e-12), ours
        mean = np.mean([values[theirs] for values in expected])
        assert scores(matrices, per_image=True)[ours] == pytest.approx(mean, abs=1e-12), ours


def test_means_over_images_by_hand():
    """Image 0: truth 0 0 0 1, predicted 0 0 2 1. Image 1: truth 1 1, predicted 1 0. Image 2: all void."""
    pairs = [([0, 0, 0, 1], [0, 0, 2, 1]), ([1, 1], [1, 0]), ([255, 255], [0, 1])]
    matrices = [confusion_matrix(np.array(mask), np.array(predicted), 4) for mask, predicted in pairs]
    result = scores(matrices, ["sky", "road", "tree", "car"], per_image=True)
    assert result["mean_iou"] == pytest.approx(((2 / 3 + 1) / 2 + 1 / 2) / 2)  # tree, only predicted, counts nowhere
    assert result["pixel_accuracy"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert result["mean_accuracy"] == pytest.approx(((2 / 3 + 1) / 2 + 1 / 2) / 2)
    assert result["frequency_weighted_iou"] == pytest.approx(((3 * 2 / 3 + 1) / 4 + 1 / 2) / 2)
    assert result["per_class_iou"] == {"sky": pytest.approx(2 / 3), "road": pytest.approx((1 + 1 / 2) / 2)}
    assert result["absent_classes"] == ["tree", "car"]
    json.dumps(result, allow_nan=False)
    empty = scores(np.zeros((0, 4, 4)), per_image=True)
    assert (empty["mean_iou"], empty["per_class_iou"]) == (0, {})
    with pytest.raises(ValueError, match=r"expected confusion matrices \[N, K, K\], received shape \(4, 4\)"):
        scores(matrices[0], per_image=True)
    with pytest.raises(ValueError, match=r"expected a confusion matrix \[K, K\], received shape \(3, 4, 4\)"):
        scores(matrices)


def test_scores_equal_those_of_scikit_learn():
    """On the whole split, and image by image."""
    learn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    mask, predicted = random_case()
    counts = mask != 255
    result = scores(confusion_matrix(mask, predicted, 5))
    truth, guess = mask[counts], predicted[counts]
    assert result["mean_iou"] == pytest.approx(learn.jaccard_score(truth, guess, average="macro"), abs=1e-12)
    weighted = learn.jaccard_score(truth, guess, average="weighted")
    assert result["frequency_weighted_iou"] == pytest.approx(weighted, abs=1e-12)
    assert result["mean_accuracy"] == pytest.approx(learn.balanced_accuracy_score(truth, guess), abs=1e-12)
    matrices, ious = [], []
    for m, p in zip(mask, predicted, strict=True):
        matrices.append(confusion_matrix(m, p, 5))
        truth, guess = m[m != 255], p[m != 255]
        ious.append(learn.jaccard_score(truth, guess, labels=np.unique(truth), average="macro"))
    assert scores(matrices, per_image=True)["mean_iou"] == pytest.approx(np.mean(ious), abs=1e-12)


def test_original_streaming_mean_iou(oracle):
    arrays = np.load(oracle / "data" / "metrics.npz")
    expected = json.loads((oracle / "data" / "streaming_miou.json").read_text())
    metric = MeanIoU(expected["num_classes"])
    for case, key in ((0, "after_case0"), (1, "after_case0_and_case1")):
        metric.update_state(arrays[f"m{case}_gt"][None], arrays[f"m{case}_pred"][None].astype(np.int32))
        key = key if key in expected else f"streaming_mean_iou_{key}"
        assert float(metric.result()) == pytest.approx(expected[key], abs=1e-6)


@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
def test_mean_iou_over_batches_equals_numpy(way):
    metric = MeanIoU(5)
    update = metric.update_state if way == "eager" else in_graph(metric, jit_compile=way == "xla")
    mask, predicted = random_case(shape=(6, 13, 9))
    for start in (0, 2, 4):
        logits = np.eye(5, dtype=np.float32)[predicted[start : start + 2]]
        update(tf.constant(mask[start : start + 2]), tf.constant(logits))
    np.testing.assert_array_equal(metric.confusion_matrix(), brute_force(mask, predicted, 5))
    assert float(metric.result()) == pytest.approx(scores(brute_force(mask, predicted, 5))["mean_iou"], abs=1e-12)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_mean_iou_equals_keras_on_ids_without_ignored_pixels():
    mask, predicted = random_case()
    mask[mask == 255] = 0
    ours, theirs = MeanIoU(5), keras.metrics.MeanIoU(5)
    for metric in (ours, theirs):
        metric.update_state(mask, predicted)
    assert float(ours.result()) == pytest.approx(float(theirs.result()), abs=1e-6)


def test_a_mask_larger_than_the_logits_is_cut_to_its_centre():
    mask, predicted = random_case(shape=(2, 12, 10))
    wide = np.pad(mask, ((0, 0), (2, 3), (4, 4)), constant_values=3)
    metric = MeanIoU(5)
    metric.update_state(wide[..., None], np.eye(5, dtype=np.float32)[predicted])
    np.testing.assert_array_equal(metric.confusion_matrix(), brute_force(mask, predicted, 5))
    with pytest.raises(ValueError, match="at least as large as the prediction, received H 12 < 17"):
        metric.update_state(mask, np.zeros((2, 17, 18), np.int32))


def test_counts_stay_exact_above_two_to_the_24():
    metric = MeanIoU(2)
    mask = tf.zeros([1, 4096, 4097], tf.int32)
    metric.update_state(mask, mask)
    metric.update_state(mask[:, :1, :1], 1 - mask[:, :1, :1])
    np.testing.assert_array_equal(metric.confusion_matrix(), [[4096 * 4097, 1], [0, 0]])
    assert 4096 * 4097 > 2**24


@pytest.mark.parametrize("graph", [False, True])
def test_labels_outside_the_classes_stop_with_a_clear_message(graph):
    metric = MeanIoU(3)
    update = in_graph(metric) if graph else metric.update_state
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected labels 0\.\.2 in the mask; check num_classes"):
        update(tf.fill([1, 2, 2], 7), tf.zeros([1, 2, 2, 3]))


@pytest.mark.parametrize("ignore_label", [None, 255, 3, 1, -1, 70000])
def test_every_label_that_is_no_class_is_found_and_the_ignored_one_is_not(ignore_label):
    metric = MeanIoU(3, ignore_label=ignore_label)
    ignored = 0 if ignore_label is None else ignore_label
    for label in (-1, -(2**31), 3, 4, 255, 256, 1024, 70000, 2**31 - 1, 195225787):
        good, bad = tf.constant([[[0, 2, ignored]]]), tf.constant([[[0, 2, label]]])
        if label != ignore_label:
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"0\.\.2 in the mask"):
                metric.update_state(bad, tf.zeros_like(bad))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"0\.\.2 in the prediction"):
            metric.update_state(tf.where(bad == label, 2, 0), bad)
        if ignore_label is not None:
            metric.update_state(good, tf.where(good == ignored, label, good))
    expected = np.diag([10, 0, 10]) if ignore_label is not None else np.zeros((3, 3))
    np.testing.assert_array_equal(metric.confusion_matrix(), expected)


def test_weights_and_wrong_predictions_are_refused():
    metric = MeanIoU(3)
    with pytest.raises(ValueError, match="takes no weights"):
        metric.update_state(tf.zeros([1, 2, 2], tf.int32), tf.zeros([1, 2, 2, 3]), sample_weight=tf.ones([1]))
    with pytest.raises(ValueError, match=r"expected logits \[B, H, W, 3\]"):
        metric.update_state(tf.zeros([1, 2, 2], tf.int32), tf.zeros([1, 2, 2, 4]))
    with pytest.raises(ValueError, match="or integer class ids"):
        metric.update_state(tf.zeros([1, 2, 2], tf.int32), tf.zeros([1, 2, 2]))


def test_config_round_trip():
    metric = MeanIoU(7, ignore_label=None, name="score")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.num_classes, again.ignore_label, again.name) == (7, None, "score")


@pytest.mark.parametrize("name", ["PixelAccuracy", "MeanAccuracy", "FrequencyWeightedIoU", "MeanIoU"])
def test_each_score_as_a_metric_equals_numpy(name):
    mask, predicted = random_case(7)
    for label in (2, 5):  # 2 is only predicted, 5 occurs nowhere
        mask[mask == label] = 0
    predicted[predicted == 5] = 1
    metric = getattr(metrics, name)(7)
    metric.update_state(mask, predicted.astype(np.int32))
    result = scores(brute_force(mask, predicted, 7))
    assert float(metric.result()) == pytest.approx(result[metric.name], abs=1e-12)
    assert metric.scores() == result
    assert metric.scores(list("abcdefg"))["absent_classes"] == ["f"]
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (type(again), again.get_config()) == (type(metric), metric.get_config())
    metric.reset_state()
    assert float(metric.result()) == 0


def test_all_scores_in_fit_come_from_one_matrix():
    mask, _ = random_case(4, (4, 6, 6))
    mask[mask == 3] = 2
    image = np.random.default_rng(1).normal(size=(*mask.shape, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 1)])
    kernel, bias = model.get_weights()
    model.set_weights([kernel, bias - [0, 0, 0, 1e3]])
    metric = AllScores(4, ["sky", "road", "tree", "car"])
    model.compile("sgd", CrossEntropy(), metrics=[metric])
    logs = model.evaluate(image, mask, batch_size=2, verbose=0, return_dict=True)
    expected = scores(confusion_matrix(mask, model.predict(image, verbose=0).argmax(-1), 4), metric.class_names)
    per_class, absent = expected.pop("per_class_iou"), expected.pop("absent_classes")
    assert absent == ["car"]
    for name, value in {**expected, **{f"iou_{name}": value for name, value in per_class.items()}}.items():
        assert logs[name] == pytest.approx(value, abs=1e-6), name
    assert np.isnan(logs["iou_car"])
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    for names in (["a", "b"], ["a", "a", "b", "c"]):
        with pytest.raises(ValueError, match="expected 4 different class names"):
            AllScores(4, names)


def test_one_logit_stands_for_two_classes():
    mask, _ = random_case(2)
    logits = np.random.default_rng(1).normal(size=(*mask.shape, 1)).astype(np.float32)
    metric = MeanIoU(2)
    metric.update_state(mask, logits)
    np.testing.assert_array_equal(metric.confusion_matrix(), brute_force(mask, (logits[..., 0] > 0).astype(int), 2))
    with pytest.raises(ValueError, match=r"expected logits \[B, H, W, 3\]"):
        MeanIoU(3).update_state(mask, logits)
