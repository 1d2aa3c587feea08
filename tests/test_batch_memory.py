"""The memory of batches: handed out again, but never while anybody holds it."""

import gc

import numpy as np
import tensorflow as tf

from kerasseg.pipeline._memory import BatchMemory


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_handed_out_again_once_nobody_holds_it():
    memory = BatchMemory()
    first, second = (memory.array("image", (2, 3, 5), np.float32) for _ in range(2))
    assert (first.shape, first.dtype, first.flags.writeable) == ((2, 3, 5), np.float32, True)
    assert address(first) % 64 == address(second) % 64 == 0
    assert not np.shares_memory(first, second)
    at, view = address(first), first[1, :, 2:]
    del first
    third = memory.array("image", (2, 3, 5), np.float32)
    assert not np.shares_memory(view, third)
    del view
    assert address(memory.array("image", (30,), np.float32)) == at  # of as many bytes


def test_memory_of_other_sizes_is_given_up():
    memory = BatchMemory()
    for side in range(1, 50):
        memory.array("image", (side, side), np.uint8)
    assert [len(kept) - 64 for kept in memory._free["image"]] == [49 * 49]


def test_tensorflow_takes_arrays_over_and_gives_them_back():
    memory, handed_out = BatchMemory(), []

    def filled(number):
        array = memory.array("image", (64, 64), np.int64)
        handed_out.append(address(array))
        array[...] = number
        return array

    data = tf.data.Dataset.range(200).map(lambda i: tf.numpy_function(filled, [i], tf.int64))
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    held = []
    for number, tensor in enumerate(data.with_options(options)):
        held = [*held[-2:], (number, tensor)]
        for expected, kept in held:
            assert tf.reduce_all(kept == expected)
    del held, tensor, kept
    gc.collect()
    assert len(handed_out) == 200
    assert len(set(handed_out)) < 20
