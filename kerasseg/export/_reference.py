"""What an export has to answer, worked out with the Keras model and NumPy alone."""

import itertools

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.export._baked import RIMS, Baked
from kerasseg.layers import MergeClasses, gaussian_window, size_rules, tile_and_step

_SMALLEST = np.finfo(np.float32).tiny


class Reference:
    """A model as it has to look at images. Not the way that `kerasseg.export._tiles` and `_views` go.

    Args:
        model: Images -> logits.
        looks: How images are looked at.

    Call: image float32 [H, W, C]. Returns how well each class does in each pixel, float [H, W, K], K at least 2, and
        the largest absolute logit, at least 1. The scores are logits; of several views, logs of mean probabilities.
    """

    def __init__(self, model: keras.Model, looks: Baked):
        last = model.layers[-1]
        self._rims = looks.views and isinstance(last, MergeClasses) and last.groups == RIMS
        model = keras.Model(model.input, last.input) if self._rims else model
        self._looks, self._rules = looks, size_rules(model)
        images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        self._forward = tf.function(lambda x: model(x, training=False), input_signature=[images], autograph=False)

    @property
    def unpools(self) -> bool:
        """Whether the model has unpooling."""
        operations = self._forward.get_concrete_function().graph.get_operations()
        return any(operation.type == "MaxPoolGrad" for operation in operations)

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, float]:
        if not self._looks.views:
            logits = self._logits(image)
            return logits, max(1.0, float(np.abs(logits).max()))
        size, total, largest = image.shape[:2], 0.0, 1.0
        ways = list(itertools.product(self._looks.scales, (1, -1) if self._looks.flip else (1,)))
        for scale, step in ways:
            seen = _resized(image, [int((side - 1) * scale + 1) for side in size])[:, ::step]
            logits = _resized(self._logits(seen)[:, ::step], size)
            exponentials = np.exp(logits - logits.max(-1, keepdims=True))
            total = total + exponentials / exponentials.sum(-1, keepdims=True)
            largest = max(largest, float(np.abs(logits).max()))
        if self._rims:
            total = np.stack([total[..., group].sum(-1) for group in RIMS], -1)
        return np.log(np.maximum(total / len(ways), _SMALLEST)), largest

    def _logits(self, image):
        if self._looks.tile_size is None or any(rule.margin for rule in self._rules):
            logits = self._pass(image)  # Tiles of networks without padding are the whole.
        else:
            tiling = zip(image.shape, self._rules, self._looks.tile_size, strict=False)
            lines = [_tiles(*side, self._looks.overlap) for side in tiling]
            logits, total = 0.0, 0.0
            for (top, down), (left, across) in itertools.product(*lines):
                tile = self._pass(image[top : top + len(down), left : left + len(across)])
                weight = (down[:, None] * across)[..., None]
                below, right = image.shape[0] - top - len(down), image.shape[1] - left - len(across)
                around = [(top, below), (left, right), (0, 0)]
                logits, total = logits + np.pad(tile * weight, around), total + np.pad(weight, around)
            logits = logits / total
        return logits if logits.shape[-1] > 1 else np.concatenate([np.zeros_like(logits), logits], -1)

    def _pass(self, image):
        """Returns the logits [H, W, k] of an image, its border mirrored where the model wants more."""
        pads = [
            (rule.margin // 2, rule.covering(n) - n - rule.margin // 2)
            for rule, n in zip(self._rules, image.shape[:2], strict=True)
        ]
        padded = np.pad(image, [*pads, (0, 0)], mode="reflect")
        return self._forward(tf.constant(padded[None], tf.float32)).numpy()[0, : image.shape[0], : image.shape[1]]


def _tiles(length, rule, tile, overlap):
    """Lists the first pixel and the weights of each tile along a side."""
    size, step = tile_and_step(rule, tile, overlap)
    starts = [*range(0, length - size, step), max(length - size, 0)]
    return [(start, gaussian_window(size)[:length]) for start in starts]


def _resized(image, size):
    """Returns an image [H, W, C] resized bilinearly, corners upon corners."""
    for axis, (old, new) in enumerate(zip(image.shape, size, strict=False)):
        if old == new:
            continue
        at = np.linspace(0, old - 1, new)
        low = np.minimum(at.astype(int), old - 1)
        part = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        image = np.take(image, low, axis) * (1 - part) + np.take(image, np.minimum(low + 1, old - 1), axis) * part
    return image
