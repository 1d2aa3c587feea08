"""How much memory a forward pass takes, estimated."""

from tensorflow import keras

# What was measured around a model's largest map: its inputs, a copy in oneDNN's layout, the skip connections.
_LIVE_MAPS = 4
_PROBE = 512


def bytes_per_pixel(model: keras.Model, size: tuple[int, int]) -> float:
    """Estimates the bytes that inference takes per pixel of the input, from the model's largest feature map.

    Args:
        model: A functional model.
        size: A legal height and width to ask the model's layers about.

    Returns:
        Bytes for each pixel of an image. Rough: a U-Net with 16 filters took 450 measured, 512 are estimated.
    """
    height, width = size
    outputs = [tensor for layer in model.layers for tensor in _output(layer)]
    shapes = keras.Model(model.inputs, outputs).compute_output_shape((1, height, width, model.input_shape[-1]))
    shapes = [shapes] if len(outputs) == 1 else shapes
    largest = max(_elements(shape) for shape in shapes)
    return 4 * _LIVE_MAPS * largest / (height * width)


def _output(layer):
    """Returns the layer's output tensor, in a list; none for layers of several, or that are used several times."""
    try:
        return [layer.output] if hasattr(layer.output, "shape") else []
    except (AttributeError, ValueError):
        return []


def _elements(shape):
    product = 1
    for side in shape[1:]:
        product *= side or 1
    return product
