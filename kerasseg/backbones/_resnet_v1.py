"""ResNet-v1, as TensorFlow-Slim and TensorFlow's DeepLab build it, at any output stride."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones._resnet import ResNetLayers, connect_blocks
from kerasseg.backbones._width import scaled

RESNET_V1 = {
    "resnet_v1_50": (3, 4, 6, 3),
    "resnet_v1_50_beta": (3, 4, 6, 3),
    "resnet_v1_101": (3, 4, 23, 3),
    "resnet_v1_101_beta": (3, 4, 23, 3),
}
"""Residual units in each of the four blocks."""


def resnet_v1(
    x,
    name: str,
    *,
    output_stride: int = 16,
    multi_grid: Sequence[int] = (1, 2, 4),
    width: float = 1.0,
    blocks: int = 4,
    norm: str | Callable = "batch",
    momentum: float = 0.95,
    epsilon: float = 1e-5,
) -> dict:
    """Connects a ResNet-v1 to a normalised image.

    The root is one 7x7 convolution, or in the *beta* networks three of 3x3. The stride of a block sits in the 3x3
    convolution of its *last* unit (blocks 1 to 3). Once the output stride is reached, further strides become atrous
    rates of all units after them, so the weights are the same at every output stride.

    Args:
        x: Symbolic tensor [B, H, W, C].
        name: A key of `RESNET_V1`.
        output_stride: Input side ÷ side of the last block's features; 4, 8, 16 or 32 (with more blocks also beyond).
        multi_grid: Factors of the atrous rates of the units of block 4.
        width: Multiplies all channel counts (64 ... 2048).
        blocks: More than 4 for copies of block 4 after it, each with twice the rates of the one before.
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.

    Returns:
        dict: "block1", "block2" ...: what each block gives; "features": what a head reads, the last of them;
            "low_level": the normalised last convolution of the second unit, before the sum, at stride 4, as the
            decoder of TensorFlow's DeepLab reads it.
    Raises:
        ValueError: An unknown name or output stride, or a multi-grid that does not fit block 4.
    Reference: He et al. 2016, arXiv:1512.03385; tensorflow/models `research/deeplab/core/resnet_v1_beta.py`.
    """
    if name not in RESNET_V1:
        raise ValueError(f"backbone must be one of {', '.join(RESNET_V1)}, got {name!r}")
    layers = _Layers(norm, momentum, epsilon)
    root = scaled(64, width)
    if name.endswith("beta"):
        x = layers.norm_relu(layers.conv(x, root, 3, "conv1_1", strides=2), "conv1_1")
        x = layers.norm_relu(layers.conv(x, root, 3, "conv1_2"), "conv1_2")
        x = layers.norm_relu(layers.conv(x, 2 * root, 3, "conv1_3"), "conv1_3")
    else:
        x = layers.norm_relu(layers.conv(x, root, 7, "conv1", strides=2), "conv1")
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    features = connect_blocks(
        x,
        layers.unit,
        RESNET_V1[name],
        root=root,
        blocks=blocks,
        output_stride=output_stride,
        multi_grid=multi_grid,
    )
    return {**features, "features": features[f"block{blocks}"], "low_level": layers.low_level}


class _Layers(ResNetLayers):
    def unit(self, x, depth, name, strides, rate):
        """Connects a bottleneck: 1x1 `depth`, 3x3 `depth`, 1x1 4·`depth`; rectified after the sum."""
        if x.shape[-1] != 4 * depth:
            shortcut = self.norm(self.conv(x, 4 * depth, 1, f"{name}_shortcut", strides), f"{name}_shortcut")
        else:
            shortcut = self.subsample(x, strides, name)
        y = self.norm_relu(self.conv(x, depth, 1, f"{name}_conv1"), f"{name}_conv1")
        y = self.norm_relu(self.conv(y, depth, 3, f"{name}_conv2", strides, rate), f"{name}_conv2")
        y = self.norm(self.conv(y, 4 * depth, 1, f"{name}_conv3"), f"{name}_conv3")
        if name == "block1_unit2":
            self.low_level = y
        y = keras.layers.Add(name=f"{name}_add")([shortcut, y])
        return keras.layers.ReLU(name=f"{name}_relu")(y)
