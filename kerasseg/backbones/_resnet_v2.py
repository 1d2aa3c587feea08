"""ResNet with full pre-activation, as TensorFlow-Slim builds it, at any output stride."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones._width import scaled
from kerasseg.layers import AtrousConv2D, make_norm

RESNET_V2 = {
    "resnet_v2_50": (3, 4, 6, 3),
    "resnet_v2_101": (3, 4, 23, 3),
    "resnet_v2_152": (3, 8, 36, 3),
}
"""Residual units in each of the four blocks."""

OUTPUT_STRIDES = (4, 8, 16, 32)


def resnet_v2(
    x,
    name: str,
    *,
    output_stride: int = 16,
    multi_grid: Sequence[int] = (1, 2, 4),
    width: float = 1.0,
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
        output_stride: Input side ÷ side of block 4's features; 4, 8, 16 or 32.
        multi_grid: Factors of the atrous rates of the units of block 4.
        width: Multiplies all channel counts (64 ... 2048).
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.
        postnorm: Whether block 4's sum is normalised and rectified at the end, as the classifier has it.

    Returns:
        dict: "block1" ... "block4": the raw sums after each block, and "features": what a head reads.
    Raises:
        ValueError: An unknown name or output stride, or a multi-grid that does not fit block 4.
    Reference: He et al. 2016, arXiv:1603.05027; TF-Slim `resnet_v2.py`, `resnet_utils.stack_blocks_dense`.
    """
    if name not in RESNET_V2:
        raise ValueError(f"backbone must be one of {', '.join(RESNET_V2)}, got {name!r}")
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride must be one of {', '.join(map(str, OUTPUT_STRIDES))}, got {output_stride}")
    if len(multi_grid) != RESNET_V2[name][3]:
        raise ValueError(
            f"multi_grid must have {RESNET_V2[name][3]} entries, one per unit of block 4, got {multi_grid}"
        )
    build = _Builder(norm, momentum, epsilon)
    root = scaled(64, width)

    # No normalisation and no activation: the first unit's pre-activation has them.
    x = build.conv(x, root, 7, "conv1", strides=2, bias=True)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    features, stride, rate = {}, 4, 1
    for block, units in enumerate(RESNET_V2[name], start=1):
        for unit in range(1, units + 1):
            last = block < 4 and unit == units
            subsample = last and stride < output_stride
            grid = multi_grid[unit - 1] if block == 4 else 1
            depth = root * 2 ** (block - 1)
            x = build.unit(x, depth, f"block{block}_unit{unit}", strides=2 if subsample else 1, rate=rate * grid)
            stride *= 2 if subsample else 1
            rate *= 2 if last and not subsample else 1
        features[f"block{block}"] = x
    features["features"] = build.norm_relu(x, "postnorm") if postnorm else x
    return features


class _Builder:
    """The pieces of the network, sharing their normalisation."""

    def __init__(self, norm, momentum, epsilon):
        self.norm_options = {"norm": norm, "momentum": momentum, "epsilon": epsilon}
        self.bias = norm == "none"

    def norm_relu(self, x, name):
        norm = make_norm(channels=x.shape[-1], name=f"{name}_norm", **self.norm_options)
        x = x if norm is None else norm(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    def conv(self, x, filters, size, name, strides=1, rate=1, bias=False):
        """Convolves with zero padding that depends on the kernel alone, not on whether a side is odd or even.

        (TensorFlow's "same" would pad strided convolutions of even sizes at the bottom and right only.)
        """
        padding = "same"
        if strides > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
            padding = "valid"
        return AtrousConv2D(
            filters,
            size,
            strides,
            padding=padding,
            dilation_rate=rate,
            use_bias=bias or self.bias,
            kernel_initializer="he_normal",
            name=name,
        )(x)

    def unit(self, x, depth, name, strides, rate):
        """Connects a pre-activation bottleneck: 1x1 `depth`, 3x3 `depth`, 1x1 4·`depth`."""
        preact = self.norm_relu(x, f"{name}_preact")
        if x.shape[-1] != 4 * depth:
            shortcut = keras.layers.Conv2D(
                4 * depth, 1, strides, kernel_initializer="he_normal", name=f"{name}_shortcut"
            )(preact)
        elif strides > 1:
            shortcut = keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)
        else:
            shortcut = x
        y = self.norm_relu(self.conv(preact, depth, 1, f"{name}_conv1"), f"{name}_conv1")
        y = self.norm_relu(self.conv(y, depth, 3, f"{name}_conv2", strides, rate), f"{name}_conv2")
        y = self.conv(y, 4 * depth, 1, f"{name}_conv3", bias=True)
        return keras.layers.Add(name=f"{name}_add")([shortcut, y])
