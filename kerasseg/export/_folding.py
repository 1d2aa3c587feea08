"""Batch normalisation folded into the convolutions of a graph whose weights lie beside it."""

import numpy as np
import tensorflow as tf

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


def folded(graph: tf.compat.v1.GraphDef, values: dict[str, np.ndarray]) -> tuple[tf.compat.v1.GraphDef, dict]:
    """Returns the graph without the normalisations that can be folded, and the values with new kernels and biases.

    Args:
        graph: Its nodes may read names that are no nodes: those of `values`.
        values: Weights by name.
    """
    nodes = {node.name: node for node in graph.node}
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(node_of(name), []).append(node.name)
    known = _Known(graph, nodes, values)
    values, replaced = dict(values), {}
    for node in graph.node:
        if node.op != "FusedBatchNormV3" or node.attr["is_training"].b:
            continue
        inputs = [
            name for reader in readers.get(node.name, ()) for name in nodes[reader].input if node_of(name) == node.name
        ]
        if any(name not in (node.name, f"{node.name}:0") for name in inputs):
            continue  # Something reads its statistics.
        chain = _convolution(node, nodes, readers)
        if chain is None or not known.all(node.input[1:5]):
            continue
        convolution, bias = chain
        if not known.all([convolution.input[1], *([bias] if bias else [])]):
            continue
        gamma, beta, mean, variance = (known[name] for name in node.input[1:5])
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        kernel = known[convolution.input[1]]
        shift = beta + ((known[bias] if bias else 0.0) - mean) * scale
        # Of a depthwise kernel [h, w, C, M], output c * M + m is made of C and M.
        by_output = scale.reshape(kernel.shape[2:]) if convolution.op == "DepthwiseConv2dNative" else scale
        names = f"{node.name}/kernel", f"{node.name}/bias"
        dtype = tf.as_dtype(node.attr["T"].type).as_numpy_dtype
        values |= dict(zip(names, ((kernel * by_output).astype(dtype), shift.astype(dtype)), strict=True))
        replaced[convolution.name] = rewired(convolution, [convolution.input[0], names[0]])
        replaced[node.name] = _bias_add(node, convolution.name, names[1])
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    result.node.extend(replaced.get(node.name, node) for node in graph.node)
    return result, values


def _convolution(node, nodes, readers):
    """Returns the convolution that a normalisation alone reads, and the name of the bias in between or None."""
    before, bias = nodes[node_of(node.input[0])], None
    if before.op == "BiasAdd" and len(readers[before.name]) == 1:
        bias = before.input[1]
        before = nodes[node_of(before.input[0])]
    is_one = before.op in _CONVOLUTIONS and len(readers[before.name]) == 1
    return (before, bias) if is_one and before.attr["data_format"].s in (b"", b"NHWC") else None


class _Known:
    """Values of the tensors of a graph that follow from the weights alone."""

    def __init__(self, graph, nodes, values):
        self._nodes, self._values, self._leaves = nodes, values, {}
        with tf.Graph().as_default() as self._graph:
            self._given = {name: tf.compat.v1.placeholder(value.dtype, value.shape) for name, value in values.items()}
            read = {node_of(name) for node in graph.node for name in node.input}
            inputs = {name: tensor for name, tensor in self._given.items() if name in read}
            tf.graph_util.import_graph_def(graph, inputs, name="")

    def all(self, names) -> bool:
        """Tells whether all of these tensors are known."""
        return all(self._weights(node_of(name)) is not None for name in names)

    def __getitem__(self, name):
        weights = self._weights(node_of(name))
        while name in self._nodes and self._nodes[name].op == "Identity":
            name = self._nodes[name].input[0]
        if name in self._values:
            return self._values[name].astype(np.float64)
        with tf.compat.v1.Session(graph=self._graph) as session:
            feed = {self._given[weight]: self._values[weight] for weight in weights}
            return session.run(name if ":" in name else f"{name}:0", feed).astype(np.float64)

    def _weights(self, name):
        """Returns the names of the weights that a node is made of; None: it is made of something else."""
        if name in self._values:
            return {name}
        if name not in self._leaves:
            node = self._nodes[name]
            parts = [self._weights(node_of(i)) for i in node.input]
            unknown = node.op == "Placeholder" or None in parts
            self._leaves[name] = None if unknown else set().union(*parts)
        return self._leaves[name]


def node_of(name: str) -> str:
    """Returns the node that a node's input comes from."""
    return name.removeprefix("^").split(":")[0]


def rewired(node: tf.compat.v1.NodeDef, inputs: list[str]) -> tf.compat.v1.NodeDef:
    """Returns a node with other inputs."""
    copy = tf.compat.v1.NodeDef()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(inputs)
    return copy


def leading_to(name: str, graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Returns the part of a graph that a node needs."""
    nodes = {node.name: node for node in graph.node}
    used, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in used:
            used.add(name)
            waiting += [node_of(i) for i in nodes[name].input]
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    result.node.extend(node for node in graph.node if node.name in used)
    return result


def _bias_add(norm, convolution, bias):
    """Returns the addition of a bias under the normalisation's name, so that its readers need not change."""
    node = tf.compat.v1.NodeDef(name=norm.name, op="BiasAdd", input=[convolution, bias])
    node.attr["T"].CopyFrom(norm.attr["T"])
    node.attr["data_format"].s = b"NHWC"
    return node
