"""tensorflow-addons with this package: its normalisations in our networks, its optimisers, losses, metrics; served."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import losses, metrics, models
from kerasseg.client import Client
from kerasseg.export import saved_model
from kerasseg.inference import Segmenter, load_model

tfa = pytest.importorskip("tensorflow_addons", reason="tensorflow-addons is not installed: make test-addons")
pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")

SIDE, STEPS = 32, 12
SMALL = {"filters": 4, "depth": 1, "padding": "same", "batch_norm": True, "dropout": 0.0}


def lookahead():
    return tfa.optimizers.Lookahead(tfa.optimizers.RectifiedAdam(0.02), sync_period=3)


def averaged():
    return tfa.optimizers.SWA(keras.optimizers.legacy.SGD(0.1, momentum=0.9), start_averaging=4, average_period=2)


# Network, its normalisation, optimiser.
RUNS = {
    "instance_lamb": (
        functools.partial(models.unet, **SMALL),
        tfa.layers.InstanceNormalization,
        lambda: tfa.optimizers.LAMB(0.02),
    ),
    "group_sgdw": (
        functools.partial(models.attention_unet, filters=4, depth=2),
        functools.partial(tfa.layers.GroupNormalization, groups=2),
        lambda: tfa.optimizers.SGDW(weight_decay=1e-4, learning_rate=0.1, momentum=0.9),
    ),
    "instance_lookahead": (
        functools.partial(models.segnet_basic, width=1 / 8),
        tfa.layers.InstanceNormalization,
        lookahead,
    ),
    "group_swa": (
        functools.partial(models.unet, **SMALL),
        functools.partial(tfa.layers.GroupNormalization, groups=4),
        averaged,
    ),
}


def batches(one_logit):
    """Bright squares on dark noise; some pixels ignored where the loss knows of that. Always the same 4 images."""
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 2, (4, 4, 4)), np.ones((1, SIDE // 4, SIDE // 4))).astype(np.int32)
    image = (mask[..., None] * 120 + rng.uniform(0, 100, (*mask.shape, 3))).astype(np.float32)
    if one_logit:
        return image, mask[..., None].astype(np.float32)
    return image, np.where(rng.random(mask.shape) < 0.05, 255, mask)


def trained(name, one_logit=False):
    """A model after a few steps: with this package's loss and metric, or with those of tensorflow-addons."""
    build, norm, optimizer = RUNS[name]
    keras.utils.set_random_seed(1)
    model = build(1 if one_logit else 2, norm=norm)
    if one_logit:
        loss = tfa.losses.SigmoidFocalCrossEntropy(from_logits=True, reduction=keras.losses.Reduction.AUTO)
        metric = tfa.metrics.F1Score(num_classes=1, average="micro", threshold=1e-6, name="f1")
    else:
        loss, metric = losses.CrossEntropy(), metrics.MeanIoU(2)
    model.compile(optimizer(), loss, metrics=[metric])
    image, target = batches(one_logit)
    history = model.fit(image, target, batch_size=4, epochs=STEPS, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    return model, history, image.astype(np.uint8)


@pytest.fixture(scope="module")
def lamb():
    return trained("instance_lamb")


def answer(directory, image):
    """The map of an export, by TensorFlow's C++ loader."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(directory))
        signature = loaded.signature_def["serving_default"]
        return session.run(signature.outputs["segmentation_map"].name, {signature.inputs["images"].name: image})


@pytest.mark.parametrize("name", RUNS)
def test_trained_saved_loaded_exported(lamb, name, tmp_path):
    model, history, image = lamb if name == "instance_lamb" else trained(name)
    layers = [layer for layer in model.layers if type(layer).__module__.startswith("tensorflow_addons")]
    assert len(layers) >= 2
    assert "mean_iou" in history
    assert all(np.abs(w - 1).max() > 1e-4 for w in (layer.gamma.numpy() for layer in layers[:2])), "they learn nothing"
    if name == "group_swa":
        last = model.get_weights()
        model.optimizer.assign_average_vars(model.trainable_variables)
        assert any((a != b).any() for a, b in zip(last, model.get_weights(), strict=True))

    expected = model.predict(image.astype(np.float32), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(image.astype(np.float32), verbose=0), expected, atol=1e-6)

    version = saved_model(loaded, tmp_path / "served")
    np.testing.assert_array_equal(answer(version, image[:2]), expected[:2].argmax(-1))


def test_with_its_loss_and_metric():
    """One logit to a pixel; F1 against what the counts give."""
    model, _, image = trained("instance_lamb", one_logit=True)
    _, target = batches(one_logit=True)
    _, f1 = model.evaluate(image.astype(np.float32), target, verbose=0)
    found, mask = model.predict(image.astype(np.float32), verbose=0) > 1e-6, target > 0
    assert f1 == pytest.approx(2 * (found & mask).sum() / (found.sum() + mask.sum()), abs=1e-4)
    assert f1 > 0.6


def test_served(lamb, tmp_path):
    """The stand-in server answers the client with the model's masks; neither knows of tensorflow-addons."""
    model, _, image = lamb
    saved_model(model, tmp_path / "cells")
    command = [sys.executable, str(Path(__file__).with_name("model_server.py")), f"cells={tmp_path / 'cells'}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, text=True, **pipes)
    try:
        ports = json.loads(server.stdout.readline())
        with Client(f"127.0.0.1:{ports['grpc']}", "cells", protocol="grpc") as client:
            masks = client.segment(list(image))
    finally:
        server.kill()
        server.communicate()
    for one, mask in zip(image, masks, strict=True):
        np.testing.assert_array_equal(mask, Segmenter(model).segment(one))
    assert {0, 1} == set(np.unique(masks))


def test_resumed_with_its_optimiser(lamb, tmp_path, recwarn):
    """Saved in the middle as HDF5, it goes on as the model that was not; `.keras` keeps no state of Keras 2's old kind
    of optimiser, which all of tensorflow-addons are."""
    model, _, _ = lamb
    image, target = batches(one_logit=False)
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"model{suffix}")
    goes_on = {"whole": model} | {x: keras.models.load_model(tmp_path / f"model{x}") for x in (".keras", ".h5")}
    options = {"batch_size": 4, "epochs": 3, "verbose": 0, "shuffle": False}
    found = {name: one.fit(image, target, **options).history["loss"] for name, one in goes_on.items()}
    np.testing.assert_allclose(found[".h5"], found["whole"], rtol=1e-5)
    assert found[".keras"][0] == pytest.approx(found["whole"][0], rel=1e-5)
    assert found[".keras"][2] != pytest.approx(found["whole"][2], rel=1e-3)
