"""Accumulated gradients, their clipping and the averages of the weights under two replicas."""

import json
import subprocess
import sys

import pytest

# A process of its own: logical devices are made before TensorFlow starts.
SCRIPT = """
import json
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tensorflow import keras
from kerasseg import training
from kerasseg.losses import CrossEntropy

alone, mirrored = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
image = rng.normal(size=(24, 4, 4, 3)).astype(np.float32)
mask = rng.integers(0, 2, (24, 4, 4)).astype(np.int32)

def made(strategy, name, policy="float32", **options):
    keras.utils.set_random_seed(1)
    keras.mixed_precision.set_global_policy(policy)
    with strategy.scope():
        x = image_in = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="one")(x)
        model = keras.Model(image_in, keras.layers.Conv2D(2, 1, name="two", dtype="float32")(x))
        rate = training.schedule("poly", 0.1 if name == "sgd" else 0.01, steps=10)
        options = {"weight_decay": 0.01, "rate_multipliers": {"bias": 2}, "clip_norm": 0.2, "ema": 0.9, **options}
        training.compile(model, training.optimizer(name, rate, **options), CrossEntropy())
    keras.mixed_precision.set_global_policy("float32")
    return model

def ours(model):
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)

def fitted(strategy, name, accumulate=1, **options):
    model = made(strategy, name, accumulate=accumulate, **options)
    data = tf.data.Dataset.from_tensor_slices((image, mask)).batch(8 // accumulate)
    model.fit(data, verbose=0, shuffle=False)
    with ours(model).averaged():
        averages = model.get_weights()
    return [*model.get_weights(), *averages], int(tf.convert_to_tensor(ours(model).iterations))

report = {}
for name, decay in (("sgd", "l2"), ("adam", "decoupled")):
    one, updates = fitted(alone, name, decay=decay)
    two, updates_of_two = fitted(mirrored, name, accumulate=4, decay=decay)
    difference = max(float(abs(a - b).max()) for a, b in zip(one, two, strict=True))
    report[name] = [updates, updates_of_two, difference]

# Loss scaling, and a second replica alone whose gradients overflow: the batch changes nothing.
model = made(mirrored, "sgd", "mixed_float16", accumulate=2)
model.fit(image[:4], mask[:4], batch_size=4, verbose=0, shuffle=False)
before = model.get_weights()
broken = image[:4].copy()
broken[2:] = np.inf
model.fit(broken, mask[:4], batch_size=4, verbose=0, shuffle=False)
unchanged = all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
model.fit(image[4:8], mask[4:8], batch_size=4, verbose=0, shuffle=False)
expected = made(alone, "sgd", "mixed_float16", accumulate=2)
expected.fit(image[:8], mask[:8], batch_size=4, verbose=0, shuffle=False)
after = zip(model.get_weights(), expected.get_weights(), strict=True)
report["overflow"] = [unchanged, max(float(abs(a - b).max()) for a, b in after)]
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report():
    process = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=500)
    if process.returncode:
        pytest.fail(process.stderr[-3000:])
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_four_batches_on_two_replicas_are_one_batch_on_one(report, name):
    """Weights and their averages, after three updates."""
    updates, updates_of_two, difference = report[name]
    assert updates == updates_of_two == 3
    assert difference < 1e-6


def test_an_overflow_on_the_second_replica_changes_nothing(report):
    unchanged, difference = report["overflow"]
    assert unchanged
    assert difference < 1e-3  # float16; the weights have moved by 0.02 at most
