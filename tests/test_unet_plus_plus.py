"""UNet++: counts, wiring, deep supervision, pruning."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.export import saved_model
from kerasseg.inference import Segmenter, evaluate, predict_tiled
from kerasseg.layers import size_rules
from kerasseg.models import unet, unet_plus_plus, unet_plus_plus_averaged, unet_plus_plus_pruned


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def random_image(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def with_biases(model):
    """Returns the model with biases other than their initial 0."""
    rng = np.random.default_rng(1)
    for w in model.weights:
        if len(w.shape) == 1:
            w.assign(rng.normal(0, 0.1, w.shape))
    return model


@pytest.mark.parametrize(
    ("channels", "classes", "deep_supervision", "count"),
    [(1, 1, False, 9_041_601), (1, 1, True, 9_041_700), (3, 21, False, 9_042_837), (3, 21, True, 9_044_916)],
)
def test_parameter_counts(channels, classes, deep_supervision, count, zero_weights):
    with zero_weights():
        model = unet_plus_plus(classes, input_shape=(None, None, channels), deep_supervision=deep_supervision)
    assert model.count_params() == count


def test_parameter_counts_of_the_pruned_networks(zero_weights):
    with zero_weights():
        model = unet_plus_plus(1, input_shape=(None, None, 1), deep_supervision=True)
    counts = [unet_plus_plus_pruned(model, level).count_params() for level in (1, 2, 3, 4)]
    assert counts == [100_961, 511_105, 2_204_961, 9_041_601]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_each_node_reads_the_map_below_and_then_its_row(depth):
    model = unet_plus_plus(2, filters=1, depth=depth, deep_supervision=True)

    def output(i, j):
        return model.get_layer(f"node{i}_{j}_dropout2").output

    for i in range(1, depth + 1):
        assert model.get_layer(f"node{i}_0_pool").input is output(i - 1, 0)
    nodes = [(i, j) for j in range(1, depth + 1) for i in range(depth + 1 - j)]
    for i, j in nodes:
        up, *row = model.get_layer(f"node{i}_{j}_concat").input
        assert up is model.get_layer(f"node{i}_{j}_crop").output
        assert model.get_layer(f"node{i}_{j}_crop").input[0] is model.get_layer(f"node{i}_{j}_up").output
        assert model.get_layer(f"node{i}_{j}_up").input is output(i + 1, j - 1)
        assert len(row) == j
        assert all(x is output(i, k) for k, x in enumerate(row))
        assert [x.shape[-1] for x in (up, *row)] == [2**i] * (j + 1)
    heads = [model.get_layer(f"logits{j}") for j in range(1, depth + 1)]
    assert all(head.input is output(0, j) for j, head in enumerate(heads, start=1))
    assert all(one is head.output for one, head in zip(model.outputs, heads, strict=True))
    assert isinstance(model(np.zeros((1, 8, 8, 3), np.float32)), list) == (depth > 1)
    concats = [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    assert len(concats) == len(nodes)


def test_dropout_and_initial_weights():
    model = unet_plus_plus(2, filters=1)
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert len(dropouts) == 30
    assert {layer.rate for layer in dropouts} == {0.5}
    assert model.get_layer("node0_0_dropout1").input is model.get_layer("node0_0_relu1").output
    assert model.get_layer("node0_0_conv2").input is model.get_layer("node0_0_dropout1").output
    convs = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]  # in Keras 2 a Conv2DTranspose is one
    assert {type(layer.kernel_initializer).__name__ for layer in convs} == {"HeNormal"}


def test_against_the_definition_on_a_size_that_the_release_takes():
    model = with_biases(unet_plus_plus(3, filters=2, depth=2, deep_supervision=True))
    image = random_image(2, 8, 12, 3)

    def conv(x, name):
        kernel, bias = model.get_layer(name).get_weights()
        return tf.nn.conv2d(x, kernel, 1, "SAME") + bias

    def node(i, j):
        if j > 0:
            below = node(i + 1, j - 1)
            kernel, bias = model.get_layer(f"node{i}_{j}_up").get_weights()
            size = (len(below), 2 * below.shape[1], 2 * below.shape[2], kernel.shape[2])
            up = tf.nn.conv2d_transpose(below, kernel, size, 2) + bias
            x = tf.concat([up, *(node(i, k) for k in range(j))], -1)
        else:
            x = image / 255 if i == 0 else tf.nn.max_pool2d(node(i - 1, 0), 2, 2, "VALID")
        for k in (1, 2):
            x = tf.nn.relu(conv(x, f"node{i}_{j}_conv{k}"))
        return x

    for level, logits in enumerate(model(image, training=False), start=1):
        np.testing.assert_allclose(logits, conv(node(0, level), f"logits{level}"), atol=1e-5)


def test_one_level_is_a_unet_of_depth_one():
    """With the same weights: an independent builder of the same network."""
    nested, plain = unet_plus_plus(2, filters=3, depth=1), unet(2, filters=3, depth=1, padding="same")
    names = {"node0_0": "down1", "node1_0": "bottom", "node0_1": "up1", "up": "upconv", "logits1": "logits"}
    for layer in nested.layers:
        node, _, part = layer.name.rpartition("_")
        if layer.weights:
            twin = f"{names[node]}_{names.get(part, part)}" if node else names[part]
            plain.get_layer(twin).set_weights(layer.get_weights())
    image = random_image(1, 21, 18, 3)
    np.testing.assert_allclose(nested(image, training=False), plain(image, training=False), atol=1e-6)


def test_any_size():
    model = unet_plus_plus(3, filters=1, depth=3)
    for height, width in ((1, 1), (2, 3), (15, 17), (33, 50)):
        assert model(np.zeros((1, height, width, 3), np.float32)).shape == (1, height, width, 3)
        assert model.compute_output_shape((1, height, width, 3)) == (1, height, width, 3)


@pytest.mark.parametrize("from_disk", [False, True])
def test_a_pruned_network_gives_what_its_head_gives(from_disk, tmp_path):
    model = with_biases(unet_plus_plus(3, filters=2, depth=3, deep_supervision=True))
    image = random_image(2, 37, 48, 3)
    expected = [logits.numpy() for logits in model(image, training=False)]
    if from_disk:
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    for level in (1, 2, 3):
        pruned = unet_plus_plus_pruned(model, level)
        np.testing.assert_array_equal(pruned(image, training=False), expected[level - 1])
        np.testing.assert_array_equal(unet_plus_plus_pruned(pruned, level)(image), expected[level - 1])
        nodes = {tuple(map(int, layer.name[4:7].split("_"))) for layer in pruned.layers if "_conv1" in layer.name}
        assert nodes == {(i, j) for i in range(4) for j in range(4) if i + j <= level}
        assert all(any(w is v for v in model.weights) for w in pruned.weights)
    assert pruned.name == "unet_plus_plus_l3"
    assert unet_plus_plus_pruned(model, 3, name="mine").name == "mine"


def test_a_network_without_deep_supervision_has_only_its_last_head():
    model = unet_plus_plus(3, filters=1, depth=3)
    image = random_image(1, 16, 16, 3)
    np.testing.assert_array_equal(unet_plus_plus_pruned(model, 3)(image), model(image))
    with pytest.raises(ValueError, match=r"level must be that of a head of 'unet_plus_plus', which has 3; got 2"):
        unet_plus_plus_pruned(model, 2)
    with pytest.raises(ValueError, match="'unet' has no layer named logits<level>"):
        unet_plus_plus_pruned(unet(2, filters=1), 1)
    with pytest.raises(ValueError, match="expected a model with several outputs.*'unet_plus_plus' has one"):
        unet_plus_plus_averaged(model)
    with pytest.raises(ValueError, match="depth and filters must be at least 1, got depth=0"):
        unet_plus_plus(2, depth=0)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_averaged_network_gives_the_mean_of_the_heads_probabilities(classes, tmp_path):
    model = with_biases(unet_plus_plus(classes, filters=2, depth=2, deep_supervision=True))
    image = random_image(2, 16, 24, 3)
    # The sigmoid of one class is the softmax of [0, logit].
    heads = [np.pad(x, [(0, 0)] * 3 + [(classes == 1, 0)]) for x in model(image, training=False)]
    exponentials = [np.exp(x - x.max(-1, keepdims=True)) for x in heads]
    expected = np.mean([x / x.sum(-1, keepdims=True) for x in exponentials], axis=0)
    averaged = unet_plus_plus_averaged(model)
    averaged.save(tmp_path / "model.keras")
    for network in (averaged, keras.models.load_model(tmp_path / "model.keras")):
        logits = network(image, training=False).numpy()
        found = 1 / (1 + np.exp(-logits)) if classes == 1 else np.exp(logits)
        np.testing.assert_allclose(found, expected[..., -classes:], atol=1e-6)
    # The heads are still in it.
    np.testing.assert_array_equal(unet_plus_plus_pruned(network, 1)(image), model(image)[0])


def test_what_takes_one_output_says_how_to_make_it(tmp_path):
    model = unet_plus_plus(2, filters=1, depth=2, deep_supervision=True)
    model.save(tmp_path / "model.keras")
    image = random_image(20, 24, 3)
    for use in (
        lambda: Segmenter(model),
        lambda: Segmenter(tmp_path / "model.keras"),
        lambda: predict_tiled(model, image),
        lambda: evaluate(model, [(image[None], np.zeros((1, 20, 24), np.int32))], 2),
        lambda: saved_model(model, tmp_path / "servable"),
        lambda: size_rules(model),
    ):
        with pytest.raises(ValueError, match="expected a model with one output.*'unet_plus_plus' has 2; .*_averaged"):
            use()
    assert not Path(tmp_path / "servable").exists()
    for network in (unet_plus_plus_averaged(model), unet_plus_plus_pruned(model, 1)):
        mask = Segmenter(network).segment(image)
        np.testing.assert_array_equal(mask, np.argmax(network(image[None])[0], -1))
