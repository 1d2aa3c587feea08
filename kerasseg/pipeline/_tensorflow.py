"""Decodes, augments and batches with TensorFlow ops in the graph."""

import tensorflow as tf

from kerasseg import augment, records
from kerasseg.augment import Augmentation
from kerasseg.pipeline._drawing import PADDING, Wanted, draw


def with_tensorflow(data, augmentation: Augmentation, wanted: Wanted, batch_size: int, num_parallel: int):
    """Returns the batches of a dataset of (seed, record), decoded and augmented by TensorFlow ops."""

    @tf.autograph.experimental.do_not_convert
    def sample(seed, serialized):
        features, plan = draw(seed, serialized, augmentation, wanted)
        decoded = _decoded(features, wanted, plan.window)
        return augment.render(decoded, plan, augmentation)

    return _batched(data, sample, wanted, batch_size, num_parallel)


def batched(data, preset, wanted: Wanted, batch_size: int, num_parallel: int):
    """Returns the batches of a dataset of (seed, record), augmented by a function of TensorFlow ops."""

    def sample(seed, serialized):
        decoded = _decoded(records.parse_features(serialized), wanted)
        return preset(decoded, seed, tf.shape(decoded["image"])[:2] if wanted.crop_size is None else wanted.crop_size)

    return _batched(data, sample, wanted, batch_size, num_parallel)


def _decoded(features, wanted: Wanted, window=None):
    spec = wanted.spec
    options = {"weight": wanted.weight, "instances": wanted.instances, "window": window}
    decoded = records.decode(features, channels=spec.channels, bit_depth=spec.bit_depth, **options)
    return decoded | {"image": records.to_255(decoded["image"], spec)}


def _batched(data, sample, wanted: Wanted, batch_size: int, num_parallel: int):
    """Returns batches of `sample(seed, record)`."""

    def elements(seed, serialized):
        made = sample(seed, serialized)
        return tuple(_typed(made[name], wanted.dtypes[name], wanted.crop_size) for name in wanted.parts)

    data = data.map(elements, num_parallel_calls=num_parallel, deterministic=True)
    if wanted.crop_size is not None:
        return data.batch(batch_size, drop_remainder=True)
    padding = tuple(tf.constant(PADDING[name], wanted.dtypes[name]) for name in wanted.parts)
    return data.padded_batch(batch_size, padding_values=padding, drop_remainder=True)


def _typed(array, dtype, crop_size):
    if dtype == tf.uint8 and array.dtype.is_floating:
        array = tf.round(array)
    array = tf.saturate_cast(array, dtype)
    return array if crop_size is None else tf.ensure_shape(array, [*crop_size, *array.shape[2:]])
