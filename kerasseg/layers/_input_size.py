"""Refusing input sizes that a network cannot take."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.layers._size_rule import SizeRule


@keras.utils.register_keras_serializable("kerasseg")
class LegalInputSize(keras.layers.Layer):
    """Passes images on whose height and width are legal, and refuses the others, naming the nearest legal sizes.

    Legal is n = multiple * k + offset with n >= minimum.

    Args:
        multiple, offset, minimum: The rule, in pixels.

    Call: [B, H, W, C], returned as it is.
    Raises:
        ValueError: An illegal size that is known when the layer is called.
        tf.errors.InvalidArgumentError: One that shows only when the graph runs.
    """

    def __init__(self, multiple: int, offset: int = 0, minimum: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.multiple, self.offset, self.minimum = multiple, offset, minimum

    def nearest(self, size: int) -> tuple[int, int]:
        """Returns the largest legal size <= `size` (or the smallest of all) and the smallest legal one >= `size`."""
        smallest = self._round_up(self.minimum)
        below = (size - self.offset) // self.multiple * self.multiple + self.offset
        return max(below, smallest), max(self._round_up(size), smallest)

    def _round_up(self, size):
        return SizeRule(self.multiple, self.offset).round_up(size)

    def call(self, inputs):
        checks = []
        for side, axis in (("height", 1), ("width", 2)):
            if inputs.shape[axis] is not None:
                self._check(side, inputs.shape[axis])
            else:
                size = tf.shape(inputs)[axis]
                legal = tf.logical_and(size >= self.minimum, (size - self.offset) % self.multiple == 0)
                checks.append(tf.debugging.Assert(legal, [f"illegal {side}", size, f"expected {self._rule()}"]))
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.identity(inputs)

    def _check(self, side, size):
        below, above = self.nearest(size)
        if size in (below, above):
            return
        nearest = f"{below} or {above}" if below < above else f"{above}"
        raise ValueError(f"{side} {size} is not legal here: expected {self._rule()}; nearest legal: {nearest}")

    def _rule(self):
        return f"{self.multiple}*k + {self.offset}, at least {self._round_up(self.minimum)} pixels"

    def compute_output_shape(self, input_shape):
        for side, size in zip(("height", "width"), input_shape[1:3], strict=True):
            if size is not None:
                self._check(side, size)
        return tuple(input_shape)

    def get_config(self):
        rule = {"multiple": self.multiple, "offset": self.offset, "minimum": self.minimum}
        return {**super().get_config(), **rule}
