"""The inference graph of a model at a given image size. Nothing is computed: a size costs nothing."""

import tensorflow as tf
from tensorflow import keras


def trace(model: keras.Model, height: int, width: int) -> tf.Graph:
    """Returns the graph of `model(image, training=False)` for one image of a size."""
    return _function(model, height, width).graph


def outputs(model: keras.Model, height: int, width: int) -> list[tf.Tensor]:
    """Returns the symbolic outputs of that graph."""
    return _function(model, height, width).outputs


def _function(model, height, width):
    function = tf.function(lambda image: model(image, training=False))
    return function.get_concrete_function(tf.TensorSpec((1, height, width, model.input_shape[-1])))


def layer_name(operation: tf.Operation, names: set[str]) -> str:
    """Returns the layer that an operation belongs to: the innermost scope that has a layer's name."""
    for scope in reversed(operation.name.split("/")[:-1]):
        if scope in names:
            return scope
        stem = scope.rpartition("_")  # a second call of a layer in the same graph is numbered
        if stem[2].isdigit() and stem[0] in names:
            return stem[0]
    return ""
