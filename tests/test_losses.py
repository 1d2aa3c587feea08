"""Cross-entropy: values by brute force, gradients by finite differences, and what ignored pixels do."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.losses import CrossEntropy

K = 4


def random_case(seed=0, shape=(2, 5, 6), ignored=0.3):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, K, shape)
    mask[rng.uniform(size=shape) < ignored] = 255
    return mask, rng.normal(0, 3, (*shape, K)).astype(np.float32)


def brute_force(mask, logits, class_weights=(1,) * K, pixel_weights=None, reduction="valid_mean", ignore_label=255):
    total, count = 0.0, 0
    for index in np.ndindex(mask.shape):
        if mask[index] == ignore_label:
            continue
        z = logits[index].astype(np.float64)
        weight = class_weights[mask[index]] * (1 if pixel_weights is None else pixel_weights[index])
        total += weight * (np.log(np.exp(z - z.max()).sum()) + z.max() - z[mask[index]])
        count += weight != 0
    return total if reduction == "sum" else total / count if count else 0.0


@pytest.mark.parametrize("reduction", ["valid_mean", "sum"])
@pytest.mark.parametrize("class_weights", [None, [1.0, 0.0, 2.5, 0.1]])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("way", ["eager", "graph", "xla"])
def test_value_against_brute_force(reduction, class_weights, weighted, way):
    mask, logits = random_case()
    weights = np.random.default_rng(1).integers(0, 3, mask.shape).astype(np.float32) if weighted else None
    loss = CrossEntropy(class_weights=class_weights, reduction=reduction)
    value = (loss if way == "eager" else tf.function(loss, jit_compile=way == "xla"))(mask, logits, weights)
    assert value.dtype == tf.float32
    assert value.shape == ()
    expected = brute_force(mask, logits, class_weights or (1,) * K, weights, reduction)
    assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["valid_mean", "sum"])
def test_gradient_against_finite_differences(reduction):
    mask, logits = random_case(shape=(1, 3, 3))
    weights = np.random.default_rng(1).uniform(0, 2, mask.shape)
    options = {"class_weights": [1.0, 0.5, 2.0, 0.0], "reduction": reduction}
    z = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = CrossEntropy(**options)(mask, z, weights)
    gradient = tape.gradient(value, z).numpy()
    step = 1e-5
    for index in np.ndindex(logits.shape):
        up, down = logits.astype(np.float64), logits.astype(np.float64)
        up[index] += step
        down[index] -= step
        slope = [brute_force(mask, side, options["class_weights"], weights, reduction) for side in (up, down)]
        assert gradient[index] == pytest.approx((slope[0] - slope[1]) / (2 * step), abs=1e-5)
    assert np.all(gradient[mask == 255] == 0)


def test_equals_keras_without_ignored_pixels():
    mask, logits = random_case(ignored=0)
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(CrossEntropy()(mask, logits)) == pytest.approx(float(keras_loss(mask, logits)), rel=1e-6)


def test_nothing_valid_gives_zero_and_no_gradient():
    logits = tf.Variable(tf.random.normal([2, 3, 3, K]))
    for mask, weight in ((tf.fill([2, 3, 3], 255), None), (tf.zeros([2, 3, 3], tf.int32), tf.zeros([2, 3, 3]))):
        with tf.GradientTape() as tape:
            value = CrossEntropy()(mask, logits, weight)
        assert float(value) == 0
        assert not np.any(tape.gradient(value, logits).numpy())


def test_ignored_pixels_change_nothing():
    mask, logits = random_case()
    other = np.where((mask == 255)[..., None], -7, logits)
    assert float(CrossEntropy()(mask, logits)) == float(CrossEntropy()(mask, other))


def test_another_ignore_label_and_none():
    mask, logits = random_case(ignored=0)
    assert float(CrossEntropy(ignore_label=2)(mask, logits)) == pytest.approx(
        brute_force(mask, logits, ignore_label=2), rel=1e-5
    )
    assert float(CrossEntropy(ignore_label=None)(mask, logits)) == pytest.approx(brute_force(mask, logits), rel=1e-5)


def test_weights_of_images_and_masks_with_a_last_axis():
    mask, logits = random_case()
    spread = np.broadcast_to(np.array([1.0, 3.0])[:, None, None], mask.shape)
    value = float(CrossEntropy()(mask[..., None], logits, np.array([1.0, 3.0])))
    assert value == pytest.approx(brute_force(mask, logits, pixel_weights=spread), rel=1e-5)


def test_larger_masks_and_weights_are_cut_to_the_centre():
    mask, logits = random_case(shape=(2, 8, 9))
    weights = np.random.default_rng(2).uniform(size=mask.shape)
    inner = (slice(None), slice(2, 5), slice(1, 7))
    value = float(CrossEntropy()(mask, logits[inner], weights))
    assert value == pytest.approx(brute_force(mask[inner], logits[inner], pixel_weights=weights[inner]), rel=1e-5)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("label", [K, -1, 254])
def test_labels_outside_the_classes_stop_with_a_clear_message(graph, label):
    loss = tf.function(CrossEntropy()) if graph else CrossEntropy()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected labels 0\.\.3 in the mask; check num_classes"):
        loss(tf.fill([1, 2, 2], label), tf.zeros([1, 2, 2, K]))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="'valid_mean' or 'sum', received 'mean'"):
        CrossEntropy(reduction="mean")
    with pytest.raises(ValueError, match="finite numbers of at least 0"):
        CrossEntropy(class_weights=[1, -1])
    with pytest.raises(ValueError, match="expected 4 class_weights, one a class, received 3"):
        CrossEntropy(class_weights=[1, 1, 1])(tf.zeros([1, 2, 2]), tf.zeros([1, 2, 2, K]))
    with pytest.raises(ValueError, match="at least as large as the logits, received W 2 < 3"):
        CrossEntropy()(tf.zeros([1, 2, 2]), tf.zeros([1, 2, 3, K]))


def test_config_round_trip():
    loss = CrossEntropy(ignore_label=7, class_weights=np.array([1, 2, 3, 4.5]), reduction="sum", name="ce")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, CrossEntropy)
    assert again.get_config() == loss.get_config()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_logits_are_reduced_in_float32(precision):
    """300 000 pixels: their sum overflows float16, and bfloat16 counts to 256."""
    logits = tf.cast(tf.random.normal([3, 316, 317, K]) * 3, precision)
    mask = tf.random.uniform(logits.shape[:3], 0, K, tf.int32)
    value = CrossEntropy()(mask, logits)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(float(CrossEntropy()(mask, tf.cast(logits, tf.float32))), rel=1e-6)


def test_fit_reports_the_loss_and_honours_pixel_weights():
    mask, _ = random_case(shape=(4, 6, 6))
    image = np.random.default_rng(3).normal(size=(4, 6, 6, 3)).astype(np.float32)
    weights = np.random.default_rng(4).integers(0, 3, mask.shape).astype(np.float32)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(K, 1)])
    model.compile(keras.optimizers.SGD(0.0), CrossEntropy(), jit_compile=False)
    data = tf.data.Dataset.from_tensors((image, mask, weights))
    reported = model.fit(data, verbose=0, shuffle=False).history["loss"][0]
    assert reported == pytest.approx(brute_force(mask, model(image).numpy(), pixel_weights=weights), rel=1e-5)
