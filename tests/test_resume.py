"""What a run folder survives: being killed at any point, a full disk, damaged files."""

import json
import os
import random
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import training
from kerasseg.losses import CrossEntropy
from kerasseg.spec import DataError

pytestmark = pytest.mark.usefixtures("undrawn")

STEPS, EVERY, ACCUMULATE = 6, 2, 2
# Keras 2 keeps what dropout draws from to itself: a resumed run draws anew.
DROPOUT = 0.3 if hasattr(keras, "ops") else 0.0


def batches(step=0):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (10, 8, 8)).astype(np.int32)
    image = (mask[..., None] + rng.normal(size=(10, 8, 8, 3))).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((image, mask)).batch(2).repeat().skip(step * ACCUMULATE)


def train(directory, data=batches):
    """Trains with all that has a state: dropout, momentum, schedule, accumulated gradients, averages, batch norm."""
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dropout(DROPOUT)(x)
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(x))
    rate = training.schedule("cosine", 0.5, steps=STEPS, warmup_steps=2)
    optimizer = training.optimizer("sgd", rate, weight_decay=0.01, accumulate=ACCUMULATE, ema=0.5, clip_norm=1.0)
    training.compile(model, optimizer, CrossEntropy())
    with training.RunFolder(directory).open({"name": "test"}) as run:
        options = {"val_data": batches().take(5).unbatch().batch(1), "patience": STEPS, "progress": False}
        state = training.fit(model, data, run, steps=STEPS, validate_every=EVERY, **options)
    return model, state, run


def kill_at(point):
    """Kills this process before its n-th call that writes the folder ("write:n"), in the midst of its n-th checkpoint
    ("checkpoint:n"), or while it reads its n-th batch ("batch:n")."""
    kind, number = point.split(":")
    left = int(number)

    def count(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if kind == "checkpoint":
        writestr = zipfile.ZipFile.writestr

        def before_state(archive, name, *args, **kwargs):
            if name == "training.json":
                count()
            return writestr(archive, name, *args, **kwargs)

        zipfile.ZipFile.writestr = before_state
        return batches

    if kind == "write":

        def counted(function):
            return lambda *args, **kwargs: (count(), function(*args, **kwargs))[1]

        # A checkpoint's way to the disk: members of the archive, flushes, links, replacements.
        for module, name in ((zipfile.ZipFile, "writestr"), (os, "fsync"), (os, "link"), (os, "replace")):
            setattr(module, name, counted(getattr(module, name)))
        return batches

    def killing(step):
        def element(image, mask):
            tf.py_function(count, [], [])
            return image, mask

        return batches(step).map(element)

    return killing


if __name__ == "__main__":
    train(sys.argv[1], kill_at(sys.argv[2]) if len(sys.argv) > 2 else batches)
    sys.exit()


def run_process(directory, *point):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.run(
        [sys.executable, __file__, directory, *point], env=environment, capture_output=True, text=True, timeout=500
    )
    if process.returncode not in (0, -signal.SIGKILL):
        pytest.fail(process.stderr)
    return process.returncode


def contents(run):
    """Returns all that a run leaves, but for times and for the bytes of the archives."""
    found = {}
    for path in (run.last, run.previous, run.best):
        model = keras.models.load_model(path)
        found[path.name] = [*model.get_weights(), *(tf.convert_to_tensor(v).numpy() for v in model.optimizer.variables)]
    with zipfile.ZipFile(run.last) as archive:
        stored = json.loads(archive.read("training.json"))
    for row in stored["history"]:
        row.pop("seconds")
    described = json.loads(run.run_file.read_text())
    log = [line.rpartition(",")[0] for line in run.log.read_text().splitlines()]
    return found, (stored, described["scores"], log)


def assert_same(run, expected):
    (arrays, texts), (expected_arrays, expected_texts) = contents(run), expected
    assert texts == expected_texts
    for name, values in arrays.items():
        for ours, theirs in zip(values, expected_arrays[name], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert not list(run.directory.rglob("*partial*"))


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    """What a run leaves that goes through."""
    return contents(train(tmp_path_factory.mktemp("runs") / "whole")[2])


def test_a_killed_run_ends_as_one_that_was_not(tmp_path, never_killed):
    """Killed while it writes its second checkpoint, and taken up by another process: the same, bit for bit."""
    assert run_process(tmp_path / "run", "checkpoint:2") == -signal.SIGKILL
    run = training.RunFolder(tmp_path / "run")
    assert run.state().step == EVERY
    assert list(run.directory.glob("partial*"))
    assert run_process(tmp_path / "run") == 0
    assert_same(run, never_killed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path, never_killed, seed):
    random_number = random.Random(seed)
    kills = 0
    for _ in range(8):
        kind, most = random_number.choice([("write", 60), ("batch", STEPS * ACCUMULATE)])
        if run_process(tmp_path / "run", f"{kind}:{random_number.randint(1, most)}") == 0:
            break
        kills += 1
    assert kills
    assert run_process(tmp_path / "run") == 0
    assert_same(training.RunFolder(tmp_path / "run"), never_killed)


# Within this process


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_checkpoint_is_written_costs_none(tmp_path, monkeypatch):
    """A limit on the size of files stands for the disk: the system refuses to write on, in the midst of the archive."""
    resource = pytest.importorskip("resource")
    _, state, run = train(tmp_path / "run")
    before = [path.read_bytes() for path in (run.last, run.best, run.previous, run.log, run.run_file)]
    size = run.last.stat().st_size
    model, _, _ = train(tmp_path / "other")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with run.open({"name": "test"}):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        try:
            with pytest.raises(DataError, match=r"step 6 could not be written into .*\(.*File too large.*make room"):
                run.save(model, state)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_bytes() for path in (run.last, run.best, run.previous, run.log, run.run_file)] == before
    assert not list(run.directory.glob("*partial*"))
    with run.open({"name": "test"}):
        run.save(model, state)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path):
    _, _, run = train(tmp_path / "run")
    expected = contents(run)
    whole = bytearray(run.last.read_bytes())
    whole[len(whole) // 2] ^= 1  # one bit
    run.last.write_bytes(whole)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        train(tmp_path / "run")
    assert "last.keras is damaged" in str(caught[0].message)
    assert "resuming from previous.keras, of step 4" in str(caught[0].message)
    assert_same(run, expected)


def test_two_damaged_checkpoints_are_named(tmp_path):
    _, _, run = train(tmp_path / "run")
    for path in (run.last, run.previous):
        path.write_bytes(path.read_bytes()[:-1000])
    # best.keras holds averages: it cannot take their place.
    with pytest.raises(DataError, match=r"last\.keras cannot be resumed from .*previous\.keras: .*; delete the folder"):
        train(tmp_path / "run")


@pytest.mark.slow
def test_a_run_killed_before_its_log_was_written_writes_it(tmp_path):
    _, state, run = train(tmp_path / "run")
    log, described = run.log.read_text(), run.run_file.read_text()
    run.log.unlink()
    run.note(step=EVERY)
    _, again, _ = train(tmp_path / "run")
    assert again.step == state.step == STEPS
    assert run.log.read_text() == log
    assert run.run_file.read_text() == described
