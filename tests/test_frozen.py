"""The exported graph: normalisation folded into convolutions, and nothing changed by it but rounding."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from _rounding import rounding
from tensorflow import keras

import kerasseg.models
from kerasseg.export import frozen, saved_model
from kerasseg.inference import Segmenter

# Network, options, side, and how many normalisations no convolution precedes: ResNet-v2 has them after sums.
# SegNet keeps all of them, for its unpooling would follow other maxima.
CASES = [
    ("deeplab_v3", {"width": 1 / 8}, 65, 17),
    ("unet", {"filters": 4, "batch_norm": True}, 188, 0),
    ("segnet", {"width": 1 / 8}, 65, 25),
]


def shaken(model, seed=0):
    """Gives normalisations and biases values that matter."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        names = [weight.name.split("/")[-1].split(":")[0] for weight in layer.weights]
        values = [
            rng.uniform(0.5, 1.5, value.shape)
            if name in ("gamma", "moving_variance")
            else rng.normal(0, 0.2, value.shape)
            if name in ("beta", "moving_mean", "bias")
            else value
            for name, value in zip(names, layer.get_weights(), strict=True)
        ]
        layer.set_weights(values)
    return model


def operations(function):
    graph = function.get_concrete_function().graph.as_graph_def()
    return collections.Counter(node.op for node in graph.node)


@pytest.mark.parametrize(("name", "options", "side", "left"), CASES)
def test_folding_changes_nothing_but_rounding(name, options, side, left):
    keras.utils.set_random_seed(0)
    model = shaken(getattr(kerasseg.models, name)(3, **options))
    images = np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype(np.float32)
    expected = model(images, training=False).numpy()
    network = frozen(model)
    assert operations(network)["FusedBatchNormV3"] == left
    np.testing.assert_allclose(network(tf.constant(images)), expected, rtol=0, atol=rounding(model, expected))


def test_a_normalisation_is_left_alone_where_something_else_reads_the_convolution():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    depthwise = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    folded = keras.layers.BatchNormalization()(depthwise)
    both = keras.layers.Concatenate()([x, keras.layers.BatchNormalization()(x), folded])
    model = shaken(keras.Model(image, keras.layers.Conv2D(2, 1)(both)))
    images = np.random.default_rng(1).normal(size=(1, 9, 8, 3)).astype(np.float32)
    expected = model(images, training=False).numpy()
    np.testing.assert_allclose(frozen(model)(tf.constant(images)), expected, atol=1e-5)


@pytest.mark.parametrize(("weights", "tolerance"), [("bfloat16", 2**-6), ("float16", 2**-9)])
def test_weights_in_16_bits(weights, tolerance, tmp_path):
    keras.utils.set_random_seed(0)
    model = shaken(kerasseg.models.unet(3, filters=16, depth=2, padding="same", batch_norm=True))
    image = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)
    expected = model(image[None].astype(np.float32), training=False).numpy()
    found = frozen(model, weights)(tf.constant(image[None], tf.float32)).numpy()
    assert 0 < np.abs(found - expected).max() < tolerance * np.abs(expected).max()
    network = frozen(model, weights, constants=False)
    assert {variable.dtype.name for variable in network.get_concrete_function().variables} == {"float32", weights}
    np.testing.assert_allclose(network(tf.constant(image[None], tf.float32)), found, atol=1e-5 * np.abs(found).max())
    whole, half = (saved_model(model, tmp_path / w, weights=w, images=[image]) for w in ("float32", weights))
    size = {v: sum(path.stat().st_size for path in v.rglob("*") if path.is_file()) for v in (whole, half)}
    assert size[half] < 0.6 * size[whole]
    served = tf.saved_model.load(str(half)).signatures["serving_default"](tf.constant(image[None]))
    assert (served["segmentation_map"].numpy()[0] == Segmenter(model).segment(image)).mean() > 0.9


def test_arguments_are_checked():
    image = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="weights must be one of float32, bfloat16, float16, got 'int8'"):
        frozen(keras.Model(image, keras.layers.Conv2D(2, 1)(image)), "int8")
