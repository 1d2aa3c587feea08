"""A model's inference as one graph of constants, batch normalisation folded into the convolutions before it."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

WEIGHTS = ("float32", "bfloat16", "float16")
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_SMALL = 1024  # Values of a constant that is not worth storing in 16 bits.


def frozen(model: keras.Model, weights: str = "float32") -> Callable:
    """Returns a `tf.function` of images float32 [B, H, W, C] that gives the model's logits, float32 [B, h, w, K].

    Its graph holds the weights as constants, so that a runtime can lay them out once for its kernels, and has no batch
    normalisation where one follows a convolution (Conv2D, DepthwiseConv2D; with or without a bias) that nothing else
    reads: with s = gamma / sqrt(variance + epsilon), kernel * s and beta + (bias - mean) * s take its place. Values
    differ by rounding. Networks with unpooling keep theirs: where two pixels of a pooling window are nearly equal,
    rounding would send the value to the other one.

    Args:
        model: Images -> logits.
        weights: How kernels are stored: "float32"; or "bfloat16" or "float16", half the size. They are computed with in
            the model's own precision all the same.
    Raises:
        ValueError: `weights` is none of these.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    function = tf.function(lambda images: tf.cast(model(images, training=False), tf.float32), autograph=False)
    function = convert_variables_to_constants_v2(function.get_concrete_function(images), lower_control_flow=False)
    graph = function.graph.as_graph_def()
    if not any(node.op == "MaxPoolGrad" for node in graph.node):  # That is unpooling.
        graph = _folded(graph)
    if weights != "float32":
        graph = _stored_in_16_bits(graph, tf.as_dtype(weights))
    input_, output = function.inputs[0].name, function.outputs[0].name
    shape = function.outputs[0].shape

    @tf.function(input_signature=[images], autograph=False)
    def call(images):
        (logits,) = tf.graph_util.import_graph_def(graph, {input_: images}, [output], name="network")
        return tf.ensure_shape(logits, shape)

    return call


def _folded(graph):
    """Returns the GraphDef without the normalisations that can be folded."""
    nodes = {node.name: node for node in graph.node}
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(_node(name), []).append(node.name)
    constants = _Constants(graph, nodes)
    new, replaced = [], {}
    for node in graph.node:
        if node.op != "FusedBatchNormV3" or node.attr["is_training"].b:
            continue
        inputs = [
            name for reader in readers.get(node.name, ()) for name in nodes[reader].input if _node(name) == node.name
        ]
        if any(name not in (node.name, f"{node.name}:0") for name in inputs):
            continue  # Something reads its statistics.
        chain = _convolution(node, nodes, readers)
        if chain is None or not constants.all(node.input[1:5]):
            continue
        convolution, bias = chain
        if not constants.all([convolution.input[1], *([bias] if bias else [])]):
            continue
        gamma, beta, mean, variance = (constants[name] for name in node.input[1:5])
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        kernel = constants[convolution.input[1]]
        shift = beta + ((constants[bias] if bias else 0.0) - mean) * scale
        # Of a depthwise kernel [h, w, C, M], output c * M + m is made of C and M.
        by_output = scale.reshape(kernel.shape[2:]) if convolution.op == "DepthwiseConv2dNative" else scale
        new += [_constant(f"{node.name}/kernel", kernel * by_output), _constant(f"{node.name}/bias", shift)]
        replaced[convolution.name] = _rewired(convolution, [convolution.input[0], f"{node.name}/kernel"])
        replaced[node.name] = _bias_add(node, convolution.name)
    constants.close()
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    result.node.extend(new)
    result.node.extend(replaced.get(node.name, node) for node in graph.node)
    return _without_unread(result, keep={n.name for n in graph.node if n.name not in readers})


def _convolution(node, nodes, readers):
    """Returns the convolution that a normalisation alone reads, and the name of the bias in between or None."""
    before, bias = nodes[_node(node.input[0])], None
    if before.op == "BiasAdd" and len(readers[before.name]) == 1:
        bias = before.input[1]
        before = nodes[_node(before.input[0])]
    is_one = before.op in _CONVOLUTIONS and len(readers[before.name]) == 1
    return (before, bias) if is_one and before.attr["data_format"].s in (b"", b"NHWC") else None


class _Constants:
    """Values of a graph's tensors that no input has a part in."""

    def __init__(self, graph, nodes):
        self._nodes, self._known = nodes, {}
        self._graph = tf.Graph()
        with self._graph.as_default():
            tf.graph_util.import_graph_def(graph, name="")
        self._session = tf.compat.v1.Session(graph=self._graph)

    def close(self) -> None:
        """Gives back what the values were computed with."""
        self._session.close()

    def all(self, names) -> bool:
        """Tells whether all of these tensors are constant."""
        return all(self._is_constant(_node(name)) for name in names)

    def _is_constant(self, name):
        if name not in self._known:
            node = self._nodes[name]
            self._known[name] = node.op != "Placeholder" and all(self._is_constant(_node(n)) for n in node.input)
        return self._known[name]

    def __getitem__(self, name):
        return self._session.run(name if ":" in name else f"{name}:0").astype(np.float64)


def _node(name):
    return name.removeprefix("^").split(":")[0]


def _constant(name, values):
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    values = np.asarray(values)
    values = values.astype(np.float32) if values.dtype == np.float64 else values
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values))
    node.attr["dtype"].type = node.attr["value"].tensor.dtype
    return node


def _rewired(node, inputs):
    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(inputs)
    return copy


def _bias_add(norm, convolution):
    """Returns the addition of a bias under the normalisation's name, so that its readers need not change."""
    node = tf.compat.v1.NodeDef(name=norm.name, op="BiasAdd", input=[convolution, f"{norm.name}/bias"])
    node.attr["T"].CopyFrom(norm.attr["T"])
    node.attr["data_format"].s = b"NHWC"
    return node


def _without_unread(graph, keep):
    """Returns the GraphDef without the nodes that nothing reads any more."""
    nodes = {node.name: node for node in graph.node}
    used, waiting = set(), [name for name in keep if name in nodes]
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += [_node(i) for i in nodes[name].input]
    kept = [node for node in graph.node if node.name in used]
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    result.node.extend(kept)
    return result


def _stored_in_16_bits(graph, dtype):
    """Returns the GraphDef with its large float32 constants stored in 16 bits and cast back where they are read."""
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is None or tensor.dtype != tf.float32.as_datatype_enum:
            result.node.append(node)
            continue
        values = tf.make_ndarray(tensor)
        if values.size < _SMALL:
            result.node.append(node)
            continue
        stored = _constant(f"{node.name}/{dtype.name}", values.astype(dtype.as_numpy_dtype))
        cast = tf.compat.v1.NodeDef(name=node.name, op="Cast", input=[stored.name])
        cast.attr["SrcT"].type, cast.attr["DstT"].type = dtype.as_datatype_enum, tf.float32.as_datatype_enum
        result.node.extend([stored, cast])
    return result
