"""Two replicas give what one gives on the same global batch: loss, metric and weights."""

import json
import subprocess
import sys

import pytest

from kerasseg import losses

pytestmark = pytest.mark.slow  # test_replicas_accumulate.py compares two replicas in every run

# A process of its own: logical devices are made before TensorFlow starts, and all cases share one strategy, since
# TensorFlow confuses the reductions of two MirroredStrategies in a process.
SCRIPT = """
import json
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tensorflow import keras
from kerasseg import models, training
from kerasseg import losses
from kerasseg.losses import CrossEntropy

BATCH, STEPS = 4, 5
rng = np.random.default_rng(0)
image = rng.uniform(0, 255, (STEPS * BATCH, 16, 16, 3)).astype(np.float32)
mask = rng.integers(0, 3, (STEPS * BATCH, 16, 16)).astype(np.int32)
weight = rng.integers(0, 3, mask.shape).astype(np.float32)
# The second half of each batch, the second replica's, is mostly ignored; in the last batch it is all ignored.
ignored = (np.arange(len(mask)) % BATCH >= BATCH // 2)[:, None, None] & (rng.uniform(size=mask.shape) < 0.9)
mask[ignored] = 255
mask[-2:] = 255

LOSSES = {
    "CrossEntropy": losses.CrossEntropy(),
    "CrossEntropy sum": losses.CrossEntropy(reduction="sum"),
    "Focal": losses.Focal(class_weights=[1.0, 0.0, 3.0]),
    "HardPixelCrossEntropy": losses.HardPixelCrossEntropy(0.3, ramp_steps=4),
    "HardPixelCrossEntropy probability": losses.HardPixelCrossEntropy(0.1, max_probability=0.4),
    "SampledCrossEntropy": losses.SampledCrossEntropy(0.5),
    "SampledCrossEntropy cells": losses.SampledCrossEntropy(0.5, cell=3, reduction="sum"),
    "Dice": losses.Dice(class_weights=[1.0, 0.0, 3.0]),
    "Dice of images": losses.Dice(per_image=True, classes="present"),
    "Jaccard": losses.Jaccard(classes="present"),
    "Tversky": losses.Tversky(),
    "Lovasz": losses.Lovasz(),
    "Lovasz of images": losses.Lovasz(per_image=True),
    "CrossEntropyDice": losses.CrossEntropyDice("original"),
    "CrossEntropyDice of images": losses.CrossEntropyDice("paper"),
}
SEVERAL = ["HardPixelCrossEntropy", "SampledCrossEntropy", "Dice of images", "Lovasz"]
LOSSES["Sum"] = losses.Sum([LOSSES[name] for name in SEVERAL])

def train(strategy, norm, optimizer, weighted=False, loss=None):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        options = {"filters": 4, "depth": 1, "padding": "same", "dropout": 0.0, "momentum": 0.9}
        model = models.unet(3, batch_norm=norm != "none", norm=norm, **options)
        decay = {"weight_decay": 1e-3, "decay": "decoupled" if optimizer == "adam" else "l2"}
        rate = training.schedule("poly", 1e-3 if optimizer == "adam" else 0.05, steps=20)
        training.compile(model, training.optimizer(optimizer, rate, **decay), loss or CrossEntropy())
    data = (image, mask, weight) if weighted else (image, mask)
    data = tf.data.Dataset.from_tensor_slices(data).batch(BATCH)
    logs = {key: values for key, values in model.fit(data, epochs=2, verbose=0, shuffle=False).history.items()}
    # Seven images: in the second batch the replicas hold two images and one.
    part = tf.data.Dataset.from_tensor_slices((image[:7], mask[:7])).batch(BATCH)
    logs.update({"val_" + key: [value] for key, value in model.evaluate(part, verbose=0, return_dict=True).items()})
    return logs, model

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
CASES = {
    "sync": dict(norm="sync", optimizer="sgd"),
    "sum": dict(norm="none", optimizer="adam", loss=CrossEntropy(reduction="sum")),
    "weights": dict(norm="none", optimizer="sgd", weighted=True, loss=CrossEntropy(class_weights=[1.0, 0.0, 3.0])),
    "several losses": dict(norm="none", optimizer="sgd", loss=LOSSES["Sum"]),
}
report = {}

def compare(one, two):
    weights = zip(one[1].get_weights(), two[1].get_weights())
    return {
        "weights": max(float(abs(a - b).max()) for a, b in weights),
        "logs": {key: [values, two[0][key]] for key, values in one[0].items()},
    }

for name, case in CASES.items():
    one = train(tf.distribute.get_strategy(), **case)
    report[name] = compare(one, train(mirrored, **case))
    if name == "sync":
        report["batch"] = compare(one, train(mirrored, norm="batch", optimizer="sgd"))

# Each loss by itself: three images on the first replica, one on the second; and nothing that counts on the second.
def values_and_gradients(mask, logits, weight):
    found = {}
    for name, loss in LOSSES.items():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(mask, logits, weight)
        found[name] = value, tape.gradient(value, logits)
    return found

step = tf.Variable(2)
for loss in LOSSES.values():
    loss.follow(step)
logits = rng.normal(0, 2, (4, 16, 16, 3)).astype(np.float32)
parts = slice(0, 3), slice(3, 4)
in_graph = tf.function(values_and_gradients)
on_two = tf.function(lambda *batch: mirrored.run(values_and_gradients, batch))
report["losses"] = {}
for first in (0, len(mask) - 4):
    batch = mask[first : first + 4].copy(), logits, weight[first : first + 4]
    if first:
        batch[0][3] = 255
    one = in_graph(*map(tf.constant, batch))
    spread = [
        mirrored.experimental_distribute_values_from_function(
            lambda context, x=x: tf.constant(x[parts[context.replica_id_in_sync_group]])
        )
        for x in batch
    ]
    two = on_two(*spread)
    for name, (value, gradient) in one.items():
        values, gradients = (mirrored.experimental_local_results(x) for x in two[name])
        report["losses"].setdefault(name, []).append({
            "value": [float(value), *map(float, values)],
            "gradient": float(abs(gradient - tf.concat(gradients, 0)).numpy().max()),
            "largest": float(abs(gradient).numpy().max()),
        })

# The run folder: saved under two replicas, restored under one; validated on single images of varied sizes.
import tempfile
sizes = [(image[:1, :9], mask[:1, :9]), (image[1:2, :, :11], mask[1:2, :, :11])]
spec = tf.TensorSpec([1, None, None, 3]), tf.TensorSpec([1, None, None], tf.int32)
images = tf.data.Dataset.from_generator(lambda: iter(sizes), output_signature=spec)
batches = tf.data.Dataset.from_tensor_slices((image, mask)).batch(BATCH).repeat()
histories = []
for stages in ([(tf.distribute.get_strategy(), 5)], [(mirrored, 2), (tf.distribute.get_strategy(), 5)]):
    with tempfile.TemporaryDirectory() as directory:
        for strategy, steps in stages:
            keras.utils.set_random_seed(1)
            with strategy.scope():
                model = models.unet(3, filters=4, depth=1, padding="same", batch_norm=True, norm="sync", dropout=0.0)
                training.compile(model, training.optimizer("sgd", 0.05), CrossEntropy())
            with training.RunFolder(directory).open({}) as run:
                options = {"steps": steps, "validate_every": 2, "val_data": images, "progress": False}
                state = training.fit(model, batches, run, **options)
        histories.append(state.history)
report["runs"] = histories
print("REPORT" + json.dumps(report))
"""


@pytest.fixture(scope="module")
def report():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return json.loads(result.stdout.rpartition("REPORT")[2])


@pytest.mark.parametrize("case", ["sync", "sum", "weights", "several losses"])
def test_two_replicas_equal_one(report, case):
    """Ten steps, with other numbers of valid pixels on each replica, and none at all on one in the last batch."""
    assert report[case]["weights"] < 1e-5
    logs = report[case]["logs"]
    assert set(logs) == {"loss", "mean_iou", "val_loss", "val_mean_iou"}
    for one, two in logs.values():
        assert two == pytest.approx(one, rel=1e-5)


def test_two_replicas_give_the_value_and_gradient_of_one_for_every_loss(report):
    kinds = {name.split()[0] for name in report["losses"]}
    assert kinds == set(losses.__all__) - {"SegmentationLoss", "PixelLoss", "RegionLoss"}
    for name, batches in report["losses"].items():
        for found in batches:
            whole, *shares = found["value"]
            assert whole > 0
            assert shares == pytest.approx([whole / 2] * 2, rel=1e-5), name
            assert found["gradient"] < 1e-5 * found["largest"], name


def test_the_comparison_can_tell_a_difference(report):
    """Batch normalisation with each replica's own statistics is another computation."""
    assert report["batch"]["weights"] > 1e-3


def test_a_run_of_two_replicas_goes_on_with_one(report):
    whole, changed = report["runs"]
    assert [row["step"] for row in whole] == [2, 4, 5]
    for ours, expected in zip(changed, whole, strict=True):
        for key in ("step", "loss", "mean_iou", "val_loss", "val_mean_iou"):
            assert ours[key] == pytest.approx(expected[key], rel=1e-4), key
