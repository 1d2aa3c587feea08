"""The receptive field of a network's output."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.inspection._trace import outputs, spread

# Operations whose output at a place reads the inputs at that place alone.
ELEMENTWISE = frozenset({
    "Add", "AddN", "AddV2", "BiasAdd", "Cast", "ConcatV2", "Elu", "EnsureShape", "FusedBatchNormV3", "Identity", "LRN",
    "LeakyRelu", "Log", "LogSoftmax", "Maximum", "Mul", "RealDiv", "Relu", "Relu6", "ReverseV2", "Sigmoid", "Softmax",
    "Split", "Square", "Sub", "Tanh",
})  # fmt: skip
POOLINGS = ("MaxPool", "AvgPool")
SIZE = 16384
"""Of the image that is asked about, which is larger than the field of any network here."""
PLACES = 32
"""Neighbouring places of the output that are asked about: after an enlargement by up to 32 they differ."""


def receptive_field(model: keras.Model, layer: str | None = None) -> tuple[int, int]:
    """Returns height and width of the part of the image that one place of the output depends on, in pixels.

    Counted as authors do: from the first pixel to the last, holes of dilation included. The mean over a whole image
    (DeepLab's image-level features) does not count. Found by going back through the graph, one operation after the
    other, from places in the middle of a very large image; the largest field is given where they differ.

    Args:
        model: Any Keras model of one image, with known and unknown sizes alike.
        layer: The layer whose output is meant; None: the model's own, the last of several.
    Raises:
        ValueError: The graph has an operation that is not known here, or the field reaches the image's border.
    """
    if layer is not None:
        model = keras.Model(model.input, model.get_layer(layer).output)
    target = outputs(model, *_large_size(model))[-1]
    return tuple(max(_extents(target, axis)) for axis in (1, 2))


def _large_size(model):
    """Returns the first legal height and width from `SIZE` on, or the known ones."""
    height, width, channels = model.input_shape[1:]
    for size in range(SIZE, 2 * SIZE):
        try:
            model.compute_output_shape((1, height or size, width or size, channels))
        except ValueError:
            continue
        return height or size, width or size
    raise ValueError(f"model {model.name!r} takes no image of {SIZE} to {2 * SIZE} pixels a side")


def _extents(target: tf.Tensor, axis: int):
    """Yields how many pixels of the image each of some neighbouring places in the middle of `target` depends on."""
    middle, operations = target.shape[axis] // 2, target.graph.get_operations()[::-1]
    for place in range(middle, min(middle + PLACES, target.shape[axis])):
        first, last, size = _reach(target, operations, axis, place)
        if first == 0 or last == size - 1:
            raise ValueError(f"the receptive field reaches the border of an image of {size} pixels a side")
        yield last - first + 1


def _reach(target, operations, axis, place):
    """Returns the first and last place of the image that `place` of a tensor depends on, and the image's size.

    `operations` are those of the graph, the last first.
    """
    needed = {target.ref(): (place, place)}
    for operation in operations:
        spans = [needed[output.ref()] for output in operation.outputs if output.ref() in needed]
        if not spans:
            continue
        if operation.type == "Placeholder":
            return *spans[0], operation.outputs[0].shape[axis]
        for source, span in _sources(operation, axis, _hull(spans)):
            size = source.shape[axis]
            span = max(span[0], 0), min(span[1], size - 1)
            needed[source.ref()] = _hull([span, needed.get(source.ref(), span)])
    raise ValueError(f"{target.name} does not depend on the image")


def _hull(spans):
    return min(first for first, _ in spans), max(last for _, last in spans)


def _sources(operation, axis, span):
    """Yields the maps [B, H, W, C] that an operation reads, and what of them the span of its output depends on."""
    first, last = span
    kind, inputs = operation.type, operation.inputs
    if kind in ("Conv2D", "DepthwiseConv2dNative", *POOLINGS):
        yield inputs[0], _window(operation, axis).read(first, last)
    elif whole := spread(operation):
        size, dilation = whole.convolution.inputs[1].shape[axis - 1], whole.dilations[axis - 1]
        yield whole.source, _Window(size, 1, dilation, whole.before[axis - 1]).read(first, last)
    elif kind == "Conv2DBackpropInput":
        yield inputs[2], _window(operation, axis).written_by(first, last)
    elif kind == "MaxPoolGrad":  # orig_input, orig_output, grad: the windows that the span lies in
        window = _window(operation, axis)
        windows = window.written_by(first, last)
        yield inputs[2], windows
        yield inputs[0], window.read(*windows)
    elif kind == "ResizeBilinear":
        yield inputs[0], _interpolated(operation, axis, first, last)
    elif kind in ("Pad", "PadV2", "MirrorPad"):
        before = int(tf.get_static_value(inputs[1])[axis][0])
        yield inputs[0], (first - before, last - before)
    elif kind == "StridedSlice":
        # An ellipsis stands for height and width: `[..., :3]` cuts channels only.
        whole = operation.get_attr("ellipsis_mask") or operation.get_attr("begin_mask") >> axis & 1
        start = 0 if whole else int(tf.get_static_value(inputs[1])[axis])
        yield inputs[0], (first + start, last + start)
    elif kind in ELEMENTWISE:
        for source in inputs:
            # What has the map's size; not what is the same at every place, as an image-level feature is.
            if source.shape.rank == 4 and source.shape[axis] == operation.outputs[0].shape[axis]:
                yield source, span
    elif kind != "Mean":
        raise ValueError(f"the receptive field of operation {kind} ({operation.name}) is not known")


class _Window:
    """A window that moves over one axis of a map."""

    def __init__(self, size, stride, dilation, before):
        self.reach, self.stride, self.before = (size - 1) * dilation, stride, before

    def read(self, first, last):
        """Returns what the windows number `first` to `last` cover."""
        return first * self.stride - self.before, last * self.stride - self.before + self.reach

    def written_by(self, first, last):
        """Returns the windows that cover any of the places `first` to `last`."""
        return -((self.reach - first - self.before) // self.stride), (last + self.before) // self.stride


def _window(operation, axis):
    kind = operation.type
    stride = operation.get_attr("strides")[axis]
    if kind in (*POOLINGS, "MaxPoolGrad"):
        size, dilation = operation.get_attr("ksize")[axis], 1
    else:
        size, dilation = operation.inputs[1].shape[axis - 1], operation.get_attr("dilations")[axis]
    large, small = operation.inputs[0], operation.outputs[0]
    if kind == "Conv2DBackpropInput":
        large, small = operation.outputs[0], operation.inputs[2]
    elif kind == "MaxPoolGrad":
        small = operation.inputs[2]
    padding = operation.get_attr("padding").decode()
    before = 0
    if padding == "SAME":
        missing = (small.shape[axis] - 1) * stride + (size - 1) * dilation + 1 - large.shape[axis]
        before = max(missing, 0) // 2
    elif padding == "EXPLICIT":
        before = operation.get_attr("explicit_paddings")[2 * axis]
    return _Window(size, stride, dilation, before)


def _interpolated(operation, axis, first, last):
    """Returns the places that a bilinear resize reads; one of them where a place falls right on it."""
    size, new = operation.inputs[0].shape[axis], operation.outputs[0].shape[axis]
    if operation.get_attr("align_corners"):
        numerator, denominator = size - 1, new - 1
        shift = 0
    else:
        numerator, denominator = size, new
        shift = numerator - denominator if operation.get_attr("half_pixel_centers") else 0  # of 2 * place * n/m
    numerators = [2 * place * numerator + shift for place in (first, last)]
    return numerators[0] // (2 * denominator), -(-numerators[1] // (2 * denominator))
