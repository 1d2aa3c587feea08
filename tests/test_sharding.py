"""Workers that share out the files of a split: each its own part, together all, whatever the augmentation."""

import numpy as np
import pytest
import tensorflow as tf

from kerasseg import records
from kerasseg.pipeline import train_batches
from kerasseg.spec import DataError, DatasetSpec

IMAGES = 12


def data_set(directory, num_shards):
    """Image i carries i in its first channel."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 20, 24, 3), np.uint8)
    images[..., 0] = np.arange(IMAGES)[:, None, None]
    masks = np.zeros((IMAGES, 20, 24), np.uint8)
    examples = [records.Example(key=f"im{i:02}", image=images[i], mask=masks[i]) for i in range(IMAGES)]
    spec = DatasetSpec(directory.name, ("background", "one"))
    records.write(directory, spec, {"train": examples}, num_shards=num_shards, progress=False)
    return directory


def context(index, workers, replicas=None):
    return tf.distribute.InputContext(workers, index, replicas or workers)


def taken(number, *arguments, **options):
    return [image.numpy() for image, _ in train_batches(*arguments, **options).take(number)]


def members(batches):
    return [int(i) for batch in batches for i in batch[:, 0, 0, 0]]


@pytest.mark.parametrize(("num_shards", "workers"), [(4, 2), (3, 3)])
def test_every_record_once_an_epoch_and_each_the_same_workers(tmp_path, num_shards, workers):
    directory = data_set(tmp_path / "set", num_shards)
    share, epochs = IMAGES // workers, 3
    options = {"preset": "none", "seed": 3}
    parts = [
        members(taken(epochs * share, directory, "train", workers, 8, input_context=context(i, workers), **options))
        for i in range(workers)
    ]
    for epoch in range(epochs):
        seen = [part[epoch * share : (epoch + 1) * share] for part in parts]
        assert sorted(sum(seen, [])) == list(range(IMAGES))
    assert [len(set(part)) for part in parts] == [share] * workers
    assert all(part[:share] != part[share : 2 * share] for part in parts), "another order in every epoch"


def test_unequal_shares_are_gone_through_whole(tmp_path):
    """12 records in files of 2, 2, 3, 2 and 3: of two workers, one has 8 and one has 4."""
    directory = data_set(tmp_path / "set", 5)
    sizes = []
    for i in range(2):
        drawn = members(taken(40, directory, "train", 2, 8, preset="none", seed=3, input_context=context(i, 2)))
        size = len(set(drawn))
        assert all(sorted(drawn[:size]) == sorted(drawn[at : at + size]) for at in range(0, 40, size))
        sizes.append(size)
    assert sorted(sizes) == [4, 8]


def test_a_batch_is_one_replicas_and_a_resumed_run_begins_with_its_next(tmp_path):
    """Two workers of two replicas each: four parts of a batch of eight, of which a worker takes two in every step."""
    directory = data_set(tmp_path / "set", 4)
    options = {"seed": 3, "input_context": context(1, 2, replicas=4)}
    whole = taken(14, directory, "train", 8, 16, **options)
    assert whole[0].shape == (2, 16, 16, 3)
    for step in (1, 3, 5):
        resumed = taken(4, directory, "train", 8, 16, first_step=step, **options)
        np.testing.assert_array_equal(resumed, whole[2 * step : 2 * step + 4])


def test_workers_draw_other_parameters(tmp_path):
    def shows_its_seed(sample, seed, crop_size):
        image = tf.fill([*crop_size, 3], tf.random.stateless_uniform([], seed))
        return {"image": image, "mask": tf.zeros(crop_size, tf.uint8)}

    directory = data_set(tmp_path / "set", 3)
    options = {"preset": shows_its_seed, "seed": 3}
    parts = [taken(12, directory, "train", 3, 2, input_context=context(i, 3), **options) for i in range(3)]
    assert len({float(image.max()) for part in parts for image in part}) == 36


def test_one_worker_is_as_none(tmp_path):
    directory = data_set(tmp_path / "set", 3)
    alone = taken(5, directory, "train", 3, 16, seed=3)
    np.testing.assert_array_equal(taken(5, directory, "train", 3, 16, seed=3, input_context=context(0, 1)), alone)


def test_a_strategy_takes_it(tmp_path):
    directory = data_set(tmp_path / "set", 3)
    strategy = tf.distribute.MirroredStrategy([tf.config.list_logical_devices("CPU")[0].name])
    data = strategy.distribute_datasets_from_function(
        lambda context: train_batches(directory, "train", 3, 16, seed=3, input_context=context)
    )
    found, _ = next(iter(data))
    np.testing.assert_array_equal(found.numpy(), taken(1, directory, "train", 3, 16, seed=3)[0])


def test_faults_are_named(tmp_path):
    directory = data_set(tmp_path / "set", 2)
    with pytest.raises(DataError, match=r"2 record files cannot be shared out among 3 workers; .* --num-shards 3"):
        train_batches(directory, "train", 3, 16, input_context=context(0, 3))
    with pytest.raises(ValueError, match="3 is not divisible by `num_replicas_in_sync` 2"):
        train_batches(directory, "train", 3, 16, input_context=context(0, 2))
