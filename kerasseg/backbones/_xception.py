"""DeepLab's Xception: deeper, and without pooling, at any output stride."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones._atrous import strides_and_rates
from kerasseg.backbones._resnet import ResNetLayers
from kerasseg.backbones._width import scaled
from kerasseg.layers import AtrousSeparableConv2D


def _blocks(entry, middle_units):
    """Returns (name, units, channels of the three convolutions, shortcut, stride) of each block."""
    return (
        *((f"entry_block{i}", 1, (c, c, c), "conv", s) for i, (c, s) in enumerate(entry, start=1)),
        ("middle_block1", middle_units, (728, 728, 728), "sum", 1),
        ("exit_block1", 1, (728, 1024, 1024), "conv", 2),
        ("exit_block2", 1, (1536, 1536, 2048), "none", 1),
    )


_ENTRY = ((128, 2), (256, 2), (728, 2))
XCEPTION = {
    "xception_41": _blocks(_ENTRY, 8),
    "xception_65": _blocks(_ENTRY, 16),
    "xception_71": _blocks(((128, 2), (256, 1), (256, 2), (728, 1), (728, 2)), 16),
}
"""The blocks: name, units, channels of the three convolutions of a unit, shortcut and stride."""


def xception(
    x,
    name: str = "xception_65",
    *,
    output_stride: int = 16,
    multi_grid: Sequence[int] = (1, 1, 1),
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float = 0.9997,
    epsilon: float = 1e-3,
) -> dict:
    """Connects DeepLab's Xception to a normalised image.

    Once the output stride is reached, further strides become atrous rates of all units after them, so the weights are
    the same at every output stride.

    Args:
        x: Symbolic tensor [B, H, W, C].
        name: A key of `XCEPTION`.
        output_stride: Input side ÷ side of the features; 2, 4, 8, 16 or 32.
        multi_grid: Factors of the atrous rates of the last block's three convolutions.
        width: Multiplies all channel counts (32 ... 2048); a multiple of 1/8.
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.

    Returns:
        dict: "features": what a head reads, 2048 channels; "low_level": the second convolution of the last entry block
            that reads stride 4, normalised and not rectified, 256 channels, as the decoder of DeepLab reads it.
    Raises:
        ValueError: An unknown name or output stride, or a multi-grid that has not three entries.
    Reference: Chollet 2017, arXiv:1610.02357; Chen et al. 2018, arXiv:1802.02611, section 3.2;
        tensorflow/models `research/deeplab/core/xception.py`.
    """
    if name not in XCEPTION:
        raise ValueError(f"backbone must be one of {', '.join(XCEPTION)}, got {name!r}")
    if len(multi_grid) != 3:
        raise ValueError(f"multi_grid must have 3 entries, one per convolution of the last block, got {multi_grid}")
    layers = _Layers(norm, momentum, epsilon)
    for i, (filters, strides) in enumerate(((32, 2), (64, 1)), start=1):
        x = layers.norm_relu(layers.conv(x, scaled(filters, width), 3, f"entry_conv1_{i}", strides), f"entry_conv1_{i}")
    units = [
        (f"{block}_unit{i}", [scaled(c, width) for c in channels], shortcut, stride)
        for block, number, channels, shortcut, stride in XCEPTION[name]
        for i in range(1, number + 1)
    ]
    places = strides_and_rates([stride for *_, stride in units], output_stride, start=2)
    low_level = f"entry_block{3 if name == 'xception_71' else 2}_unit1"
    for (unit, channels, shortcut, _), (stride, rate) in zip(units, places, strict=True):
        last = unit.startswith("exit_block2")
        rates = [rate * grid for grid in (multi_grid if last else (1, 1, 1))]
        x, second = layers.unit(x, channels, unit, stride, rates, shortcut, relu="after" if last else "before")
        if unit == low_level:
            tap = second
    return {"features": x, "low_level": tap}


class _Layers(ResNetLayers):
    """The pieces of the network, sharing their normalisation."""

    def unit(self, x, channels, name, strides, rates, shortcut, relu):
        """Connects three separable convolutions, the last one strided. Returns the unit's and the second's output."""
        y, outputs = x, []
        for i, (filters, rate) in enumerate(zip(channels, rates, strict=True), start=1):
            y = AtrousSeparableConv2D(
                filters,
                rate=rate,
                strides=strides if i == 3 else 1,
                relu=relu,
                depthwise_stddev=0.09,
                pointwise_stddev=0.09,
                name=f"{name}_conv{i}",
                **self.norm_options,
            ).connect(y)
            outputs.append(y)
        if shortcut == "conv":
            x = self.norm(self.conv(x, channels[-1], 1, f"{name}_shortcut", strides), f"{name}_shortcut")
        if shortcut != "none":
            y = keras.layers.Add(name=f"{name}_add")([y, x])
        return y, outputs[1]
