"""Batches from records: right values, right types, the same under a seed whatever the threads, every sample once."""

import dataclasses
import itertools
import logging
import re
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import augment, records
from kerasseg.losses import CrossEntropy
from kerasseg.pipeline import eval_images, naming_damage, presets, train_batches
from kerasseg.spec import DataError, DatasetSpec, SplitSpec


def example(i, height=20, width=24, channels=3, dtype=np.uint8, weight=False):
    """Image i: every pixel carries i in its first channel, so that a batch tells whom it holds."""
    rng = np.random.default_rng(i)
    limit = 1 if dtype == np.float32 else np.iinfo(dtype).max + 1
    image = (rng.random((height, width, channels)) * limit).astype(dtype)
    image[..., 0] = i
    mask = rng.integers(0, 3, (height, width)).astype(np.uint8)
    mask[0, 0] = 255
    weights = np.where(mask == 255, 2, (mask + 1) / 4).astype(np.float32) if weight else None
    instances = np.repeat(np.arange(height) // 7, width).reshape(height, width).astype(np.uint16)
    return records.Example(key=f"im{i:02}", image=image, mask=mask, weight=weights, instances=instances)


def write(directory, count=11, num_shards=3, **options):
    channels = options.get("channels", 3)
    depth = {"uint8": 8, "uint16": 16, "float32": 32}[np.dtype(options.get("dtype", np.uint8)).name]
    spec = DatasetSpec(directory.name, ("background", "one", "two"), channels=channels, bit_depth=depth)
    examples = [example(i, **options) for i in range(count)]
    splits = {"train": examples, "val": examples[:3]}
    records.write(directory, spec, splits, num_shards=num_shards, progress=False)
    return directory


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "small", weight=True)


def take(number, *arguments, **options):
    return [tuple(part.numpy() for part in batch) for batch in train_batches(*arguments, **options).take(number)]


def same(one, other):
    return all((a == b).all() for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


# --- what comes out ---------------------------------------------------------------------------------------------------


ENGINES = ["opencv", "tensorflow"]


@pytest.mark.parametrize(
    ("preset", "compact"),
    [*((name, False) for name in presets.__all__), ("deeplab_original", True), ("deeplab_paper", True)],
)
def test_batches_are_as_promised(data_dir, preset, compact):
    data = train_batches(data_dir, "train", 4, (16, 18), preset=preset, seed=0, compact=compact)
    types = (tf.uint8, tf.uint8) if compact else (tf.float32, tf.int32)
    assert data.element_spec == (tf.TensorSpec((4, 16, 18, 3), types[0]), tf.TensorSpec((4, 16, 18), types[1]))
    for image, mask in data.take(5):
        assert 0 <= image.numpy().min() <= image.numpy().max() <= 255
        assert set(np.unique(mask)) <= {0, 1, 2, 255}


@pytest.mark.parametrize("preset", ["unet", "cells", "deconvnet_stage1", "deconvnet_stage2", "deeplab_original_fast"])
def test_both_engines_draw_the_same_and_give_the_same_labels(data_dir, preset):
    options = {"preset": preset, "seed": 4, "weights": True, "instances": True}
    one, other = (take(4, data_dir, "train", 3, (16, 18), engine=engine, **options) for engine in ENGINES)
    for ours, theirs in zip(one, other, strict=True):
        # Noise for a picture: what lies between two pixels may be far from both.
        assert np.abs(ours[0] - theirs[0]).mean() < 3
        for part in range(1, 4):
            assert (ours[part] != theirs[part]).mean() < 0.25  # a nearest pixel of two that are equally near


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("dtype", "factor"), [(np.uint16, None), (np.float32, 500)])
def test_compact_batches_of_deep_images_are_rounded_and_cut_off(tmp_path, dtype, factor, engine):
    data_dir = write(tmp_path / "deep", count=3, dtype=dtype)
    options = {"preset": "none", "seed": 1, "engine": engine}
    if dtype == np.float32:
        for shard in records.shard_paths(data_dir, "train"):
            scale_floats(shard, factor)
    exact, compact = (take(2, data_dir, "train", 2, (20, 24), compact=c, **options) for c in (False, True))
    for (expected, _), (image, _) in zip(exact, compact, strict=True):
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, np.clip(np.rint(expected), 0, 255))
    assert len(np.unique(compact[0][0])) > 50


def scale_floats(shard, factor):
    """Multiplies the images of a file of float32 records."""
    stored = [tf.train.Example.FromString(record) for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in stored:
            value = record.features.feature["image/encoded"].bytes_list.value
            value[0] = (np.frombuffer(value[0], "<f4") * np.float32(factor) - 100).tobytes()
            writer.write(record.SerializeToString())


@pytest.mark.parametrize("engine", ENGINES)
def test_whole_images_are_padded_to_the_largest(tmp_path, engine):
    spec = DatasetSpec("sizes", ("background", "one", "two"))
    examples = [example(i, height=10 + i, width=30 - 2 * i) for i in range(4)]
    records.write(tmp_path / "sizes", spec, {"train": examples}, progress=False)
    data = train_batches(tmp_path / "sizes", "train", 4, None, "fcn", seed=0, engine=engine, instances=True)
    assert data.element_spec[0].shape == (4, None, None, 3)
    image, mask, instances = (part.numpy() for part in next(iter(data)))
    assert image.shape == (4, 13, 30, 3)
    for i in range(4):
        stored = examples[int(image[i, 0, 0, 0])]
        height, width = stored.mask.shape
        for part, truth, padding in (
            (image, stored.image, 0),
            (mask, stored.mask, 255),
            (instances, stored.instances, 0),
        ):
            np.testing.assert_array_equal(part[i, :height, :width], truth)
            assert (part[i, height:] == padding).all()
            assert (part[i, :, width:] == padding).all()
    alone = next(iter(train_batches(tmp_path / "sizes", "train", 1, None, "fcn", seed=0, engine=engine)))
    assert alone[1].shape[1:] in {stored.mask.shape for stored in examples}


def test_none_gives_the_stored_pixels(data_dir):
    stored = {e.image[0, 0, 0]: e for e in records.read(data_dir, "train")}
    for image, mask, weight in take(4, data_dir, "train", 3, (10, 12), preset="none", weights=True):
        for i in range(3):
            truth = stored[int(image[i, 0, 0, 0])]
            np.testing.assert_array_equal(image[i], truth.image[5:15, 6:18])
            np.testing.assert_array_equal(mask[i], truth.mask[5:15, 6:18])
            np.testing.assert_array_equal(weight[i], truth.weight[5:15, 6:18])
            assert (image.dtype, mask.dtype, weight.dtype) == (np.float32, np.int32, np.float32)


def test_weights_move_with_the_mask(data_dir):
    for _, mask, weight in take(6, data_dir, "train", 4, 40, seed=1, weights=True):
        np.testing.assert_array_equal(weight[mask != 255], (mask[mask != 255] + 1) / 4)
        assert set(np.unique(weight[mask == 255])) <= {0, 2}  # padded, or stored so


@pytest.mark.parametrize(
    ("channels", "dtype", "scale"), [(1, np.uint8, 1), (2, np.uint8, 1), (1, np.uint16, 257), (5, np.float32, 1)]
)
def test_any_channels_and_bits(tmp_path, channels, dtype, scale):
    data_dir = write(tmp_path / "x", count=3, channels=channels, dtype=dtype)
    stored = {e.key.encode(): e for e in records.read(data_dir, "val")}
    for image, mask, key in eval_images(data_dir, "val", keys=True):
        truth = stored[key.numpy()[0]]
        np.testing.assert_allclose(image[0], truth.image.astype(np.float64) / scale, rtol=1e-6)
        np.testing.assert_array_equal(mask[0], truth.mask)
    for preset, engine in [
        ("deeplab_original", None),
        ("unet", None),
        *(("deeplab_original_fast", e) for e in ENGINES),
    ]:
        image, _ = take(1, data_dir, "train", 2, 16, preset=preset, engine=engine)[0]
        assert image.shape == (2, 16, 16, channels)
        assert np.isfinite(image).all()


def test_eval_images_come_whole_once_and_in_order(data_dir):
    data = eval_images(data_dir, "train", keys=True)
    assert data.cardinality() == 11
    keys = []
    for image, mask, key in data:
        assert image.shape == (1, 20, 24, 3)
        assert mask.dtype == tf.int32
        assert image.numpy()[0, 0, 0, 0] == int(key.numpy()[0][2:])
        keys.append(key.numpy()[0])
    assert keys == [e.key.encode() for e in records.read(data_dir, "train")]
    assert len(next(iter(eval_images(data_dir, "val")))) == 2
    expected = [e.instances for e in records.read(data_dir, "val")]
    for (_, _, instances), other in zip(eval_images(data_dir, "val", instances=True), expected, strict=True):
        np.testing.assert_array_equal(instances[0], other)


# --- order and determinism --------------------------------------------------------------------------------------------


def members(batches):
    return [int(i) for batch in batches for i in batch[0][:, 0, 0, 0]]


def test_every_sample_once_an_epoch_in_another_order_each(data_dir):
    drawn = members(take(11 * 4, data_dir, "train", 1, 8, preset="none", seed=3))
    epochs = [drawn[i : i + 11] for i in range(0, 44, 11)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    blocks = members(take(11, data_dir, "train", 1, 8, preset="none", seed=3, shuffle_block=4))
    assert sorted(blocks) == list(range(11))


@pytest.mark.parametrize(
    ("preset", "engine"), [("deeplab_paper", "tensorflow"), ("deeplab_original", None), ("everything", "opencv")]
)
def test_a_seed_decides_everything_whatever_the_threads_and_the_global_seed(data_dir, preset, engine):
    if preset == "everything":
        preset = augment.Augmentation(
            scale=(0.5, 2.0),
            flip_left_right=True,
            quarter_turns=True,
            elastic=augment.SimardElastic(30.0, 3.0),
            grey=augment.GreyRange(),
            blur=1.0,
            noise=20.0,
            cutout=augment.Cutout(),
        )
    one = take(6, data_dir, "train", 3, 16, preset=preset, seed=5, num_parallel=1, engine=engine)
    tf.random.set_seed(99)
    dataset = train_batches(data_dir, "train", 3, 16, preset=preset, seed=5, num_parallel=7, engine=engine)
    list(itertools.islice(dataset, 5))  # an iterator that is given up, having read ahead
    again = [tuple(part.numpy() for part in batch) for batch in dataset.take(6)]
    assert same(one, again)
    assert not same(one, take(6, data_dir, "train", 3, 16, preset=preset, seed=6, engine=engine))


def test_without_a_seed_the_batches_are_others_each_time(data_dir):
    assert not same(take(2, data_dir, "train", 3, 16), take(2, data_dir, "train", 3, 16))


def test_one_core_gives_the_same_batches(data_dir):
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    data = train_batches(data_dir, "train", 3, 16, seed=5).with_options(options)
    narrow = [tuple(part.numpy() for part in batch) for batch in data.take(12)]
    assert same(narrow, take(12, data_dir, "train", 3, 16, seed=5))


@pytest.mark.parametrize("first_step", [1, 4, 11])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_resumed_run_begins_with_its_next_batch(data_dir, batch_size, first_step):
    """At the end of an epoch (11 images) and in the midst of one, with batches that straddle epochs."""
    whole = take(first_step + 3, data_dir, "train", batch_size, 16, seed=2)
    assert same(whole[first_step:], take(3, data_dir, "train", batch_size, 16, seed=2, first_step=first_step))


def test_every_sample_of_every_epoch_has_a_seed_of_its_own(data_dir):
    def shows_its_seed(sample, seed, crop_size):
        image = tf.fill([*crop_size, 3], tf.random.stateless_uniform([], seed))
        return {"image": image, "mask": tf.zeros(crop_size, tf.uint8)}

    drawn = [image.max() for image, _ in take(66, data_dir, "train", 1, 2, preset=shows_its_seed, seed=2)]
    assert len(set(drawn)) == 66


# --- beside Keras and tf.distribute -----------------------------------------------------------------------------------


def test_fit_and_a_preset_of_ones_own(data_dir):
    def upper_left(sample, seed, crop_size):
        height, width = crop_size
        return {"image": sample["image"][:height, :width], "mask": sample["mask"][:height, :width]}

    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(256, 1)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = train_batches(data_dir, "train", 2, (8, 9), preset=upper_left)
    history = model.fit(data, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_models_learn_the_same_from_compact_batches(data_dir, engine):
    def losses(compact):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(3, 1)])
        model.compile(keras.optimizers.SGD(1e-6), CrossEntropy())
        data = train_batches(data_dir, "train", 2, 9, "cells", seed=1, engine=engine, compact=compact)
        return model.fit(data, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0).history["loss"]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-6 if engine == "opencv" else 1e-2)


def test_automatic_sharding_deals_out_epochs(data_dir):
    """What each of two workers gets, by the operation that tf.distribute puts into their datasets."""
    from tensorflow.python.data.experimental.ops import distribute

    whole = members(take(44, data_dir, "train", 1, 8, preset="none", seed=3))
    for worker in range(2):
        data = train_batches(data_dir, "train", 1, 8, preset="none", seed=3)
        shard = distribute._AutoShardDataset(data, num_workers=2, index=worker)
        got = members([tuple(part.numpy() for part in batch) for batch in shard.take(22)])
        assert got == whole[11 * worker : 11 * (worker + 1)] + whole[11 * (worker + 2) : 11 * (worker + 3)]


def test_two_replicas_share_a_batch_without_warnings(data_dir, caplog):
    cpus = tf.config.list_logical_devices("CPU")
    devices = [device.name for device in cpus[:2]]  # two where another test has made them
    strategy = tf.distribute.MirroredStrategy(devices)
    single = take(1, data_dir, "train", 4, 8, seed=1)[0][0]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "tensorflow"):
        data = strategy.experimental_distribute_dataset(train_batches(data_dir, "train", 4, 8, seed=1))
        image, _ = next(iter(data))
        parts = strategy.experimental_local_results(image)
    np.testing.assert_array_equal(np.concatenate([part.numpy() for part in parts]), single)
    assert not [r for r in caplog.records if "shard" in r.getMessage().lower()]


# --- bad input --------------------------------------------------------------------------------------------------------


def broken(data_dir, tmp_path, change):
    copy = tmp_path / "copy"
    shutil.copytree(data_dir, copy)
    path = next(iter(records.shard_paths(copy, "train")))
    change(path)
    return copy, path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "{path} is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "{path}: record 2 is cut off or damaged"),
        (lambda path: path.write_bytes(b"no records"), "{path}: record 0 is cut off or damaged"),
        (lambda path: path.write_bytes(b""), "split 'train' holds 8 records, expected 11"),
    ],
)
def test_a_missing_or_damaged_file_is_named_before_training(data_dir, tmp_path, change, message):
    copy, path = broken(data_dir, tmp_path, change)
    with pytest.raises(DataError) as error:
        train_batches(copy, "train", 2, 8)
    assert message.format(path=path) in str(error.value)
    assert "convert the data set again" in str(error.value)
    with pytest.raises(DataError):
        eval_images(copy, "train")


def test_a_flipped_byte_is_noticed(data_dir, tmp_path):
    def flip(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))

    copy, _ = broken(data_dir, tmp_path, flip)
    with pytest.raises(tf.errors.DataLossError):
        list(eval_images(copy, "train"))


def test_faults_of_arguments_are_named(data_dir, tmp_path):
    with pytest.raises(DataError, match="has no split 'test'; it has: train, val"):
        train_batches(data_dir, "test", 2, 8)
    with pytest.raises(DataError, match="is not a complete converted data set"):
        eval_images(tmp_path, "val")
    with pytest.raises(DataError, match="no weight maps; convert it again with --border-weights"):
        train_batches(write(tmp_path / "plain", count=3), "train", 2, 8, weights=True)
    with pytest.raises(ValueError, match="an Augmentation, a function or one of cells, .*, unet, received 'deeplab'"):
        train_batches(data_dir, "train", 2, 8, preset="deeplab")
    with pytest.raises(ValueError, match='engine "opencv", "tensorflow" or None, received \'numpy\''):
        train_batches(data_dir, "train", 2, 8, engine="numpy")
    with pytest.raises(ValueError, match="a function of TensorFlow ops runs with the engine tensorflow only"):
        train_batches(data_dir, "train", 2, 8, preset="deeplab_original", engine="opencv")
    with pytest.raises(ValueError, match="crop='object' needs a crop_size, received None"):
        train_batches(data_dir, "train", 2, None, preset="deconvnet_stage1")
    with pytest.raises(ValueError, match=r"height, width\), at least 1, received \(8, 0\)"):
        train_batches(data_dir, "train", 2, (8, 0))
    with pytest.raises(ValueError, match="at least 1 and first_step of at least 0, received 0, 1000 and 0"):
        train_batches(data_dir, "train", 0, 8)
    with pytest.raises(ValueError, match="seed of at least 0, received -1"):
        train_batches(data_dir, "train", 1, 8, seed=-1)


def test_data_without_instances_is_named(tmp_path):
    spec = DatasetSpec("plain", ("background", "one", "two"))
    plain = [dataclasses.replace(example(i), instances=None) for i in range(2)]
    records.write(tmp_path / "plain", spec, {"train": plain}, progress=False)
    with pytest.raises(DataError, match="plain has no instances; convert it again"):
        train_batches(tmp_path / "plain", "train", 1, 8, instances=True)
    with pytest.raises(DataError, match="plain has no boxes of objects; convert it again"):
        train_batches(tmp_path / "plain", "train", 1, 8, preset="deconvnet_stage2")


def test_functions_take_whole_images_too(data_dir):
    stored = {e.image[0, 0, 0]: e for e in records.read(data_dir, "train")}
    images = take(3, data_dir, "train", 1, None, lambda sample, seed, size: augment.centre_crop(sample, size), seed=1)
    for image, mask in images:
        truth = stored[int(image[0, 0, 0, 0])]
        np.testing.assert_array_equal(image[0], truth.image)
        np.testing.assert_array_equal(mask[0], truth.mask)
    image, mask = take(1, data_dir, "train", 2, None, "deeplab_original", seed=1)[0]
    assert image.shape == (2, 20, 24, 3)
    assert mask.shape == (2, 20, 24)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_does_not_decode_ends_the_batches(data_dir, tmp_path, engine):
    """Its checksum is right, its PNG is not: what other programs may write."""
    copy, path = broken(data_dir, tmp_path, lambda path: None)
    stored = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    example = tf.train.Example.FromString(stored[1])
    mask = example.features.feature["image/segmentation/class/encoded"].bytes_list
    mask.value[0] = mask.value[0][:-30]
    stored[1] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in stored:
            writer.write(record)
    batches = train_batches(copy, "train", 11, 8, engine=engine)
    with pytest.raises(DataError, match=re.escape(str(path)) + ", record 1: .*does not decode"), naming_damage(copy):
        next(iter(batches))


@pytest.mark.parametrize("engine", ENGINES)
def test_training_reads_real_records_of_the_original_project(oracle, tmp_path, engine):
    shutil.copy(oracle / "data/three.tfrecord", tmp_path)
    decoded = np.load(oracle / "data/three_decoded.npz")
    split = SplitSpec(3, ("three.tfrecord",), (0,) * 21)
    DatasetSpec("three", tuple(f"class{i}" for i in range(21)), splits={"train": split}).save(tmp_path)
    batch = next(iter(train_batches(tmp_path, "train", 1, None, "fcn", engine=engine, seed=1)))
    shown = [i for i in range(3) if np.array_equal(batch[0][0], decoded[f"rec{i}_image"])]
    assert len(shown) == 1
    np.testing.assert_array_equal(batch[1][0], decoded[f"rec{shown[0]}_annotation"][..., 0])


def test_real_records_of_the_original_project(oracle, tmp_path):
    """Its raw records are read as they are: only a `dataset.json` has to say what they hold."""
    shutil.copy(oracle / "data/three.tfrecord", tmp_path)
    decoded = np.load(oracle / "data/three_decoded.npz")
    split = SplitSpec(3, ("three.tfrecord",), (0,) * 21)
    DatasetSpec("three", tuple(f"class{i}" for i in range(21)), splits={"val": split}).save(tmp_path)
    for i, (image, mask) in enumerate(eval_images(tmp_path, "val")):
        np.testing.assert_array_equal(image[0], decoded[f"rec{i}_image"])
        np.testing.assert_array_equal(mask[0], decoded[f"rec{i}_annotation"][..., 0])


# --- the sheet --------------------------------------------------------------------------------------------------------


def test_show_batches_draws_a_sheet(data_dir, tmp_path, capsys):
    import show_batches

    sheets = []
    for name in ("one.png", "two.png"):
        path = tmp_path / name
        show_batches.main(
            ["--data", str(data_dir), "--crop-size", "30", "40", "--num-images", "5", "--output", str(path)]
        )
        sheets.append(path.read_bytes())
    assert sheets[0] == sheets[1]
    assert cv2.imread(str(path)).std() > 10
    assert capsys.readouterr().out.endswith(f"5 images in {path}\n")
    with pytest.raises(SystemExit):
        show_batches.main(["--data", str(data_dir), "--preset", "nothing", "--output", str(path)])
    assert "--preset: expected one of cells" in capsys.readouterr().err
    with pytest.raises(DataError, match="is no folder; make it"):
        show_batches.main(["--data", str(data_dir), "--output", str(tmp_path / "no" / "x.png")])


@pytest.mark.parametrize("engine", ENGINES)
def test_records_that_do_not_state_their_images_size(tmp_path, engine):
    """Those of some other programs: the size then is that in the header of the JPEG or PNG."""
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 255, (4, 5, 3)).astype(np.uint8), (31, 22))
    encoded = [cv2.imencode(".jpg", smooth)[1].tobytes(), cv2.imencode(".png", smooth)[1].tobytes()]
    mask = rng.integers(0, 3, (22, 31)).astype(np.uint8)
    features = {"image/segmentation/class/encoded": cv2.imencode(".png", mask)[1].tobytes()}
    with tf.io.TFRecordWriter(str(tmp_path / "bare")) as writer:
        for data in encoded:
            both = features | {"image/encoded": data}
            lists = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for name, v in both.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString())
    split = SplitSpec(2, ("bare",), (0,) * 3)
    DatasetSpec("bare", ("background", "one", "two"), splits={"train": split}).save(tmp_path)
    image, masks = next(iter(train_batches(tmp_path, "train", 2, None, "fcn", engine=engine, seed=1)))
    np.testing.assert_array_equal(masks, [mask, mask])
    expected = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in encoded]
    order = 0 if np.array_equal(image[0], expected[0]) else 1  # the two come shuffled
    np.testing.assert_array_equal(image[0], expected[order])
    np.testing.assert_array_equal(image[1], expected[1 - order])
