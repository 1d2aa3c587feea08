"""Reads, shuffles, augments and batches with `tf.data`."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasseg import records
from kerasseg.augment import Augmentation
from kerasseg.pipeline import presets
from kerasseg.pipeline._drawing import Wanted
from kerasseg.pipeline._opencv import with_opencv
from kerasseg.pipeline._shards import checked_shards, share_of_worker
from kerasseg.pipeline._tensorflow import batched, with_tensorflow
from kerasseg.spec import DataError, DatasetSpec

Preset = Augmentation | Callable[[dict, tf.Tensor, tuple[int, int]], dict]

# Fixed, not "as many as there are cores": the order of the records depends on it.
_FILES_AT_ONCE = 4


def train_batches(
    data_dir,
    split: str,
    batch_size: int,
    crop_size: int | tuple[int, int] | None,
    preset: Preset | str = presets.deeplab_paper,
    seed: int | None = None,
    *,
    weights: bool = False,
    instances: bool = False,
    compact: bool = False,
    engine: str | None = None,
    shuffle_block: int = 1000,
    first_step: int = 0,
    num_parallel: int = tf.data.AUTOTUNE,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns batches that go on for ever, shuffled anew and augmented anew in every epoch.

    With a seed, everything is drawn from (seed, epoch, place in the epoch): the batches are the same in every run, on
    any number of threads and cores, whatever TensorFlow's global seed, and each time the dataset is iterated.

    Under `tf.distribute`, give the global batch size. In one process (`MirroredStrategy`) each batch is divided among
    the replicas. With several workers there are two ways. tf.data's automatic sharding deals out whole epochs: worker
    i of n augments and trains on the epochs i, i + n, ..., so that n workers need no n files. To deal out files, each
    worker reading a part of its own, every record once in its epoch:

        strategy.distribute_datasets_from_function(lambda context: train_batches(..., input_context=context))

    A tf.data service runs `engine="tensorflow"` only. With one worker and the policy OFF it gives the very batches that
    are made here; with several, DYNAMIC deals out epochs. Its processes need the record files, not this package:

        service = tf.data.experimental.service
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=5000))  # in one process
        worker = service.WorkerServer(service.WorkerConfig(dispatcher_address="host:5000"))  # in each of the others
        data = train_batches(..., engine="tensorflow")
        data = data.apply(service.distribute(service.ShardingPolicy.DYNAMIC, "grpc://host:5000"))

    Args:
        data_dir: Folder of a converted data set.
        split: For instance "train".
        batch_size: B.
        crop_size: Side of the square, or (height, width). None: whole images, and where a batch has more than one,
            all padded below and on the right to the largest (image 0, mask 255).
        preset: How samples are augmented and cut: an `Augmentation`, a function of TensorFlow ops, or the name of one
            in `presets`.
        seed: At least 0. None: another one each time.
        weights: Whether to give the weight maps, for losses that take weights for each pixel.
        instances: Whether to give the instance ids.
        compact: Whether image and mask come in uint8, the image rounded: a quarter of the bytes to write, and to send
            to a GPU. Models take either.
        engine: What carries an `Augmentation` out: "opencv", the fastest on a CPU (but where crops are small beside
            JPEG images, which it decodes whole), or "tensorflow", ops in the graph, which other processes can run as
            well (tf.data service). The same parameters are drawn, and the pictures are the same but for rounding, and
            for noise (and `SimardElastic`, which is made of it): each draws its own. None: OpenCV where it can be;
            functions are TensorFlow's.
        shuffle_block: Records are read from all files in turn, in random order of the files, and shuffled among as
            many of their neighbours; so many are kept in memory, encoded.
        first_step: The batch to begin with, for a run that resumes. The records before it are not decoded.
        num_parallel: Samples that TensorFlow's engine decodes and augments at the same time. OpenCV's has a thread for
            each core.
        input_context: Which part of several workers' input to give: the files i, i + n, ... of the split for worker i
            of n. Let the number of files be a multiple of n: workers whose files hold fewer records go through them
            more often. `batch_size` and `first_step` stay the whole training's; a batch then is one replica's part.

    A byte that flipped in a record shows when the record is read, as an error of TensorFlow's that names no file:
    call `model.fit` within `naming_damage`, which finds file and record.

    Returns:
        Dataset of (image float32 [B, H, W, C] 0-255, mask int32 [B, H, W]), with `weights` (..., weight float32
        [B, H, W]), with `instances` (..., instances int32 [B, H, W]). Images of 16 bits are scaled to 0-255
        as `DatasetSpec.value_range` says; raw float32 ones are as they are.

    Raises:
        DataError: The data set is missing or incomplete, a file is damaged, there are no weight maps, instances or
            boxes that are asked for, or fewer files than workers.
        ValueError: An argument is out of range, or `batch_size` is no multiple of the number of replicas.
    """
    spec = DatasetSpec.load(data_dir)
    if batch_size < 1 or shuffle_block < 1 or first_step < 0:
        raise ValueError(
            "expected batch_size and shuffle_block of at least 1 and first_step of at least 0, "
            f"received {batch_size}, {shuffle_block} and {first_step}"
        )
    wanted = Wanted(spec, _checked_size(crop_size), weights, instances, compact)
    preset = _preset(preset)
    _check_parts(data_dir, wanted, preset)
    make = _engine(engine, preset, wanted)
    shards, worker, taken = checked_shards(data_dir, split), 0, batch_size
    if input_context is not None:
        worker, workers = input_context.input_pipeline_id, input_context.num_input_pipelines
        shards = share_of_worker(shards, worker, workers)
        batch_size = input_context.get_per_replica_batch_size(batch_size)
        taken = batch_size * input_context.num_replicas_in_sync // workers
    # Batches run across the ends of epochs.
    first_epoch, seen = divmod(first_step * taken, sum(shards.values()))
    data = _shuffled_records([str(path) for path in shards], _base_seed(seed, worker), shuffle_block, first_epoch)
    data = data.skip(seen)
    return make(data, preset, wanted, batch_size, num_parallel).prefetch(tf.data.AUTOTUNE)


def _check_parts(data_dir, wanted: Wanted, preset: Preset) -> None:
    """Raises an error where the data set does not hold what is asked for."""
    spec = wanted.spec
    if wanted.weight and not spec.has_weights:
        raise DataError(f"{data_dir} has no weight maps; convert it again with --border-weights")
    if wanted.instances and not spec.has_instances:
        raise DataError(f"{data_dir} has no instances; convert it again, VOC with --instances")
    if isinstance(preset, Augmentation) and preset.needs_boxes:
        if not spec.has_objects:
            raise DataError(f"{data_dir} has no boxes of objects; convert it again, VOC with --instances")
        if wanted.crop_size is None:
            raise ValueError(f"crop={preset.crop!r} needs a crop_size, received None")


def _engine(engine: str | None, preset: Preset, wanted: Wanted):
    if engine not in (None, "opencv", "tensorflow"):
        raise ValueError(f'expected engine "opencv", "tensorflow" or None, received {engine!r}')
    if isinstance(preset, Augmentation):
        return with_tensorflow if engine == "tensorflow" else with_opencv
    if engine == "opencv":
        raise ValueError("a preset that is a function of TensorFlow ops runs with the engine tensorflow only")
    return batched


def eval_images(data_dir, split: str, keys: bool = False, instances: bool = False) -> tf.data.Dataset:
    """Returns the whole images of a split, one by one, in the order of the records, each in a batch of one.

    Args:
        data_dir: Folder of a converted data set.
        split: For instance "val".
        keys: Whether to give the images' names as well.
        instances: Whether to give the instance ids.

    Returns:
        Dataset of (image float32 [1, H, W, C] 0-255, mask int32 [1, H, W]), with `instances` (..., instances int32
        [1, H, W]), with `keys` (..., key string [1]).

    Raises:
        DataError: The data set is missing or incomplete, or a file is damaged.
    """
    spec = DatasetSpec.load(data_dir)

    @tf.autograph.experimental.do_not_convert
    def sample(serialized):
        parsed = records.parse(serialized, channels=spec.channels, bit_depth=spec.bit_depth, instances=instances)
        elements = tf.cast(records.to_255(parsed["image"], spec), tf.float32), tf.cast(parsed["mask"], tf.int32)
        optional = (("instances", instances), ("key", keys))
        return (*elements, *(parsed[name] for name, wanted in optional if wanted))

    files = [str(path) for path in checked_shards(data_dir, split)]
    data = tf.data.TFRecordDataset(files).map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    data = data.apply(tf.data.experimental.assert_cardinality(spec.split(split).num_examples))
    return data.batch(1).prefetch(tf.data.AUTOTUNE)


def _shuffled_records(files, base_seed, block, first_epoch):
    """Returns an endless dataset of (seed int64 [2], record), every epoch a fresh shuffle.

    `Dataset.shuffle` would do less: its order also hangs on TensorFlow's global seed and on how far an iterator that
    was given up had read ahead.
    """

    @tf.autograph.experimental.do_not_convert
    def epoch(number):
        epoch_seed = tf.random.experimental.stateless_fold_in(base_seed, number)
        order = tf.data.Dataset.from_tensor_slices(_shuffled(tf.constant(files), epoch_seed))
        data = order.interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(len(files), _FILES_AT_ONCE),
            block_length=1,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        blocks = data.batch(block).enumerate()
        return blocks.map(lambda i, taken: _shuffled_block(taken, i, block, epoch_seed)).unbatch()

    return tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max).flat_map(epoch)


def _shuffled_block(taken, number, block, epoch_seed):
    """Returns the seeds of a block's samples, int64 [N, 2], and its records in another order.

    A sample's seed is `stateless_fold_in(epoch_seed, -1 - place)`, its place counted in the epoch; of all of them at
    once, for a fifth of the time of one after another. Negative: 0, 1, ... shuffle the blocks.
    """
    places = number * block + tf.range(tf.shape(taken, tf.int64)[0])
    first = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64)
    seeds = tf.stack([tf.broadcast_to(first, tf.shape(places)), -1 - places], 1)
    return seeds, _shuffled(taken, tf.random.experimental.stateless_fold_in(epoch_seed, number))


def _shuffled(values, seed):
    return tf.random.experimental.stateless_shuffle(values, seed)


def _base_seed(seed, worker):
    if seed is None:
        seed = np.random.default_rng().integers(2**31)
    elif seed < 0:
        raise ValueError(f"expected a seed of at least 0, received {seed}")
    return tf.constant([seed, worker], tf.int64)


def _checked_size(crop_size):
    if crop_size is None:
        return None
    size = (crop_size, crop_size) if isinstance(crop_size, (int, np.integer)) else tuple(crop_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"expected crop_size as one side or (height, width), at least 1, received {crop_size!r}")
    return int(size[0]), int(size[1])


def _preset(preset):
    if callable(preset) or isinstance(preset, Augmentation):
        return preset
    if preset not in presets.__all__:
        raise ValueError(
            f"expected an Augmentation, a function or one of {', '.join(presets.__all__)}, received {preset!r}"
        )
    return getattr(presets, preset)
