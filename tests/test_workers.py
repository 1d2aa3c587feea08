"""Several processes that train one model: what TF_CONFIG says, who writes, and two real workers on loopback."""

import csv
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import _cluster, records, spec, training
from kerasseg.spec import DataError
from kerasseg.training import _strategy

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = {"worker": ["one:1", "two:2"]}


@pytest.fixture
def set_workers(monkeypatch):
    def set_(config):
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))

    return set_


def task(index, cluster=None, kind="worker"):
    return {"cluster": cluster or CLUSTER, "task": {"type": kind, "index": index}}


# What TF_CONFIG says


def test_a_process_without_workers_is_alone_and_the_chief(set_workers, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert not _cluster.cluster().several
    for config in (
        "",
        "{}",
        {"cluster": {}},
        {"cluster": {"worker": ["one:1"]}},
        task(0, {"chief": ["one:1"]}, "chief"),
    ):
        set_workers(config)
        assert not _cluster.cluster().several
        assert _cluster.cluster().is_chief


def test_the_first_worker_is_the_chief_unless_there_is_one(set_workers):
    for config, index in (
        (task(0), 0),
        (task(1), 1),
        (task(0, {"chief": ["zero:0"], **CLUSTER}, "chief"), 0),
        (task(0, {"chief": ["zero:0"], **CLUSTER}), 1),
        (task("1", {"chief": ["zero:0"], **CLUSTER}), 2),
    ):
        set_workers(config)
        found = _cluster.cluster()
        assert found.several
        assert (found.index, found.is_chief) == (index, index == 0)
    assert found.addresses == ("zero:0", "one:1", "two:2")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster'", "TF_CONFIG is not what TensorFlow expects .*; give .*index another one on each machine"),
        ("[1]", "TF_CONFIG is not what TensorFlow expects"),
        ({"cluster": {"worker": 2}}, "TF_CONFIG is not what TensorFlow expects"),
        ({"cluster": {"ps": ["a:1"], **CLUSTER}}, "TF_CONFIG names ps; only workers"),
        ({"cluster": CLUSTER}, "TF_CONFIG's task, None, is none of its cluster's"),
        (task(2), "TF_CONFIG's task, .*'index': 2.*, is none"),
        (task(-1), "is none of its cluster's"),
        (task(0, kind="chief"), "'type': 'chief'.*is none of its cluster's"),
    ],
)
def test_a_wrong_one_is_named(set_workers, config, message):
    set_workers(config)
    with pytest.raises(DataError, match=message):
        _cluster.cluster()


def test_keras_2_is_chosen_where_it_is_needed_and_there(set_workers, monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")  # to be taken back after the test, whatever it sets
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for config, found in ((None, True), (task(1), False)):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=found: name if found else None)
        if config:
            set_workers(config)
        _cluster.choose_keras()
        assert "TF_USE_LEGACY_KERAS" not in os.environ
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    _cluster.choose_keras()
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"


def test_keras_3_is_refused(set_workers, monkeypatch):
    monkeypatch.setattr(_strategy, "keras", types.SimpleNamespace(Model=object))
    set_workers(task(0))
    message = (
        r'names 2 workers.*Keras 3.*pip install "kerasseg\[distributed\]".*set TF_USE_LEGACY_KERAS=1 .*unset TF_CONFIG'
    )
    with pytest.raises(DataError, match=message):
        _strategy.strategy.__wrapped__()


def test_a_model_that_was_not_made_for_the_workers_is_refused(set_workers, tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    set_workers(task(0))
    with (
        training.RunFolder(tmp_path).open({}) as run,
        pytest.raises(DataError, match=r"names 2 worker\(s\).*make and compile it under `training.strategy\(\).scope"),
    ):
        training.fit(model, None, run, steps=1, validate_every=1)


# They wait for each other


def test_workers_wait_until_all_are_there(capsys):
    ports = free_ports(2)
    addresses = tuple(f"localhost:{port}" for port in ports)
    both_there = threading.Barrier(2, timeout=30)
    seconds = []

    def work(index, start_s):
        time.sleep(start_s)
        _cluster.wait_for_all(_cluster.Cluster(addresses, index))
        seconds.append(time.monotonic() - began)
        with socket.create_server(("", ports[index])):  # as TensorFlow listens from then on
            both_there.wait()

    began = time.monotonic()
    late = threading.Thread(target=work, args=(1, 6))
    late.start()
    work(0, 0)
    late.join()
    assert min(seconds) >= 6
    assert capsys.readouterr().err == f"worker 0 waits for {addresses[1]} to start\n"


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        addresses = ("localhost:1", f"localhost:{taken.getsockname()[1]}")
        with pytest.raises(DataError, match=f"worker 1 cannot listen at {addresses[1]} .*a free port of its own"):
            _cluster.wait_for_all(_cluster.Cluster(addresses, 1))
    with pytest.raises(DataError, match="the address 'localhost'; expected host:port"):
        _cluster.wait_for_all(_cluster.Cluster(("localhost", "localhost:1")))


# Who writes


def listing(directory):
    return {str(path.relative_to(directory)): path.stat().st_mtime_ns for path in sorted(directory.rglob("*"))}


def test_only_the_chief_writes_and_the_others_are_let_in(set_workers, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    directory = tmp_path / "run"
    row = {"step": 1, "loss": 1.0, "mean_iou": 0.5, "val_mean_iou": 0.5}

    set_workers(task(1))
    with training.RunFolder(directory).open({"rate": 1}) as follower:
        assert not directory.exists()
        set_workers(task(0))
        with training.RunFolder(directory).open({"rate": 1}) as chief:
            assert (chief.is_written, follower.is_written) == (True, False)
            assert chief.fingerprint == follower.fingerprint
            before = listing(directory)
            follower.save(model, training.TrainingState(1, [row]))
            training.plot_curves(training.TrainingState(1, [row]), follower.curves)
            assert listing(directory) == before
            scratch = follower.curves.parent
            assert {"best.keras", "last.keras", "log.csv"} < {path.name for path in scratch.iterdir()}
            chief.save(model, training.TrainingState(1, [row]))
            assert chief.best.exists()
            assert follower.restore(model).step == 1
    assert not scratch.exists()

    set_workers(task(1))
    with (
        pytest.raises(DataError, match="other options \\(rate was 1, is 2\\)"),
        training.RunFolder(directory).open({"rate": 2}),
    ):
        pass


# Two processes

STEPS, EVERY = 10, 4
OPTIONS = [
    *("--model", "unet", "--model-option", "filters=4", "depth=1", "padding=same", "batch_norm=True", "norm=sync"),
    *("dropout=0.0", "--steps", STEPS, "--validate-every", EVERY, "--batch-size", 4, "--crop-size", 16),
    *("--learning-rate", 0.05, "--preset", "cells"),
]
TRAIN = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT / "tools")!r})
import train
"""
# The worker that is killed in its sixth step, between two checkpoints.
KILLED = """
os.environ["TF_USE_LEGACY_KERAS"] = "1"
from tensorflow import keras

class Kill(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 6:
            os.kill(os.getpid(), signal.SIGKILL)

fit = keras.Model.fit
keras.Model.fit = lambda self, *args, callbacks, **kwargs: fit(self, *args, callbacks=[*callbacks, Kill()], **kwargs)
"""
# One process that trains on the two workers' parts, put together to batches.
ALONE = """
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf
from kerasseg import pipeline

part = pipeline.train_batches

def whole(*args, **kwargs):
    kwargs.pop("input_context", None)
    parts = [part(*args, input_context=tf.distribute.InputContext(2, i, 2), **kwargs) for i in range(2)]
    together = tf.data.Dataset.zip(tuple(parts))
    return together.map(lambda one, two: tuple(tf.concat(both, 0) for both in zip(one, two)))

pipeline.train_batches = whole
"""
RUN = "\ntrain._cli.run(train.main)\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Grey images, class 1 where bright; 7 to train on, in two files, and 3 for validation."""
    directory = tmp_path_factory.mktemp("data") / "bright"
    rng = np.random.default_rng(0)

    def example(key):
        mask = np.kron(rng.integers(0, 2, (4, 4)), np.ones((6, 6))).astype(np.uint8)
        image = (mask * 120 + rng.integers(0, 100, mask.shape)).astype(np.uint8)
        mask[0] = 255
        return records.Example(key, image[..., None], mask)

    splits = {name: [example(f"{name}{i}") for i in range(n)] for name, n in (("train", 7), ("val", 3))}
    records.write(
        directory, spec.DatasetSpec("bright", ("dark", "bright"), channels=1), splits, num_shards=2, progress=False
    )
    return directory


class Processes:
    """Starts training processes; ends all that are left."""

    def __init__(self, directory):
        self._directory, self._logs = directory, {}

    def start(self, code, arguments, config=None, scratch=None):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        for name in ("TF_CONFIG", "TF_USE_LEGACY_KERAS"):
            environment.pop(name, None)
        if config is not None:
            environment |= {"TF_CONFIG": json.dumps(config), "TMPDIR": str(scratch)}
        log = self._directory / f"{len(self._logs)}.log"
        command = [sys.executable, "-c", TRAIN + code + RUN, *map(str, arguments)]
        with open(log, "wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        self._logs[process] = log
        return process

    def end(self, process, within_s=400):
        """Returns exit status and output of a process, which must end in time."""
        try:
            status = process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"hangs after {within_s} s:\n{self._logs[process].read_text()[-4000:]}")
        return status, self._logs[process].read_text()

    def close(self):
        for process in self._logs:
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path):
    started = Processes(tmp_path)
    yield started
    started.close()


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("tf_keras") is None and not issubclass(keras.Model, tf.Module),
    reason="several workers need Keras 2: tf_keras is not installed",
)
def test_two_workers_killed_and_started_again_end_as_one_that_never_was(data, tmp_path, processes):
    """Loss, mIoU and weights, on the same global batches, with synchronised batch normalisation."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def start(code, index, cluster):
        arguments = [*OPTIONS, "--data", data, "--output", tmp_path / "two"]
        return processes.start(code, arguments, task(index, cluster), scratch)

    alone = processes.start(ALONE, [*OPTIONS, "--data", data, "--output", tmp_path / "one"])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    chief, killed = start("", 0, cluster), start(KILLED, 1, cluster)
    assert processes.end(killed)[0] == -signal.SIGKILL
    status, output = processes.end(chief)
    assert status == 1
    assert "error: another worker has ended" in output.splitlines()[-1], output[-3000:]
    assert json.loads((tmp_path / "two" / "run.json").read_text())["scores"]["step"] == EVERY

    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    both = start("", 0, cluster), start("", 1, cluster)
    for index, process in enumerate(both):
        status, output = processes.end(process)
        assert status == 0, output[-3000:]
        # One of them reports.
        assert ("step 10/10" in output, "best model:" in output) == (index == 0, index == 0)
    status, output = processes.end(alone)
    assert status == 0, output[-3000:]

    assert compare(tmp_path / "one", tmp_path / "two") < 1e-5
    named = {path.name for path in (tmp_path / "two").iterdir()}
    assert named == {path.name for path in (tmp_path / "one").iterdir()}
    assert not list((tmp_path / "two").rglob("*partial*"))
    assert not list((tmp_path / "two").rglob("*workertemp*"))
    writers = {int(path.name.split(".")[5]) for path in (tmp_path / "two").rglob("events.*")}
    assert writers == {chief.pid, both[0].pid}


def compare(one, two):
    """Returns the largest difference between the weights of two runs, whose logs agree."""
    rows = []
    for directory in (one, two):
        with open(directory / "log.csv", encoding="utf-8") as file:
            rows.append([{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)])
    assert [row["step"] for row in rows[0]] == [4, 8, 10]
    for ours, expected in zip(rows[1], rows[0], strict=True):
        assert ours == pytest.approx(expected, rel=1e-5)
    script = """
import sys, numpy as np
from tensorflow import keras
import kerasseg.losses, kerasseg.layers, kerasseg.metrics, kerasseg.training
one, two = (keras.models.load_model(path).get_weights() for path in sys.argv[1:])
print(max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True)))
"""
    command = [sys.executable, "-c", script, str(one / "last.keras"), str(two / "last.keras")]
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, cwd=ROOT)
    assert found.returncode == 0, found.stderr[-3000:]
    return float(found.stdout)
