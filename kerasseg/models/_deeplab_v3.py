"""DeepLab-v3."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones import RESNET_V2, channel_means, normalization
from kerasseg.layers import ASPP, Normalize, Resize
from kerasseg.models._deeplab_encoder import connect_backbone, head_momentum, rates_at

VARIANTS = ("paper", "original")
ORIGINAL_MEAN = 123.68, 116.78, 103.94
"""RGB, of the TensorFlow 1 repository."""


def deeplab_v3(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    backbone: str = "resnet_v2_50",
    output_stride: int = 16,
    multi_grid: Sequence[int] | None = None,
    atrous_rates: Sequence[int] = (6, 12, 18),
    width: float = 1.0,
    variant: str = "paper",
    norm: str | Callable = "batch",
    momentum: float | None = None,
) -> keras.Model:
    """Builds DeepLab-v3: an atrous backbone, atrous spatial pyramid pooling, bilinear upsampling to the input's size.

    The output stride changes no weights: a model trained at 16 loads into one built at 8.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken. Odd and even sizes alike.
        name: Of the model; default "deeplab_v3".
        backbone: A key of `kerasseg.backbones.BACKBONES`: "resnet_v1_50", "resnet_v1_50_beta", "resnet_v2_50" and their
            like with 101 (v2: also 152), "mobilenet_v2", "xception_41", "xception_65", "xception_71".
        output_stride: Input side ÷ side of the maps that the pyramid reads; 8 or 16 (also 4, and 32 as a classifier).
        multi_grid: Factors of the atrous rates in the last block; None: (1, 2, 4) in ResNets, none in the others.
        atrous_rates: Of the pyramid, at output stride 16. (), without 3x3 convolutions, is what was released with
            MobileNet-v2.
        width: Multiplies all channel counts except K.
        variant: "paper", or "original" for the TensorFlow 1 repository that many know the network by. See below.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics; None: as released, 0.9997, but 0.95 in ResNet-v1 and 0.997 in MobileNet-v2.
            Set it (0.99) for runs of less than some thousand steps.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Chen et al. 2017, arXiv:1706.05587; sthalles/deeplab_v3 `network.py` at c74c0f0.
    Differs: The default backbone is the TensorFlow 1 repository's, ResNet-v2; the paper has ResNet-v1. Everything else
        is the paper's with variant "paper": the pyramid reads rectified features, its convolutions have ReLU, its
        rates are doubled at output stride 8 (and quadrupled at 4). Images are normalised as the backbone's released
        weights expect, logits are resized with aligned corners as in TensorFlow's DeepLab, whose image-level feature
        is the mean of a fixed window, here of the whole image; the last layer starts as there, from a normal
        distribution of deviation 0.01. "original" (ResNet-v2 only) means: the raw sum of
        block 4, no ReLU in the head, the same rates at every stride, the ImageNet mean subtracted, TensorFlow 1's
        resize.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    original = variant == "original"
    if original and backbone not in RESNET_V2:
        raise ValueError(f'variant="original" needs one of the backbones {", ".join(RESNET_V2)}, got {backbone!r}')
    image = keras.Input(input_shape, name="image")
    channels = input_shape[-1]
    mean = Normalize(channel_means(ORIGINAL_MEAN, channels), name="normalize")
    x = mean if original else normalization(backbone, channels)
    x = connect_backbone(
        x(image),
        backbone,
        output_stride=output_stride,
        multi_grid=multi_grid,
        width=width,
        norm=norm,
        momentum=momentum,
        **({"postnorm": False} if original else {}),
    )["features"]
    aspp = ASPP(
        round(256 * width),
        atrous_rates if original else rates_at(output_stride, atrous_rates),
        activation=None if original else "relu",
        name="aspp",
        norm=norm,
        momentum=head_momentum(momentum),
        epsilon=1e-5,
    )
    x = aspp.connect(x)
    # Logits are float32 under any precision policy: a 16-bit softmax over K classes loses too much.
    start = "he_normal" if original else keras.initializers.TruncatedNormal(stddev=0.01)
    x = keras.layers.Conv2D(num_classes, 1, kernel_initializer=start, dtype="float32", name="logits_conv")(x)
    logits = Resize(sampling="legacy" if original else "align_corners", dtype="float32", name="logits")([x, image])
    return keras.Model(image, logits, name=name or "deeplab_v3")
