"""Batches made by other processes (tf.data service) are those made here, and workers share the epochs out."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from kerasseg import records
from kerasseg.pipeline import train_batches
from kerasseg.spec import DatasetSpec

service = tf.data.experimental.service

# What a user runs on the machine that keeps the books, and on each that augments: neither imports this package. Here
# a process serves several at once, and is told the dispatchers' addresses when TensorFlow is there already.
DISPATCHERS = """
import sys
import tensorflow as tf
servers = [tf.data.experimental.service.DispatchServer() for _ in range(2)]
print("ready", *(server.target for server in servers), flush=True)
sys.stdin.read()
"""
WORKERS = """
import sys
import tensorflow as tf
service = tf.data.experimental.service
config = {"heartbeat_interval_ms": 100, "dispatcher_timeout_ms": 60_000}
addresses = [target.split("://")[1] for target in sys.stdin.readline().split()]
servers = [service.WorkerServer(service.WorkerConfig(dispatcher_address=a, **config)) for a in addresses]
print("ready", flush=True)
sys.stdin.read()
"""
IMAGES = 7


@pytest.fixture(scope="module")
def services():
    """Addresses of two services on this machine: one with a single worker, one with two, in three processes."""
    with contextlib.ExitStack() as stack:
        dispatchers, one, other = (stack.enter_context(process(code)) for code in (DISPATCHERS, WORKERS, WORKERS))
        targets = answer(dispatchers)
        for worker, served in ((one, targets), (other, targets[1:])):
            worker.stdin.write(" ".join(served) + "\n")
            worker.stdin.flush()
        for worker in (one, other):
            answer(worker)
        yield targets


@contextlib.contextmanager
def process(code):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def answer(started):
    line = started.stdout.readline().split()
    assert line[:1] == ["ready"], f"a process of the service ended with {started.wait(60)}"
    return line[1:]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 20, 24, 3), np.uint8)
    masks = rng.integers(0, 3, (IMAGES, 20, 24), np.uint8)
    examples = [records.Example(key=str(i), image=images[i], mask=masks[i]) for i in range(IMAGES)]
    directory = tmp_path_factory.mktemp("data") / "small"
    spec = DatasetSpec("small", ("background", "one", "two"))
    records.write(directory, spec, {"train": examples}, num_shards=3, progress=False)
    return directory


def taken(data, number):
    return [tuple(part.numpy() for part in batch) for batch in data.take(number)]


def distributed(data, policy, target):
    return data.apply(service.distribute(policy, target))


@pytest.mark.parametrize("preset", ["deeplab_original", "cells"])
def test_a_service_gives_the_batches_that_are_made_here(services, data_dir, preset):
    def data():
        return train_batches(data_dir, "train", 2, (16, 18), preset=preset, seed=5, engine="tensorflow")

    here = taken(data(), 8)
    there = taken(distributed(data(), service.ShardingPolicy.OFF, services[0]), 8)
    for ours, theirs in zip(here, there, strict=True):
        for expected, found in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_two_workers_share_the_epochs_and_give_no_sample_twice(services, data_dir):
    """With the policy "dynamic" every epoch is one worker's; augmented anew, each sample of each epoch is unlike."""

    def data():
        return train_batches(data_dir, "train", 1, 16, preset="cells", seed=5, engine="tensorflow")

    epochs = 6
    here = {image.tobytes(): i // IMAGES for i, (image, _) in enumerate(taken(data(), 3 * epochs * IMAGES))}
    there = taken(distributed(data(), service.ShardingPolicy.DYNAMIC, services[1]), epochs * IMAGES)
    seen = [image.tobytes() for image, _ in there]
    assert len(here) == 3 * epochs * IMAGES
    assert len(set(seen)) == len(seen)
    counts = np.bincount([here[image] for image in seen], minlength=3 * epochs)
    assert set(counts) <= set(range(IMAGES + 1))
    # All but the two that the workers are in the midst of: whole, or not begun.
    assert np.count_nonzero(counts % IMAGES) <= 2
    assert counts.sum() == epochs * IMAGES


def test_opencv_is_refused_at_once(services, data_dir):
    """Its Python cannot travel to a worker."""
    data = train_batches(data_dir, "train", 2, 16, preset="cells", engine="opencv")
    with pytest.raises(tf.errors.FailedPreconditionError, match="PyFunc is stateful"):
        distributed(data, service.ShardingPolicy.OFF, services[0])
