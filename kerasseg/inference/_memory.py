"""How much memory a forward pass takes, estimated."""

from tensorflow import keras

# What lives beside a model's largest map: its inputs, copies in oneDNN's layout, skip connections. Measured as the
# growth of the process ÷ the largest map: 3.3 for a U-Net with same padding, 7 with valid padding, 5.1 for DeepLab-v3.
_LIVE_MAPS = 7


def bytes_per_pixel(model: keras.Model, size: tuple[int, int]) -> float:
    """Estimates the bytes that inference takes per pixel of the input, from the model's largest feature map.

    Args:
        model: A functional model.
        size: A legal height and width to ask the model's layers about.

    Returns:
        Bytes for each pixel of an image. Rough, on the safe side: up to twice what was measured.
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
