"""A model's inference as one graph, batch normalisation folded into the convolutions before it."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.export._folding import folded, leading_to, node_of, rewired
from kerasseg.layers import forward_only

WEIGHTS = ("float32", "bfloat16", "float16")
LARGEST_GRAPH = 2**31 - 2**25
"""Bytes of constants that a graph holds: protobuf's messages, which graphs are stored in, end at 2 GiB."""

FROZEN = 2**28
"""Bytes of weights, 256 MiB, up to which they are constants if nothing is said."""

_SMALL = 1024  # Values of a weight that is not worth storing in 16 bits.


def frozen(model: keras.Model, weights: str = "float32", *, constants: bool | None = True) -> Callable:
    """Returns a `tf.function` of images float32 [B, H, W, C] that gives the model's logits, float32 [B, h, w, K].

    Later changes of the model do not reach it. Its graph has no batch normalisation where one follows a convolution
    (Conv2D, DepthwiseConv2D; with or without a bias) that nothing else reads: with s = gamma / sqrt(variance +
    epsilon), kernel * s and beta + (bias - mean) * s take its place. Values differ by rounding. Networks with unpooling
    keep theirs: where two pixels of a pooling window are nearly equal, rounding would send the value to the other one.

    Args:
        model: Images -> logits.
        weights: How kernels are stored: "float32"; or "bfloat16" or "float16", half the size. They are computed with in
            the model's own precision all the same.
        constants: Whether the graph holds the weights, so that a runtime can lay them out once for its kernels: the
            quickest, at many times their memory, for TensorFlow copies graphs as it prepares them. False: variables.
            None: constants if they take 256 MiB at most.
    Raises:
        ValueError: `weights` is none of these, the constants are too large for a graph, or the model uses a variable
            otherwise than by reading the whole of it.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    forward = forward_only()(lambda images: tf.cast(model(images, training=False), tf.float32))
    function = tf.function(forward, autograph=False).get_concrete_function(images)
    input_, output = function.inputs[0].name, function.outputs[0].name
    graph, values = _without_variables(function)
    if not any(node.op == "MaxPoolGrad" for node in graph.node):  # That is unpooling.
        graph, values = folded(graph, values)
    graph = leading_to(node_of(output), graph)
    read = {node_of(name) for node in graph.node for name in node.input}
    stored = {name: _stored(value, weights) for name, value in values.items() if name in read}
    size = sum(value.nbytes for value in stored.values())
    if constants and size > LARGEST_GRAPH:
        raise ValueError(f"a graph holds {LARGEST_GRAPH} bytes of constants, the weights take {size}: keep variables")
    if not (size <= FROZEN if constants is None else constants):
        stored = {name: tf.Variable(value, trainable=False) for name, value in stored.items()}
    shape = function.outputs[0].shape

    @tf.function(input_signature=[images], autograph=False)
    def call(images):
        inputs = {input_: images} | {name: tf.cast(value, values[name].dtype) for name, value in stored.items()}
        (logits,) = tf.graph_util.import_graph_def(graph, inputs, [output], name="network")
        return tf.ensure_shape(logits, shape)

    return call


def _stored(value, weights):
    """Returns a weight in 16 bits, where these are wanted and spare something."""
    spares = weights != "float32" and value.dtype == np.float32 and value.size >= _SMALL
    return value.astype(tf.as_dtype(weights).as_numpy_dtype) if spares else value


def _without_variables(function):
    """Returns a concrete function's GraphDef and {name: NumPy array}; names without a node stand for the weights."""
    captured = function.captured_inputs
    names = [tensor.op.name for tensor in function.inputs[len(function.inputs) - len(captured) :]]
    captured = dict(zip(names, captured, strict=True))
    values = {name: tensor.numpy() for name, tensor in captured.items() if tensor.dtype != tf.resource}
    source = function.graph.as_graph_def()
    reads = {n.name: n for n in source.node if n.op == "ReadVariableOp" and n.input[0] in captured}
    for name, dtype in {node.input[0]: node.attr["dtype"].type for node in reads.values()}.items():
        values[name] = tf.raw_ops.ReadVariableOp(resource=captured[name], dtype=dtype).numpy()
    graph = tf.compat.v1.GraphDef(versions=source.versions, library=source.library)
    for node in source.node:
        if node.name in reads:
            copy = graph.node.add(name=node.name, op="Identity", input=[node.input[0]])
            copy.attr["T"].type = node.attr["dtype"].type
        elif node.name not in captured:
            # Nothing waits for a weight to be read.
            graph.node.append(rewired(node, [i for i in node.input if i[0] != "^" or i[1:] not in reads]))
    unread = [(n.op, i) for n in graph.node for i in n.input if i in captured and i not in values]
    if unread:
        raise ValueError(f"a model's variables can only be held if they are read as a whole; {unread[0][0]} does not")
    return graph, values
