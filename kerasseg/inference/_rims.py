"""Models that know the rims of objects."""

import numpy as np
from tensorflow import keras

from kerasseg.layers import MergeClasses

_RIMS = [[0], [1, 2]]


def rim_model(model: keras.Model) -> keras.Model | None:
    """Returns the part of a model that tells outside, inside and rim apart, logits [B, H, W, 3]; None: it does not.

    Such a model ends in `MergeClasses([[0], [1, 2]])`, which makes background and object of the three.
    """
    last = model.layers[-1]
    if isinstance(last, MergeClasses) and last.groups == _RIMS:
        return keras.Model(model.input, last.input)
    return None


def merged(logits: np.ndarray) -> np.ndarray:
    """Returns logits [H, W, 2] of background and object from those of outside, inside and rim, as the model does."""
    return np.stack([logits[..., 0], np.logaddexp(logits[..., 1], logits[..., 2])], -1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)
