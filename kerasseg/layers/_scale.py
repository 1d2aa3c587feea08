"""Multiplication by a constant."""

from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class Scale(keras.layers.Layer):
    """Multiplies by a constant that is part of the network and not trained.

    Args:
        factor: The constant.

    Call: Any shape; returns the same.
    """

    def __init__(self, factor: float, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
