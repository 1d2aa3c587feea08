"""Unpooling as operations that every runtime has: only TensorFlow knows the gradient of max-pooling."""

import tensorflow as tf


def without_pooling_gradients(graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Returns a graph in which comparisons with the maximum take the place of each `MaxPoolGrad`, value for value.

    Args:
        graph: Of float32, sizes known or not. Its poolings have windows as wide as their stride, and "SAME" padding, as
            those of `kerasseg.layers.MaxUnpool2D` have.
    """
    gradients = [node for node in graph.node if node.op == "MaxPoolGrad"]
    if not gradients:
        return graph
    shapes = _input_shapes(graph, gradients)
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        if node.op != "MaxPoolGrad":
            result.node.append(node)
            continue
        pool_size = node.attr["ksize"].list.i[1]
        unpool = tf.function(lambda *tensors, p=pool_size: _unpooled(*tensors, p), autograph=False)
        result.node.extend(_in_place_of(node, unpool.get_concrete_function(*shapes[node.name])))
    return result


def _input_shapes(graph, nodes):
    """Returns {node name: `tf.TensorSpec` of each input}."""
    with tf.Graph().as_default() as known:
        tf.graph_util.import_graph_def(graph, name="")
        inputs = {node.name: known.get_operation_by_name(node.name).inputs for node in nodes}
        return {name: [tf.TensorSpec(t.shape, t.dtype) for t in tensors] for name, tensors in inputs.items()}


def _unpooled(pooled_from, pooled, values, pool_size):
    """Puts each value where the first maximum of its window is, rows first, and zeros everywhere else."""
    outer, inner = tf.shape(pooled_from), tf.shape(pooled)
    padded, inside = pooled_from, tf.fill([1, inner[1] * pool_size, inner[2] * pool_size, 1], True)
    cut = [slice(None)] * 4
    for axis in (1, 2):
        side = pooled_from.shape[axis]
        if side is None or side % pool_size:
            # Windows over the rim are filled with the pixel there. After it, that is never the first of its value; in
            # front of it, which needs windows of 3 and more, it does not count.
            lack = inner[axis] * pool_size - outer[axis]
            at = tf.range(inner[axis] * pool_size) - lack // 2
            cut[axis] = slice(lack // 2, lack // 2 + outer[axis])
            padded = tf.gather(padded, tf.clip_by_value(at, 0, outer[axis] - 1), axis=axis)
            if pool_size > 2:
                shape = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)
                inside = tf.logical_and(inside, tf.reshape(at >= 0, shape))
    parts, found = [], None
    for y in range(pool_size):
        for x in range(pool_size):
            here = tf.equal(padded[:, y::pool_size, x::pool_size], pooled)
            if pool_size > 2:
                here = tf.logical_and(here, inside[:, y::pool_size, x::pool_size])
            first = here if found is None else tf.logical_and(here, tf.logical_not(found))
            found = here if found is None else tf.logical_or(here, found)
            parts.append(tf.where(first, values, tf.zeros_like(values)))
    unpooled = parts[0] if pool_size == 1 else tf.nn.depth_to_space(tf.concat(parts, -1), pool_size)
    return tf.identity(unpooled[tuple(cut)])


def _in_place_of(node, function):
    """Yields the nodes of a concrete function, its inputs those of the node and its output under the node's name."""
    inputs = {t.op.name: name for t, name in zip(function.inputs, node.input, strict=False)}
    output = function.outputs[0].op.name

    def renamed(name):
        own, _, port = name.removeprefix("^").partition(":")
        if own in inputs:
            return inputs[own]
        return ("^" if name.startswith("^") else "") + f"{node.name}/{own}" + (f":{port}" if port else "")

    for inner in function.graph.as_graph_def().node:
        if inner.name not in inputs:
            copy = tf.compat.v1.NodeDef()
            copy.CopyFrom(inner)
            copy.name = node.name if inner.name == output else f"{node.name}/{inner.name}"
            del copy.input[:]
            copy.input.extend(renamed(name) for name in inner.input)
            yield copy
