"""How much memory a forward pass takes, estimated from its graph."""

import collections
import math

import tensorflow as tf
from tensorflow import keras

from kerasseg.layers import forward_only

# What a pass takes beside the maps that live at the same time: copies in oneDNN's layout, what the allocator keeps. The
# growth of the process ÷ the estimate without it was 0.13 to 1.99 for 14 networks at 512 to 1664 pixels a side.
_RESERVE = 2

# Operations that give their input's memory on: as it is, or written over where nobody else reads it.
_VIEWS = {"Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "EnsureShape"}
_IN_PLACE = {
    *("BiasAdd", "FusedBatchNormV3", "Add", "AddV2", "AddN", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Neg"),
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Softplus", "Softmax"),
    *("Exp", "Square", "Sqrt", "Rsqrt"),
}
_NO_MAPS = {"ReadVariableOp", "Const", "NoOp"}


def bytes_per_pixel(model: keras.Model, size: tuple[int, int]) -> float:
    """Estimates the bytes that inference takes per pixel of the input.

    The model is traced, not run: the operations are gone through in their order, each map living from its making to its
    last use, and the moment is looked for when they are most. Models inside of models are part of the graph.

    Args:
        model: Images [B, H, W, C] -> logits [B, h, w, K].
        size: A legal height and width.

    Returns:
        Bytes for each pixel of the images of a batch; rough, on the safe side.
    """
    height, width = size
    spec = tf.TensorSpec((1, height, width, model.input_shape[-1]), tf.float32)
    forward = forward_only()(lambda images: model(images, training=False))
    function = tf.function(forward, autograph=False).get_concrete_function(spec)
    return _RESERVE * _most_alive(function) / (height * width)


def _most_alive(function) -> int:
    """Returns the bytes of the maps that live at the same time, when they are most."""
    operations = function.graph.get_operations()
    last_use = {}
    for moment, operation in enumerate(operations):
        last_use.update((tensor.ref(), moment) for tensor in operation.inputs)
    last_use.update((tensor.ref(), len(operations)) for tensor in function.outputs)
    block_of, size_of, end_of = {}, [], []  # a block of memory holds one map after the other
    change = collections.Counter()
    for moment, operation in enumerate(operations):
        if operation.type in _NO_MAPS:
            continue
        for number, tensor in enumerate(operation.outputs):
            size = _bytes(tensor)
            block = None if number else _taken_over(operation, size, moment, block_of, size_of, end_of)
            if block is None:
                block = len(size_of)
                size_of.append(size)
                end_of.append(moment)
                change[moment] += size
            block_of[tensor.ref()] = block
            end_of[block] = max(end_of[block], last_use.get(tensor.ref(), moment))
    for size, end in zip(size_of, end_of, strict=True):
        change[end + 1] -= size
    alive = most = 0
    for moment in sorted(change):
        alive += change[moment]
        most = max(most, alive)
    return most


def _taken_over(operation, size, moment, block_of, size_of, end_of) -> int | None:
    """Returns the block of an input that the operation's output lies in; None: it needs one of its own."""
    for source in operation.inputs:
        block = block_of.get(source.ref())
        if block is None:
            continue
        if operation.type in _VIEWS:
            return block
        if operation.type in _IN_PLACE and size_of[block] == size and end_of[block] == moment:
            return block
    return None


def _bytes(tensor: tf.Tensor) -> int:
    """Returns the bytes of a tensor; 0 where its size is not known (none of a map's is not) or it is a handle."""
    if tensor.dtype in (tf.resource, tf.variant, tf.string) or not tensor.shape.is_fully_defined():
        return 0
    return math.prod(tensor.shape) * tensor.dtype.size
