"""ONNX files: every network converts and answers as the Keras model does, at several sizes and several at a time."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from test_lite import blobs, fitted_to, random_image, shaken, two_layers
from test_model_contract import build

import kerasseg.models
from kerasseg.export import ExportError, _onnx, onnx
from kerasseg.export._onnx import with_padded_dilations
from kerasseg.export._portable import portable
from kerasseg.inference import Segmenter
from kerasseg.spec import DataError

INSTALLED = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnx", "onnxruntime"))
installed = pytest.mark.skipif(not INSTALLED, reason="needs the extra onnx: tf2onnx, onnx, onnxruntime")


def check(model, path):
    """Compares logits and classes with the Keras model's on random images of three sizes, one, two, three at a time."""
    import onnxruntime

    onnx(model, path)
    session = onnxruntime.InferenceSession(path.read_bytes())
    segmenter, one_size = Segmenter(model), model.input_shape[1:3]
    for number, shape in enumerate([one_size] if one_size[0] else [(61, 47), (96, 80), (33, 90)]):
        images = random_image(number + 1, *shape, model.input_shape[-1], seed=number)
        logits, classes = session.run(["logits", "segmentation_map"], {"images": images})
        assert classes.dtype == np.uint8
        np.testing.assert_array_equal(classes, logits.argmax(-1))
        expected = np.stack([segmenter.logits(image) for image in images])
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
        assert (classes == expected.argmax(-1)).mean() > 0.999


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", kerasseg.models.__all__)
def test_every_network_answers_as_in_keras(tmp_path, name):
    keras.utils.set_random_seed(0)
    check(shaken(build(name, {})), tmp_path / "model.onnx")


@installed
def test_a_network_answers_as_in_keras(tmp_path):
    keras.utils.set_random_seed(0)
    check(shaken(kerasseg.models.unet(3, filters=2, depth=1, padding="valid")), tmp_path / "model.onnx")


@installed
def test_scores_are_beside_it_and_refusal(tmp_path, monkeypatch):
    data = blobs()
    path = onnx(fitted_to(data, 2), tmp_path / "cells.onnx", data=data, class_names=("dark", "light"))
    content = json.loads(path.with_suffix(".json").read_text())
    assert content["class_names"] == ["dark", "light"]
    assert content["inputs"] == {"images": "uint8 [B, H, W, 3], 0-255; the network normalises them itself"}
    assert content["comparison"]["mean_iou"] == pytest.approx(content["comparison"]["mean_iou_of_keras"], abs=1e-3)
    assert content["comparison"]["mean_iou"] > 0.8
    other = two_layers(seed=3)
    monkeypatch.setattr(_onnx, "portable", lambda model, *args, **options: portable(other, *args, **options))
    with pytest.raises(ExportError, match=r"of \d+ pixels differ from the Keras model on an image of 20 x 30"):
        onnx(two_layers(), tmp_path / "other.onnx", images=[random_image(20, 30, 3)])
    with pytest.raises(DataError, match=r"cells.onnx is there already"):
        onnx(two_layers(), path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cells.json", "cells.onnx"]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(DataError, match=r"ONNX needs tf2onnx, onnx and onnxruntime: pip install 'kerasseg\[onnx\]'"):
        onnx(two_layers(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kernel", "dilations"), [((3, 3), (2, 2)), ((2, 3), (3, 4)), ((4, 1), (1, 2)), ((4, 1), (2, 1))]
)
def test_dilated_convolutions_with_their_padding_written_out(kernel, dilations):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(*kernel, 3, 2)).astype(np.float32)

    def convolve(images):
        x = tf.nn.conv2d(images, weights, 1, "SAME", dilations=dilations)
        return tf.nn.depthwise_conv2d(x, weights[:, :, :2], [1, 1, 1, 1], "SAME", dilations=dilations)

    function = tf.function(convolve).get_concrete_function(tf.TensorSpec((None, None, None, 3)))
    graph = with_padded_dilations(function.graph.as_graph_def())
    images = rng.normal(size=(2, 13, 10, 3)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph, name="")
        answer = session.run(function.outputs[0].name, {function.inputs[0].name: images})
    np.testing.assert_allclose(answer, function(tf.constant(images)), atol=1e-5)
    assert any(node.op == "Pad" for node in graph.node)
