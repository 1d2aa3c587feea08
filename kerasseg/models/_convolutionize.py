"""Classifiers as convolutional networks."""

import tensorflow as tf
from tensorflow import keras

POOLINGS = {
    keras.layers.GlobalAveragePooling2D: keras.layers.AveragePooling2D,
    keras.layers.GlobalMaxPooling2D: keras.layers.MaxPooling2D,
}
# What may follow where the map was flattened: layers that see each value by itself, and those that see one channel.
ELEMENTWISE = (
    keras.layers.Activation,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.Flatten,
    keras.layers.LeakyReLU,
    keras.layers.ReLU,
)
CHANNELWISE = (keras.layers.BatchNormalization, keras.layers.Softmax)
BOUND_TO_ONE_SIZE = (
    keras.layers.CenterCrop,
    keras.layers.Lambda,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.Resizing,
)
OPTIONS = ("name", "trainable", "dtype", "activation", "use_bias", "activity_regularizer") + tuple(
    f"{weight}_{part}" for weight in ("kernel", "bias") for part in ("initializer", "regularizer", "constraint")
)
"""What a dense layer and a convolution have in common."""


def convolutionize(model: keras.Model) -> keras.Model:
    """Turns a classifier with dense layers into the convolutional network that is the same at the classifier's size.

    Of a larger image it gives a map: the classifier's answer at every place, at the stride of its poolings. The first
    dense layer becomes a convolution as large as the map that was flattened for it, with the same weights (Keras
    flattens rows, columns, channels: the kernel is only reshaped); further dense layers become 1x1 convolutions.
    Global pooling becomes pooling with a window of the whole map, moved by one cell. All else is kept; softmax is over
    the channels. Weights are copied and layers keep their names; the classifier stays as it is.

    Where the classifier's convolutions have no padding, a cell is exactly what the classifier answers to the window of
    its size there. With padding it is nearly that: it sees the neighbourhood where the classifier sees zeros.

    Args:
        model: Sequential or functional, image float [B, H, W, C] of fixed H and W -> scores [B, K]; may have models of
            images within. Channels last.

    Returns:
        Model: `image` float [B, >= H, >= W, C] -> scores [B, h, w, K]; [B, 1, 1, K] at the classifier's own size.
    Raises:
        ValueError: The model is not of that kind, or a layer, which is named, cannot be moved over an image.
    Reference: Long et al. 2015, arXiv:1411.4038, section 3.1.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs or len(inputs) != 1:
        raise ValueError(f"expected a Sequential or functional model of one image, and built, got {model.name!r}")
    shape = tuple(inputs[0].shape[1:])
    if len(shape) != 3 or None in shape:
        raise ValueError(f"expected a model of images of one size, [B, H, W, C], got {model.name!r} of {shape}")
    probes = {}
    fixed = _clone(model, shape, lambda layer: _probed(layer, probes))
    for ours, theirs in zip(fixed.outputs, model.outputs, strict=True):
        if len(theirs.shape) == 2 and tuple(ours.shape[1:3]) != (1, 1):
            raise ValueError(f"model {model.name!r} ends with a flattened map: expected a dense layer after it")
    copies = []
    result = _clone(model, (None, None, shape[2]), lambda layer: _moved(layer, probes, copies))
    for layer, copy in copies:
        pairs = zip(layer.get_weights(), copy.weights, strict=True)
        copy.set_weights([weight.reshape(tuple(like.shape)) for weight, like in pairs])
    return result


def _clone(model, shape, replace):
    """Returns a model of images of another shape, with each layer, also of models within, as `replace` has it."""

    def replace_or_enter(layer):
        if not isinstance(layer, keras.Model):
            return replace(layer)
        inner = layer.inputs[0].shape
        if len(layer.inputs) != 1 or len(inner) != 4:
            raise _refusal(layer, "a model within has to take one image; put its layers into the model itself")
        return _clone(layer, (None, None, inner[3]) if None in shape else tuple(inner[1:]), replace)

    # As functional models: Sequential ones would be copied with their compilation.
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.outputs
    image = keras.Input(shape, dtype=model.inputs[0].dtype, name="image")
    graph = keras.Model(model.inputs[0], outputs, name=model.name)
    return keras.models.clone_model(graph, input_tensors=image, clone_function=replace_or_enter)


class _Probe(keras.layers.Layer):
    """Takes the place of a layer behind the convolutions, and remembers what map [h, w] it is given."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.window = channels, None

    def build(self, input_shape):
        super().build(input_shape)
        self.window = tuple(input_shape[1:3])

    def call(self, inputs, **_):  # whatever the layer that it stands for was called with
        return tf.zeros([tf.shape(inputs)[0], *self.compute_output_shape(inputs.shape)[1:]], inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape) if self.channels is None else (input_shape[0], 1, 1, self.channels)


def _probed(layer, probes):
    """Returns what stands for a layer at the classifier's size."""
    if _reads_vectors(layer):
        if not isinstance(layer, (keras.layers.Dense, *CHANNELWISE, *ELEMENTWISE)):
            raise _refusal(
                layer, "on vectors only dense layers, activations, dropout and batch normalisation are known"
            )
    elif not isinstance(layer, (keras.layers.Flatten, *POOLINGS)):
        return _copy(layer)
    channels = None
    if isinstance(layer, keras.layers.Dense):
        channels = layer.units
    elif isinstance(layer, tuple(POOLINGS)):
        channels = layer.input.shape[-1]
    probes[id(layer)] = _Probe(channels, name=layer.name)
    return probes[id(layer)]


def _moved(layer, probes, copies):
    """Returns what a layer is when it moves over an image."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _refusal(layer, "it has its channels first; expected channels last")
    probe = probes.get(id(layer))
    copy = _copy(layer) if probe is None else _as_convolution(layer, probe.window)
    copies.append((layer, copy))
    return copy


def _as_convolution(layer, window):
    """Returns the layer for maps that takes the place of one that flattens, pools globally, or takes vectors."""
    for pooling, local in POOLINGS.items():
        if isinstance(layer, pooling):
            if layer.keepdims:
                raise _refusal(layer, "keepdims=True would pool maps of one cell; expected False")
            return local(window, 1, name=layer.name, dtype=layer.dtype)
    if isinstance(layer, keras.layers.Dense):
        config = layer.get_config()
        return keras.layers.Conv2D.from_config(
            {
                **{option: config[option] for option in OPTIONS if option in config},
                "filters": layer.units,
                "kernel_size": window,
            }
        )
    if isinstance(layer, keras.layers.Flatten):
        return keras.layers.Activation("linear", name=layer.name)
    softmax = getattr(layer, "activation", None) is keras.activations.softmax
    if (isinstance(layer, CHANNELWISE) or softmax) and window != (1, 1):
        raise _refusal(layer, f"it takes a flattened map of {window[0]} x {window[1]}, before any dense layer")
    return _copy(layer, axis=-1) if isinstance(layer, CHANNELWISE) else _copy(layer)


def _reads_vectors(layer):
    read = layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]
    return any(len(tensor.shape) == 2 for tensor in read)


def _copy(layer, **changes):
    if isinstance(layer, BOUND_TO_ONE_SIZE):
        raise _refusal(layer, "what it does depends on the size of its input")
    return type(layer).from_config({**layer.get_config(), **changes})


def _refusal(layer, reason):
    return ValueError(f"layer {layer.name!r} ({type(layer).__name__}) cannot be moved over an image: {reason}")
