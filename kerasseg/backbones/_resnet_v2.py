"""ResNet with full pre-activation, as TensorFlow-Slim builds it, at any output stride."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones._resnet import ResNetLayers, connect_blocks
from kerasseg.backbones._width import scaled

RESNET_V2 = {
    "resnet_v2_50": (3, 4, 6, 3),
    "resnet_v2_101": (3, 4, 23, 3),
    "resnet_v2_152": (3, 8, 36, 3),
}
"""Residual units in each of the four blocks."""


def resnet_v2(
    x,
    name: str,
    *,
    output_stride: int = 16,
    multi_grid: Sequence[int] = (1, 2, 4),
    width: float = 1.0,
    blocks: int = 4,
    norm: str | Callable = "batch",
    momentum: float = 0.9997,
    epsilon: float = 1e-5,
    postnorm: bool = True,
) -> dict:
    """Connects a ResNet-v2 to a normalised image.

    The stride of a block sits in its *last* unit (blocks 1 to 3). Once the output stride is reached, further strides
    become atrous rates of all units after them, so the weights are the same at every output stride.

    Args:
        x: Symbolic tensor [B, H, W, C].
        name: A key of `RESNET_V2`.
        output_stride: Input side ÷ side of the last block's features; 4, 8, 16 or 32 (with more blocks also beyond).
        multi_grid: Factors of the atrous rates of the units of block 4.
        width: Multiplies all channel counts (64 ... 2048).
        blocks: More than 4 for copies of block 4 after it, each with twice the rates of the one before.
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.
        postnorm: Whether the last block's sum is normalised and rectified at the end, as the classifier has it.

    Returns:
        dict: "block1", "block2" ...: the raw sums after each block; "features": what a head reads; "low_level": the
            sum after the second unit, at stride 4.
    Raises:
        ValueError: An unknown name or output stride, or a multi-grid that does not fit block 4.
    Reference: He et al. 2016, arXiv:1603.05027; TF-Slim `resnet_v2.py`, `resnet_utils.stack_blocks_dense`.
    """
    if name not in RESNET_V2:
        raise ValueError(f"backbone must be one of {', '.join(RESNET_V2)}, got {name!r}")
    layers = _Layers(norm, momentum, epsilon)
    root = scaled(64, width)
    # No normalisation and no activation: the first unit's pre-activation has them.
    x = layers.conv(x, root, 7, "conv1", strides=2, bias=True)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    features = connect_blocks(
        x,
        layers.unit,
        RESNET_V2[name],
        root=root,
        blocks=blocks,
        output_stride=output_stride,
        multi_grid=multi_grid,
    )
    x = features[f"block{blocks}"]
    return {**features, "features": layers.norm_relu(x, "postnorm") if postnorm else x, "low_level": layers.low_level}


class _Layers(ResNetLayers):
    def unit(self, x, depth, name, strides, rate):
        """Connects a pre-activation bottleneck: 1x1 `depth`, 3x3 `depth`, 1x1 4·`depth`."""
        preact = self.norm_relu(x, f"{name}_preact")
        if x.shape[-1] != 4 * depth:
            shortcut = self.conv(preact, 4 * depth, 1, f"{name}_shortcut", strides, bias=True)
        else:
            shortcut = self.subsample(x, strides, name)
        y = self.norm_relu(self.conv(preact, depth, 1, f"{name}_conv1"), f"{name}_conv1")
        y = self.norm_relu(self.conv(y, depth, 3, f"{name}_conv2", strides, rate), f"{name}_conv2")
        y = self.conv(y, 4 * depth, 1, f"{name}_conv3", bias=True)
        total = keras.layers.Add(name=f"{name}_add")([shortcut, y])
        if name == "block1_unit2":
            self.low_level = total
        return total
