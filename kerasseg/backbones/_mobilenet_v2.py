"""MobileNet-v2, as TensorFlow-Slim builds it, at any output stride."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.backbones._atrous import strides_and_rates
from kerasseg.layers import make_norm

MOBILENET_V2 = {"mobilenet_v2": ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))}
"""Channels, number and first stride of the units between the first convolution and the classifier's 1280 channels."""

EXPANSION = 6
"""Times the channels inside a unit; the first unit has none."""

LOW_LEVEL_UNIT = 2


def mobilenet_v2(
    x,
    name: str = "mobilenet_v2",
    *,
    output_stride: int = 16,
    multi_grid: None = None,
    width: float = 1.0,
    divisible_by: int | None = None,
    norm: str | Callable = "batch",
    momentum: float = 0.997,
    epsilon: float = 1e-3,
) -> dict:
    """Connects a MobileNet-v2 to a normalised image.

    Once the output stride is reached, further strides become atrous rates of all units after them, so the weights are
    the same at every output stride. Units are numbered as in the release, whose `expanded_conv` is unit 0.

    Args:
        x: Symbolic tensor [B, H, W, C].
        name: "mobilenet_v2".
        output_stride: Input side ÷ side of the features; 2, 4, 8, 16 or 32.
        multi_grid: None; the network has no multi-grid.
        width: The release's depth multiplier, of all channel counts (32 ... 320).
        divisible_by: What channel counts are rounded to a multiple of. None: 8 at width 1, where it changes nothing,
            and 1 at others, as in TensorFlow's DeepLab. The classifiers of TensorFlow-Slim and Keras have 8.
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.

    Returns:
        dict: "features": what a head reads, 320 channels; "low_level": the depthwise convolution of unit 2, normalised
            and rectified, at stride 4 and 144 channels, as the decoder of TensorFlow's DeepLab reads it.
    Raises:
        ValueError: An unknown name or output stride, or a multi-grid.
    Reference: Sandler et al. 2018, arXiv:1801.04381; tensorflow/models `research/slim/nets/mobilenet`,
        `research/deeplab/core/feature_extractor.py`.
    """
    if name not in MOBILENET_V2:
        raise ValueError(f"backbone must be one of {', '.join(MOBILENET_V2)}, got {name!r}")
    if multi_grid is not None:
        raise ValueError(f"{name} has no multi-grid: expected None, got {multi_grid}")
    divisor = divisible_by or (8 if width == 1 else 1)
    layers = _Layers(norm, momentum, epsilon)
    units = [(c, s if i == 0 else 1) for c, number, s in MOBILENET_V2[name] for i in range(number)]
    places = strides_and_rates([stride for _, stride in units], output_stride, start=2)
    x = layers.conv(x, divisible(32 * width, divisor), 3, "conv1", strides=2)
    x = keras.layers.ReLU(6, name="conv1_relu")(x)
    for i, ((channels, _), (stride, rate)) in enumerate(zip(units, places, strict=True)):
        x = layers.unit(x, divisible(channels * width, divisor), f"unit{i}", stride, rate, expand=i > 0)
    return {"features": x, "low_level": layers.low_level}


def divisible(channels: float, divisor: int) -> int:
    """Rounds a channel count to a multiple of `divisor`, by at most a tenth downwards."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class _Layers:
    """The pieces of the network, sharing their normalisation. Padding is TensorFlow's "same", as in the release."""

    def __init__(self, norm, momentum, epsilon):
        self.norm_options = {"norm": norm, "momentum": momentum, "epsilon": epsilon}
        self.bias = norm == "none"

    def norm(self, x, name):
        layer = make_norm(channels=x.shape[-1], name=f"{name}_norm", **self.norm_options)
        return x if layer is None else layer(x)

    def conv(self, x, filters, size, name, strides=1):
        conv = keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            use_bias=self.bias,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.09),
            name=name,
        )
        return self.norm(conv(x), name)

    def depthwise(self, x, name, strides, rate):
        conv = keras.layers.DepthwiseConv2D(
            3,
            strides,
            padding="same",
            dilation_rate=rate,
            use_bias=self.bias,
            depthwise_initializer=keras.initializers.TruncatedNormal(stddev=0.09),
            name=name,
        )
        return self.norm(conv(x), name)

    def unit(self, x, filters, name, strides, rate, expand):
        """Connects an inverted residual unit: 1x1 wider, 3x3 depthwise, 1x1 `filters` without activation."""
        y = x
        if expand:
            y = self.conv(y, divisible(EXPANSION * x.shape[-1], 8), 1, f"{name}_expand")
            y = keras.layers.ReLU(6, name=f"{name}_expand_relu")(y)
        y = self.depthwise(y, f"{name}_depthwise", strides, rate)
        y = keras.layers.ReLU(6, name=f"{name}_depthwise_relu")(y)
        if name == f"unit{LOW_LEVEL_UNIT}":
            self.low_level = y
        y = self.conv(y, filters, 1, f"{name}_project")
        if strides == 1 and x.shape[-1] == filters:
            y = keras.layers.Add(name=f"{name}_add")([x, y])
        return y
