"""DeepLab-v3 (variant "original") against values computed with the original TensorFlow 1 code."""

import importlib.util
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import kerasseg
from kerasseg.spec import IGNORE_LABEL

THIN = {"thin8_r50": 1 / 8, "thin32_r50_trainscript": 1 / 32}


@pytest.fixture(scope="module")
def check(oracle):
    """The module that came with the reference values: the rule of their weights, and the comparisons."""
    spec = importlib.util.spec_from_file_location("check_oracle", oracle / "check_oracle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(oracle, check):
    rows = json.loads((oracle / "variables_resnet_v2_50.json").read_text())["variables"]
    return {row["name"]: check.rule_weight(row["name"], row["shape"]) for row in rows}


@pytest.fixture(scope="module")
def model(source, zero_weights):
    with zero_weights():
        model = kerasseg.models.deeplab_v3(21, variant="original", momentum=0.9)
    report = kerasseg.weights.load_tf1(model, source)
    assert not report.kept
    unused = ["logits/biases", "logits/weights"]
    unused += [f"postnorm/{leaf}" for leaf in ("beta", "gamma", "moving_mean", "moving_variance")]
    assert list(report.leftover) == [f"resnet_v2_50/{name}" for name in unused]
    return model


def infer(model):
    return lambda image: model(image, training=False).numpy()


@pytest.mark.parametrize("case", ["129x129", "112x144_even", "321x321"])
def test_inference_logits(model, check, oracle, case):
    assert check.check(infer(model), oracle / f"case_r50_os16_{case}.npz")["ok"]


@pytest.mark.parametrize("folder", THIN)
def test_checkpoints_of_the_original_code(check, oracle, folder):
    path = oracle / folder / "cases.npz"
    cases = json.loads(str(np.load(path)["meta"]))["cases"]
    for stride in {case["output_stride"] for case in cases.values()}:
        model = kerasseg.models.deeplab_v3(21, variant="original", width=THIN[folder], output_stride=stride)
        report = kerasseg.weights.load_tf1(model, oracle / folder / "model.ckpt")
        assert not report.kept
        for name, case in cases.items():
            if case["output_stride"] == stride:
                assert check.check(infer(model), path, name)["ok"]


def test_the_report_names_optimiser_slots_postnorm_and_classifier(oracle):
    model = kerasseg.models.deeplab_v3(21, variant="original", width=1 / 32)
    report = kerasseg.weights.load_tf1(model, oracle / "thin32_r50_trainscript" / "model.ckpt")
    assert len(report.leftover) == 687 - 298
    assert sum(name.endswith(("/Adam", "/Adam_1")) for name in report.leftover) == 380
    text = str(report)
    for name in ("resnet_v2_50/postnorm/gamma", "resnet_v2_50/logits/weights", "beta1_power"):
        assert name in text


@pytest.mark.parametrize("steps", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_training_step(steps, source, check, oracle, zero_weights):
    """Training-mode logits, loss, gradients, moving statistics, and the losses before and after Adam's steps."""
    path = oracle / "train_r50_os16_97x97_n4.npz"
    case = np.load(path)
    meta = json.loads(str(case["meta"]))
    image, mask = case["image"].astype(np.float32), case["label"].astype(np.int32).reshape(4, 97, 97)
    assert (mask != IGNORE_LABEL).sum() == meta["n_valid_pixels"]
    with zero_weights():
        model = kerasseg.models.deeplab_v3(21, variant="original", momentum=meta["batch_norm_decay"])
    names = kerasseg.weights.load_tf1(model, source).loaded
    loss = kerasseg.losses.CrossEntropy()
    variables = {
        names[f"{layer.name}/{v.name.split('/')[-1].split(':')[0]}"]: v for layer in model.layers for v in layer.weights
    }
    trainable = {theirs: v for theirs, v in variables.items() if v.trainable}

    optimizer = keras.optimizers.Adam(1e-5, epsilon=1e-8)

    def step():
        with tf.GradientTape() as tape:
            logits = model(image, training=True)
            value = loss(mask, logits)
        return logits, value, tape.gradient(value, [_tensor(v) for v in trainable.values()])

    losses, first = [], None
    for _ in range(steps):
        logits, value, gradients = step()
        losses.append(float(value))
        if first is None:
            # postnorm is not part of our model; the original builds it, never uses it and never updates it.
            moving = {name: value for name, value in source.items() if "postnorm/moving" in name}
            moving |= {name: v.numpy() for name, v in variables.items() if "moving" in name}
            first = logits.numpy(), float(value), dict(zip(trainable, (g.numpy() for g in gradients), strict=True))
        optimizer.apply_gradients(zip(gradients, list(trainable.values()), strict=True))
    losses.append(float(loss(mask, model(image, training=True))))

    l2 = sum(
        1e-4 * np.sum(np.square(value.astype(np.float64))) / 2 for name, value in source.items() if "/weights" in name
    )
    result = check.check_training(path, logits=first[0], cross_entropy=first[1], l2=l2, grad=first[2], moving=moving)
    assert result["logits"]["max_abs"] <= 6e-4
    assert result["cross_entropy"] <= 1e-5
    assert result["l2"] <= 1e-5
    assert result["grad_norm_worst"][0] <= 5e-3, result["grad_norm_worst"]
    assert result["moving_worst"][0] <= 5e-5, result["moving_worst"]
    np.testing.assert_allclose(losses, meta["adam_losses_float64"][: steps + 1], rtol=1e-4)


def _tensor(variable):
    """Returns the TensorFlow variable behind a variable of Keras, old or new."""
    return variable if isinstance(variable, tf.Variable) else variable.value
