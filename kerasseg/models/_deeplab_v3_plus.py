"""DeepLab-v3+."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones import normalization, scaled
from kerasseg.layers import ASPP, AtrousConv2D, AtrousSeparableConv2D, Resize, make_norm
from kerasseg.models._deeplab_encoder import connect_backbone, head_momentum, rates_at


def deeplab_v3_plus(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    backbone: str = "xception_65",
    output_stride: int = 16,
    multi_grid: Sequence[int] | None = None,
    atrous_rates: Sequence[int] = (6, 12, 18),
    separable: bool = True,
    dropout: float = 0.1,
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float | None = None,
) -> keras.Model:
    """Builds DeepLab-v3+: DeepLab-v3 up to its pyramid, and a decoder that refines it with features at stride 4.

    The output stride changes no weights: a model trained at 16 loads into one built at 8.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken. Odd and even sizes alike.
        name: Of the model; default "deeplab_v3_plus".
        backbone: A key of `kerasseg.backbones.BACKBONES`; see `deeplab_v3`.
        output_stride: Input side ÷ side of the maps that the pyramid reads; 8 or 16 (also 4 and 32).
        multi_grid: Factors of the atrous rates in the last block; None: (1, 2, 4) in ResNets, none in the others.
        atrous_rates: Of the pyramid, at output stride 16; doubled at 8.
        separable: Whether the 3x3 convolutions of pyramid and decoder are depthwise separable, as in the release, or
            plain.
        dropout: Rate after the pyramid, when training.
        width: Multiplies all channel counts except K; a multiple of 1/16, of 1/8 with Xception.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics; None: as released, 0.9997, but 0.95 in ResNet-v1 and 0.997 in MobileNet-v2.
            Set it (0.99) for runs of less than some thousand steps.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Chen et al. 2018, arXiv:1802.02611, section 3; tensorflow/models `research/deeplab/model.py` at 05ccaf8.
    Differs: The release takes the image-level feature as the mean of a fixed window, of the size that it was trained
        at; here it is that of the whole image, as in the paper. The release has no ResNet-v2; its low-level features
        are here the sum after the second unit.
    """
    norm_options = {"norm": norm, "momentum": head_momentum(momentum), "epsilon": 1e-5}
    image = keras.Input(input_shape, name="image")
    features = connect_backbone(
        normalization(backbone, input_shape[-1])(image),
        backbone,
        output_stride=output_stride,
        multi_grid=multi_grid,
        width=width,
        norm=norm,
        momentum=momentum,
    )
    filters = scaled(256, width)
    rates = rates_at(output_stride, atrous_rates)
    x = ASPP(filters, rates, separable=separable, name="aspp", **norm_options).connect(features["features"])
    x = keras.layers.Dropout(dropout, name="aspp_dropout")(x)
    low_level = keras.layers.Conv2D(
        scaled(48, width), 1, use_bias=norm == "none", kernel_initializer="he_normal", name="decoder_projection_conv"
    )(features["low_level"])
    low_level = _norm_relu(low_level, "decoder_projection", norm_options)
    x = Resize(sampling="align_corners", name="decoder_resize")([x, low_level])
    x = keras.layers.Concatenate(name="decoder_concat")([x, low_level])
    for i in (0, 1):
        x = _decoder_conv(x, filters, f"decoder_conv{i}", separable, norm_options)
    x = keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),
        dtype="float32",
        name="logits_conv",
    )(x)
    logits = Resize(sampling="align_corners", dtype="float32", name="logits")([x, image])
    return keras.Model(image, logits, name=name or "deeplab_v3_plus")


def _decoder_conv(x, filters, name, separable, norm_options):
    if separable:
        return AtrousSeparableConv2D(filters, name=name, **norm_options).connect(x)
    conv = AtrousConv2D(
        filters,
        3,
        padding="same",
        use_bias=norm_options["norm"] == "none",
        kernel_initializer="he_normal",
        name=name,
    )
    return _norm_relu(conv(x), name, norm_options)


def _norm_relu(x, name, norm_options):
    layer = make_norm(channels=x.shape[-1], name=f"{name}_norm", **norm_options)
    x = x if layer is None else layer(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
