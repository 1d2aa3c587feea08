"""The block that the U-Nets are made of."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.layers import make_norm


def double_conv(
    x,
    filters: int,
    name: str,
    *,
    padding: str = "same",
    norm: str | Callable = "none",
    momentum: float = 0.9,
    epsilon: float = 1e-3,
    dropout: float = 0.0,
):
    """Twice a 3x3 convolution with bias, normalisation, ReLU, and dropout where there is any.

    Args:
        x: Float [B, H, W, C].
        filters: Channels of both convolutions.
        name: Of the block: its layers are `<name>_conv1`, `<name>_conv1_norm`, `<name>_relu1`, `<name>_dropout1`, and
            so on with 2.
        padding: Of the convolutions, "same" or "valid".
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.
        dropout: Share of activations dropped after each ReLU. 0: there is no such layer.

    Returns:
        Float [B, H, W, filters]; 4 pixels less a side with valid padding.
    """
    for i in (1, 2):
        x = keras.layers.Conv2D(filters, 3, padding=padding, kernel_initializer="he_normal", name=f"{name}_conv{i}")(x)
        layer = make_norm(norm, filters, name=f"{name}_conv{i}_norm", momentum=momentum, epsilon=epsilon)
        x = x if layer is None else layer(x)
        x = keras.layers.ReLU(name=f"{name}_relu{i}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout{i}")(x)
    return x
