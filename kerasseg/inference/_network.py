"""What is found out about a model once and used for every image."""

import functools
import weakref
from collections.abc import Callable

import tensorflow as tf
from tensorflow import keras

from kerasseg.inference._memory import bytes_per_pixel
from kerasseg.layers import SizeRule, forward_only, size_rules


class Network:
    """A model's forward pass, legal sizes and memory, each found out when first asked for. See `network`."""

    def __init__(self, model: keras.Model):
        # Only a weak reference: a strong one would keep the model in `_networks` for ever.
        self._model = weakref.ref(model)

    @functools.cached_property
    def forward(self) -> Callable:
        """The model's inference as one graph for images of all sizes: float32 [B, H, W, C] -> float32 [B, h, w, K].

        The images of a data set have hundreds of sizes. Tracing a graph for each took 5 and 16 times as long as running
        it (U-Net with 16 filters, DeepLab-v3 of a quarter's width; 500 x 375, CPU), and `model.predict_on_batch` traces
        for its first three sizes. One graph with unknown sizes is traced once, and runs as fast as one for a size.
        """
        reference = self._model
        spec = tf.TensorSpec((None, *reference().input_shape[1:]), tf.float32)

        @tf.function(input_signature=[spec], autograph=False)
        @forward_only()
        def forward(images):
            return tf.cast(reference()(images, training=False), tf.float32)

        return forward

    @functools.cached_property
    def rules(self) -> tuple[SizeRule, SizeRule]:
        """The legal heights and widths."""
        return size_rules(self._model())

    @functools.cached_property
    def bytes_per_pixel(self) -> float:
        """Estimated memory of a forward pass ÷ pixels of the image."""
        # Of a large image: with small ones, networks without padding have much less behind their margins.
        return bytes_per_pixel(self._model(), tuple(rule.legal(2048) for rule in self.rules))

    @property
    def channels(self) -> tuple[int, int]:
        """Of the images and of the logits."""
        return self._model().input_shape[-1], self._model().outputs[0].shape[-1]


_networks: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def network(model: keras.Model) -> Network:
    """Returns the model's `Network`, the same one each time."""
    if model not in _networks:
        _networks[model] = Network(model)
    return _networks[model]
