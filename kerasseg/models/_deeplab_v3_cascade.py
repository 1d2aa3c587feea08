"""DeepLab-v3 with blocks in cascade."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.backbones import RESNET_V1, RESNET_V2, normalization
from kerasseg.layers import Resize
from kerasseg.models._deeplab_encoder import connect_backbone


def deeplab_v3_cascade(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    backbone: str = "resnet_v1_101",
    output_stride: int = 16,
    blocks: int = 7,
    multi_grid: Sequence[int] = (1, 2, 1),
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float | None = None,
) -> keras.Model:
    """Builds DeepLab-v3's other form: no pyramid, but copies of the ResNet's block 4, at ever larger atrous rates.

    At output stride 16 the rates of blocks 4, 5, 6 and 7 are 2, 4, 8 and 16 times the multi-grid, at 8 twice that. The
    output stride changes no weights: a model trained at 16 loads into one built at 8.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken. Odd and even sizes alike.
        name: Of the model; default "deeplab_v3_cascade".
        backbone: A ResNet of `kerasseg.backbones.BACKBONES`.
        output_stride: Input side ÷ side of the last block's maps; 8 or 16 (also 4, and up to 32 * 2 ** (blocks - 4),
            where every block but the last has its stride).
        blocks: How many there are, the ResNet's four included.
        multi_grid: Factors of the atrous rates of the three units of block 4 and of each of its copies.
        width: Multiplies all channel counts except K.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics; None: 0.95 in ResNet-v1, 0.9997 in v2. Set it (0.99) for runs of less than
            some thousand steps.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Chen et al. 2017, arXiv:1706.05587, section 3.2, figure 3 (b), tables 1 to 4.
    Differs: This form was never released: the position of the strides, the normalisation of images and the resizing
        with aligned corners are those of the released DeepLab-v3.
    """
    resnets = [*RESNET_V1, *RESNET_V2]
    if backbone not in resnets:
        raise ValueError(f"a cascade needs one of the backbones {', '.join(resnets)}, got {backbone!r}")
    image = keras.Input(input_shape, name="image")
    x = connect_backbone(
        normalization(backbone, input_shape[-1])(image),
        backbone,
        output_stride=output_stride,
        multi_grid=multi_grid,
        width=width,
        norm=norm,
        momentum=momentum,
        blocks=blocks,
    )["features"]
    x = keras.layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="logits_conv")(x)
    logits = Resize(sampling="align_corners", dtype="float32", name="logits")([x, image])
    return keras.Model(image, logits, name=name or "deeplab_v3_cascade")
