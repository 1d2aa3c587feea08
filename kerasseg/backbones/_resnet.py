"""What ResNet-v1 and ResNet-v2 share, as TensorFlow-Slim builds them."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones._atrous import strides_and_rates
from kerasseg.layers import AtrousConv2D, make_norm


def connect_blocks(
    x,
    unit: Callable,
    units: Sequence[int],
    *,
    root: int,
    blocks: int,
    output_stride: int,
    multi_grid: Sequence[int],
) -> dict:
    """Connects the blocks of residual units after the root of a ResNet, at stride 4.

    The stride of a block sits in its *last* unit; the last block has none. Blocks after the fourth are copies of it.

    Args:
        x: Symbolic tensor, the root's features.
        unit: Function of (x, depth, name, strides, rate) that connects a bottleneck of 4·`depth` channels.
        units: Residual units in each of the first four blocks.
        root: Channels of the root, and depth of the first block.
        blocks: 4, or more for a cascade.
        output_stride: Input side ÷ side of the last block's features.
        multi_grid: Factors of the atrous rates of the units of block 4 and of its copies.

    Returns:
        dict: "block1", "block2" ... to what each block gives.
    Raises:
        ValueError: An impossible output stride, or a multi-grid that does not fit block 4.
    """
    if blocks < 4:
        raise ValueError(f"blocks must be at least 4, got {blocks}")
    if len(multi_grid) != units[3]:
        raise ValueError(f"multi_grid must have {units[3]} entries, one per unit of block 4, got {multi_grid}")
    units = [*units, *units[3:] * (blocks - 4)]
    places = [(block, i) for block, count in enumerate(units, start=1) for i in range(1, count + 1)]
    strides = [2 if i == units[block - 1] and block < blocks else 1 for block, i in places]
    features = {}
    for (block, i), (stride, rate) in zip(places, strides_and_rates(strides, output_stride, start=4), strict=True):
        grid = multi_grid[i - 1] if block >= 4 else 1
        depth = root * 2 ** (min(block, 4) - 1)
        x = unit(x, depth, f"block{block}_unit{i}", strides=stride, rate=rate * grid)
        features[f"block{block}"] = x
    return features


class ResNetLayers:
    """The pieces of a ResNet, sharing their normalisation."""

    def __init__(self, norm: str | Callable, momentum: float, epsilon: float):
        self.norm_options = {"norm": norm, "momentum": momentum, "epsilon": epsilon}
        self.bias = norm == "none"

    def norm(self, x, name):
        layer = make_norm(channels=x.shape[-1], name=f"{name}_norm", **self.norm_options)
        return x if layer is None else layer(x)

    def norm_relu(self, x, name):
        return keras.layers.ReLU(name=f"{name}_relu")(self.norm(x, name))

    def conv(self, x, filters, size, name, strides=1, rate=1, bias=False):
        """Convolves with zero padding that depends on the kernel alone, not on whether a side is odd or even.

        (TensorFlow's "same" would pad strided convolutions of even sizes at the bottom and right only.)
        """
        padding = "same"
        if strides > 1 and size > 1:
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

    def subsample(self, x, strides, name):
        return keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x) if strides > 1 else x
