"""The inference graph of a model at a given image size. Nothing is computed: a size costs nothing."""

import dataclasses

import tensorflow as tf
from tensorflow import keras

from kerasseg.layers import forward_only


def trace(model: keras.Model, height: int, width: int) -> tf.Graph:
    """Returns the graph of `model(image, training=False)` for one image of a size."""
    return _function(model, height, width).graph


def outputs(model: keras.Model, height: int, width: int) -> list[tf.Tensor]:
    """Returns the symbolic outputs of that graph."""
    return _function(model, height, width).outputs


def _function(model, height, width):
    function = tf.function(forward_only()(lambda image: model(image, training=False)), autograph=False)
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


@dataclasses.dataclass(frozen=True)
class Spread:
    """A dilated convolution that TensorFlow runs on the small images that space-to-batch makes.

    Keras's own layers do it so on a CPU, and `AtrousSeparableConv2D`.

    Attributes:
        convolution, source: The operation on the small images, and the whole map that they are made of.
        dilations: Vertical and horizontal.
        before: Zeros above and to the left of the whole map.
    """

    convolution: tf.Operation
    source: tf.Tensor
    dilations: tuple[int, int]
    before: tuple[int, int]


def spread(operation: tf.Operation) -> Spread | None:
    """Returns the convolution whose small images a batch-to-space operation puts together; None where it is another."""
    if operation.type != "BatchToSpaceND":
        return None
    convolution = operation.inputs[0].op
    if not is_spread(convolution):
        return None
    to_batch = convolution.inputs[0].op
    paddings = tf.get_static_value(to_batch.inputs[2])
    return Spread(
        convolution,
        to_batch.inputs[0],
        tuple(int(rate) for rate in tf.get_static_value(to_batch.inputs[1])),
        tuple(int(before) for before, _ in paddings),
    )


def is_spread(operation: tf.Operation) -> bool:
    """Returns whether an operation is a convolution of small images."""
    return operation.type in ("Conv2D", "DepthwiseConv2dNative") and operation.inputs[0].op.type == "SpaceToBatchND"
