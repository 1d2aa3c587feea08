"""The convolutions of a network as they are executed."""

import dataclasses
import math

import tensorflow as tf
from tensorflow import keras

from kerasseg.inspection._trace import is_spread, layer_name, spread, trace


@dataclasses.dataclass(frozen=True)
class Convolution:
    """One convolution of the graph.

    Attributes:
        layer: Name of the layer that it belongs to.
        kind: "conv", "depthwise" or "transposed".
        kernel: Height and width of the kernel.
        strides, dilations: Vertical and horizontal; of a transposed convolution the factors of enlargement.
        output_shape: (H, W, channels).
        multiply_adds: Products of a weight and an activation, padding included, for one image.
    """

    layer: str
    kind: str
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    output_shape: tuple[int, int, int]
    multiply_adds: int


KINDS = {"Conv2D": "conv", "DepthwiseConv2dNative": "depthwise", "Conv2DBackpropInput": "transposed"}


def convolutions(model: keras.Model, height: int, width: int | None = None) -> list[Convolution]:
    """Returns every convolution that runs for one image, in the order of the graph.

    What is asked is the traced graph, not the arguments that layers were built with: a dilation that does not arrive
    there is not reported.

    Args:
        model: Any Keras model of one image.
        height, width: Of the image, in pixels; `width` is `height` if left out.
    Raises:
        ValueError: The model refuses the size, or a layer cuts the image into small ones (space-to-batch) for something
            else than one dilated convolution.
    """
    names = {layer.name for layer in model.layers}
    found = []
    for operation in trace(model, height, width or height).get_operations():
        if operation.type == "SpaceToBatchND" and not all(map(is_spread, operation.outputs[0].consumers())):
            name = layer_name(operation, names)
            raise ValueError(
                f"layer {name!r} computes more than one convolution between space-to-batch and its inverse"
            )
        if whole := spread(operation):
            found.append(_convolution(whole.convolution, operation.outputs[0].shape, whole.dilations, names))
        elif operation.type in KINDS and not is_spread(operation):
            dilations = tuple(operation.get_attr("dilations")[1:3])
            found.append(_convolution(operation, operation.outputs[0].shape, dilations, names))
    return found


def multiply_adds(model: keras.Model, height: int, width: int | None = None) -> int:
    """Returns the multiplications by weights for one image: convolutions of all kinds, and dense layers.

    Resizing, pooling, normalisation and activations are not counted, as is usual.
    """
    dense = 0
    for operation in trace(model, height, width or height).get_operations():
        if operation.type == "MatMul":
            dense += math.prod(operation.inputs[0].shape) * operation.outputs[0].shape[-1]
    return dense + sum(each.multiply_adds for each in convolutions(model, height, width))


def _convolution(operation: tf.Operation, shape, dilations, names) -> Convolution:
    kind = KINDS[operation.type]
    kernel = operation.inputs[1].shape
    # Every weight of a kernel is used once at each place of the map that it moves over: the smaller one of the two
    # for a transposed convolution. Grouped and depthwise kernels are smaller by themselves.
    places = operation.inputs[2].shape if kind == "transposed" else shape
    return Convolution(
        layer=layer_name(operation, names),
        kind=kind,
        kernel=tuple(kernel[:2]),
        strides=tuple(operation.get_attr("strides")[1:3]),
        dilations=dilations,
        output_shape=tuple(shape[1:]),
        multiply_adds=places[1] * places[2] * math.prod(kernel),
    )
