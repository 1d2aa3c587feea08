"""Decodes, augments and batches with OpenCV in threads, outside of the graph, a whole batch in each call."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from kerasseg import augment, records
from kerasseg.augment import Augmentation, Plan
from kerasseg.pipeline._drawing import PADDING, STORED, Wanted, draw_batch, draw_box
from kerasseg.pipeline._memory import BatchMemory
from kerasseg.spec import IGNORE_LABEL, DataError


def with_opencv(data, augmentation: Augmentation, wanted: Wanted, batch_size: int, num_parallel: int):
    """Returns the batches of a dataset of (seed, record), decoded and augmented by OpenCV, a batch in each call."""
    memory = BatchMemory()

    @tf.autograph.experimental.do_not_convert
    def with_view(seed, serialized):
        return seed, serialized, draw_box(seed, serialized, augmentation, wanted)

    @tf.autograph.experimental.do_not_convert
    def batch(seeds, serialized, views=None):
        features, plan = draw_batch(seeds, serialized, augmentation, wanted, views)
        stored = {name: features[STORED[name]] for name in wanted.parts}
        for name, raw in (("image", "image_raw"), ("mask", "annotation_raw")):
            stored[name] = tf.where(tf.strings.length(features[raw]) > 0, features[raw], stored[name])
        size = tf.stack([features["image/height"], features["image/width"]], -1)
        is_raw = tf.strings.length(features["image_raw"]) > 0
        jobs = _Jobs(stored, size, is_raw, features["image/filename"], plan)
        leaves = tf.nest.flatten(jobs)

        def called(*arrays):
            given = iter(arrays)
            filled = [None if leaf is None else next(given) for leaf in leaves]
            return _render_batch(tf.nest.pack_sequence_as(jobs, filled), augmentation, wanted, memory)

        out = [wanted.dtypes[name] for name in wanted.parts]
        arrays = tf.numpy_function(called, [leaf for leaf in leaves if leaf is not None], out)
        sides = wanted.crop_size or (None, None)
        for array, name in zip(arrays, wanted.parts, strict=True):
            array.set_shape([batch_size, *sides, *([wanted.spec.channels] if name == "image" else [])])
        return tuple(arrays)

    if augmentation.needs_boxes:
        data = data.map(with_view, num_parallel_calls=num_parallel, deterministic=True)
    data = data.batch(batch_size, drop_remainder=True).map(batch, num_parallel_calls=2, deterministic=True)
    # A tf.data service then refuses it at once; without, its worker fails, for want of this process's Python.
    options = tf.data.Options()
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.FAIL
    return data.with_options(options)


class _Jobs(NamedTuple):
    """What a batch is made from: tensors, then arrays, with one entry for each sample."""

    encoded: dict
    size: tf.Tensor | np.ndarray
    is_raw: tf.Tensor | np.ndarray
    key: tf.Tensor | np.ndarray
    plan: Plan


def _render_batch(jobs: _Jobs, augmentation, wanted: Wanted, memory: BatchMemory) -> list[np.ndarray]:
    """Decodes and augments the samples of a batch in threads, each into its place."""
    plans = [_of_sample(jobs.plan, i) for i in range(len(jobs.key))]
    shapes = [_shape(plan) for plan in plans]
    height, width = np.max(shapes, axis=0)
    into = {}
    for name in wanted.parts:
        shape = (len(jobs.key), height, width, *([wanted.spec.channels] if name == "image" else []))
        into[name] = memory.array(name, shape, wanted.dtypes[name].as_numpy_dtype)
        if any(other != shapes[0] for other in shapes):
            into[name][...] = PADDING[name]

    def work(i):
        try:
            sample = _decoded_cv(jobs, i, wanted, plans[i].window)
            rows, columns = shapes[i]
            places = {name: array[i, :rows, :columns] for name, array in into.items()}
            augment.render_cv(sample, plans[i], augmentation, places)
        except DataError as error:
            raise DataError(f"{jobs.key[i].decode(errors='replace')}: {error}") from error

    list(_threads().map(work, range(len(jobs.key))))
    return [into[name] for name in wanted.parts]


def _shape(plan: Plan) -> tuple[int, int]:
    height, width = plan.size.tolist()
    return (width, height) if plan.turns is not None and plan.turns % 2 else (height, width)


def _of_sample(plan, i):
    """Returns a sample's plan out of that of a batch."""
    if plan is None:
        return None
    return type(plan)(*(_of_sample(part, i) for part in plan)) if isinstance(plan, tuple) else plan[i]


def _decoded_cv(jobs: _Jobs, i: int, wanted: Wanted, window) -> dict[str, np.ndarray]:
    """Returns the arrays of a sample, cut to the window."""
    spec, size = wanted.spec, tuple(jobs.size[i].tolist())
    sample = {}
    for name in wanted.parts:
        encoded = jobs.encoded[name][i]
        if name == "image":
            array = _image(encoded, bool(jobs.is_raw[i]), spec, size)
        elif jobs.is_raw[i] and name == "mask":
            array = np.frombuffer(encoded, np.uint8).reshape(size)
        elif encoded:
            array = records.decode_map_cv(encoded, name)
        else:
            missing = {"mask": np.uint8(IGNORE_LABEL), "weight": np.float32(1), "instances": np.int32(0)}
            array = np.full(size, missing[name])
        if array.shape[:2] != size:
            raise DataError(f"the {name} is {array.shape[:2]}, but the record says {size}")
        top, left, height, width = window.tolist()
        sample[name] = array[top : top + height, left : left + width]
    return sample | {"image": records.to_255(sample["image"], spec)}


def _image(encoded: bytes, is_raw: bool, spec, size) -> np.ndarray:
    """Returns uint8, uint16 or float32 [H, W, C]."""
    if is_raw:
        return np.frombuffer(encoded, np.uint8).reshape(*size, 3)
    if spec.bit_depth == 32:
        return np.frombuffer(encoded, "<f4").reshape(*size, spec.channels)
    return records.decode_image_cv(encoded, spec.channels, spec.bit_depth)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    """The threads that decode and augment, one for each core; OpenCV releases Python's lock in them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ThreadPoolExecutor(cores or 1, thread_name_prefix="kerasseg-augment")
