"""The convolutions of VGG16, with its authors' layer names."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.backbones._width import scaled
from kerasseg.layers import make_norm

VGG16 = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)
"""Channels of the convolutions of the five blocks."""


def vgg16(
    x,
    *,
    width: float = 1.0,
    first_padding: int = 1,
    norm: str | Callable = "none",
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    shift: float = 0.0,
    after_pool: Callable | None = None,
) -> dict:
    """Connects the thirteen convolutions and five poolings of VGG16 to a normalised image.

    Layers are named as their authors named them: conv1_1, relu1_1 ... pool5; the normalisation of conv1_1 is
    conv1_1_norm. Pooling rounds up, as Caffe does: nothing of an odd side is lost.

    Args:
        x: Symbolic tensor [B, H, W, C].
        width: Multiplies all channel counts (64 ... 512).
        first_padding: Zeros around the image before conv1_1: 1 keeps the size, FCN has 100.
        norm, momentum, epsilon, shift: Between convolution and ReLU; see `kerasseg.layers.make_norm`.
        after_pool: Called with a block's number and its pooled tensor; what it returns takes the tensor's place.

    Returns:
        dict: "block1" ... "block5": what each pooling reads; "pool1" ... "pool5": what it gives, at strides 2 ... 32.
    Reference: Simonyan & Zisserman 2015, arXiv:1409.1556, configuration D.
    """
    features = {}
    for block, channels in enumerate(VGG16, start=1):
        for i, filters in enumerate(channels, start=1):
            name = f"{block}_{i}"
            padding = "same"
            if name == "1_1" and first_padding != 1:
                x = keras.layers.ZeroPadding2D(first_padding, name="pad1_1")(x)
                padding = "valid"
            filters = scaled(filters, width)
            conv = keras.layers.Conv2D(filters, 3, padding=padding, kernel_initializer="he_normal", name=f"conv{name}")
            x = conv(x)
            options = {"momentum": momentum, "epsilon": epsilon, "shift": shift}
            layer = make_norm(norm, filters, name=f"conv{name}_norm", **options)
            x = x if layer is None else layer(x)
            x = keras.layers.ReLU(name=f"relu{name}")(x)
        features[f"block{block}"] = x
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{block}")(x)
        x = x if after_pool is None else after_pool(block, x)
        features[f"pool{block}"] = x
    return features
