"""The convolutions of AlexNet, with the layer names of its release for Caffe."""

from tensorflow import keras

from kerasseg.backbones._width import scaled
from kerasseg.layers import AtrousConv2D, LocalResponseNorm

ALEXNET = ((96, 11, 4, 1), (256, 5, 1, 2), (384, 3, 1, 1), (384, 3, 1, 2), (256, 3, 1, 2))
"""Channels, kernel size, stride and groups of the five convolutions."""
POOLED = (1, 2, 5)
"""The convolutions that a 3x3 pooling of stride 2 follows."""


def alexnet(x, *, width: float = 1.0, first_padding: int = 0) -> dict:
    """Connects the five convolutions and three poolings of AlexNet to a normalised image.

    Layers are named conv1, relu1, pool1, norm1 ... pool5; as in Caffe's release the response is normalised after
    pooling. Pooling rounds up at every size, as Caffe does.

    Args:
        x: Symbolic tensor [B, H, W, C].
        width: Multiplies all channel counts (96 ... 384).
        first_padding: Zeros around the image before conv1: 0 as a classifier, FCN has 100.

    Returns:
        dict: "pool1", "pool2" and "pool5", at strides 8, 16 and 32.
    Reference: Krizhevsky et al. 2012; Caffe's `bvlc_reference_caffenet`.
    """
    features = {}
    if first_padding:
        x = keras.layers.ZeroPadding2D(first_padding, name="pad1")(x)
    for i, (filters, size, stride, groups) in enumerate(ALEXNET, start=1):
        x = AtrousConv2D(
            scaled(filters, width),
            size,
            strides=stride,
            groups=groups,
            padding="valid" if i == 1 else "same",
            kernel_initializer="he_normal",
            name=f"conv{i}",
        )(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
        if i in POOLED:
            x = features[f"pool{i}"] = _pool(x, f"pool{i}")
        if i < 3:
            x = LocalResponseNorm(5, 1e-4, 0.75, name=f"norm{i}")(x)
    return features


def _pool(x, name):
    """Pools 3x3 at stride 2 from the first pixel on, rounding up.

    "same" begins a pixel earlier at odd sizes. A row and a column of zeros at the end, below every rectified value,
    complete the last window of an even size, and of an odd one they are in no window.
    """
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name=name)(x)
