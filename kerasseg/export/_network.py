"""A model's inference as one graph: of constants where they fit into a file, else of variables."""

import math
from collections.abc import Callable

import tensorflow as tf
from tensorflow import keras

from kerasseg.export._frozen import WEIGHTS, frozen

LARGEST_GRAPH = 2**31 - 2**25
"""Bytes of weights as constants: protobuf's messages, which graphs are stored in, end at 2 GiB."""


def network(model: keras.Model, weights: str = "float32", freeze: bool | None = None) -> Callable:
    """Returns a `tf.function` of images float32 [B, H, W, C] that gives the model's logits, float32 [B, h, w, K].

    Args:
        model: Images -> logits.
        weights: How kernels are stored; see `frozen`.
        freeze: True: `frozen`. False: the weights are variables, and a SavedModel holds them beside its graph, however
            large they are; normalisation is not folded. None: frozen where the graph can hold them.

    Raises:
        ValueError: The weights are too large for a graph that is to be frozen, or variables are to be stored in 16
            bits, which constants only are.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
    size = sum(math.prod(weight.shape) * tf.as_dtype(weight.dtype).size for weight in model.weights)
    fits = size <= LARGEST_GRAPH
    if freeze is None:
        freeze = fits
    if freeze and not fits:
        raise ValueError(
            f"the weights take {size} bytes, a graph holds constants of at most {LARGEST_GRAPH}; export with "
            "freeze=False, which keeps them as variables"
        )
    if freeze:
        return frozen(model, weights)
    if weights != "float32":
        why = "" if fits else f", and with {size} bytes the model is too large for them (at most {LARGEST_GRAPH})"
        raise ValueError(f'weights="{weights}" is for constants in the graph{why}; use weights="float32"')
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    return tf.function(
        lambda images: tf.cast(model(images, training=False), tf.float32), input_signature=[images], autograph=False
    )
