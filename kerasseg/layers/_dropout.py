"""Dropout that can stay on."""

from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class MonteCarloDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that may stay on at inference, so that each call draws a sample.

    Args:
        rate: Share of activations dropped; the others are divided by 1 - rate.
        sampling: Whether it drops at inference too. May be set on a finished layer, before its model is called.
        seed: See `keras.layers.Dropout`.

    Call: any shape; returns the same shape.
    Reference: Gal & Ghahramani 2016, arXiv:1506.02142.
    """

    def __init__(self, rate: float, sampling: bool = False, **kwargs):
        super().__init__(rate, **kwargs)
        self.sampling = sampling

    def call(self, inputs, training=None):
        return super().call(inputs, training=self.sampling or training)

    def get_config(self):
        return {**super().get_config(), "sampling": self.sampling}
