"""U-Net."""

from collections.abc import Callable
from typing import NamedTuple

from tensorflow import keras

from kerasseg.layers import CropLike, LegalInputSize, Normalize, Resize, StandardizeImage
from kerasseg.models._double_conv import double_conv


class _Variant(NamedTuple):
    filters: int = 64
    upsampling: str = "transpose"
    # How many times `filters` the last up-convolution has, and whether ReLU follows the up-convolutions.
    last_up: int = 1
    up_relu: bool = False


_VARIANTS = {
    "paper": _Variant(),
    "bilinear": _Variant(upsampling="bilinear"),
    "half": _Variant(filters=32),
    "quarter": _Variant(filters=16),
    "release": _Variant(last_up=2, up_relu=True),
}


def unet(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    variant: str = "paper",
    filters: int | None = None,
    depth: int = 4,
    padding: str = "valid",
    upsampling: str | None = None,
    batch_norm: bool = False,
    norm: str | Callable = "batch",
    momentum: float = 0.9,
    dropout: float = 0.5,
    standardize: bool = False,
    downscale: int = 1,
) -> keras.Model:
    """Builds U-Net.

    With valid padding, as its authors have it, each 3x3 convolution takes a pixel off every border: at depth 4 the
    input is 16k + 60 pixels a side, at least 188, and the output 184 fewer (572 -> 388): the logits of the centre.
    With same padding the output has the input's size, and any size is taken.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any legal size is to be taken.
        name: Of the model; default "unet".
        variant: Which published form, with its parameters for one channel and two classes: "paper" (64 filters,
            transposed convolutions; 31.03 million), "bilinear" (28.94), "half" (32 filters; 7.76), "quarter" (16
            filters; 1.94), or "release": the authors' own model, of which the paper's figure tells nothing: the last
            up-convolution keeps 128 channels, and ReLU follows each (31.10).
        filters: Channels at full resolution; doubled by each level. None: the variant's.
        depth: Number of times the image is halved.
        padding: "valid" or "same".
        upsampling: "transpose" (2x2 transposed convolution) or "bilinear" (followed by a 1x1 convolution); both halve
            the channels. None: the variant's.
        batch_norm: Whether each 3x3 convolution is followed by normalisation.
        norm: What kind, if so: "batch", "sync", "group", "frozen" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics. 0.9 follows them within tens of steps: small data sets are trained briefly.
        dropout: Share of activations dropped at the end of the two lowest levels of the contracting path.
        standardize: Whether each image is brought to mean 0 and deviation 1 first (`layers.StandardizeImage`), instead
            of scaled to 0...1: for images whose brightness tells nothing.
        downscale: The network sees the image at 1/n of its size, and its logits are resized bilinearly to the image's:
            n² times less work, n times the field of view. With same padding.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 -> `logits` float32 [B, H, W, K], or [B, H - 184, W - 184, K].
    Raises:
        ValueError: An argument is none of the above, or a size is illegal (the nearest legal ones are named).
    Reference: Ronneberger et al. 2015, arXiv:1505.04597, section 2, figure 1; "release": `phseg_v5` of
        u-net-release-2015-10-02.
    Differs: The image is scaled to 0...1 inside the model, the paper does not say how. Same padding, normalisation,
        bilinear upsampling, fewer filters, `standardize` and `downscale` are later users' forms.
    """
    if variant not in _VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(_VARIANTS)}, got {variant!r}")
    form = _VARIANTS[variant]
    filters = form.filters if filters is None else filters
    upsampling = form.upsampling if upsampling is None else upsampling
    for option, value, legal in (
        ("padding", padding, ("valid", "same")),
        ("upsampling", upsampling, ("transpose", "bilinear")),
    ):
        if value not in legal:
            raise ValueError(f"{option} must be one of {', '.join(legal)}, got {value!r}")
    if depth < 1 or filters < 1:
        raise ValueError(f"depth and filters must be at least 1, got depth={depth}, filters={filters}")
    if downscale < 1 or (downscale > 1 and padding == "valid"):
        raise ValueError(f"downscale must be at least 1, and 1 with valid padding, got {downscale}")
    convs = {"padding": padding, "norm": norm if batch_norm else "none", "momentum": momentum}

    image = keras.Input(input_shape, name="image")
    x = StandardizeImage(name="normalize")(image) if standardize else Normalize(scale=255.0, name="normalize")(image)
    if downscale > 1:
        x = keras.layers.AveragePooling2D(downscale, padding="same", name="downscale")(x)
    if padding == "valid":
        x = _legal_input_size(depth)(x)
    skips = []
    for level in range(1, depth + 1):
        x = double_conv(x, filters * 2 ** (level - 1), f"down{level}", **convs)
        if level == depth:
            x = keras.layers.Dropout(dropout, name=f"down{level}_dropout")(x)
        skips.append(x)
        # "same" pools odd sizes to the larger half, so that nothing of the image is lost.
        x = keras.layers.MaxPooling2D(2, padding=padding, name=f"pool{level}")(x)
    x = double_conv(x, filters * 2**depth, "bottom", **convs)
    x = keras.layers.Dropout(dropout, name="bottom_dropout")(x)
    for level in range(depth, 0, -1):
        channels = filters * 2 ** (level - 1)
        x = _up(x, channels * (form.last_up if level == 1 else 1), upsampling, f"up{level}")
        if form.up_relu:
            x = keras.layers.ReLU(name=f"up{level}_upconv_relu")(x)
        x = _join(x, skips[level - 1], padding, f"up{level}")
        x = double_conv(x, channels, f"up{level}", **convs)
    logits = keras.layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="logits")(x)
    if downscale > 1:
        logits = Resize(dtype="float32", name="resize")([logits, image])
    return keras.Model(image, logits, name=name or "unet")


def _legal_input_size(depth: int) -> LegalInputSize:
    """Returns the check of a valid-padding U-Net's input.

    From a lowest map of b pixels: going up the contracting path, each level doubles and adds two convolutions' 4
    pixels: n = 2^depth·b + 4·(2^depth - 1). Of b, the output keeps 2^depth·(b - 4) - 4·(2^depth - 1) > 0.
    """
    scale = 2**depth
    border = 4 * (scale - 1)
    smallest = 4 + border // scale + 1
    return LegalInputSize(scale, border, scale * smallest + border, name="legal_input_size")


def _up(x, filters, upsampling, name):
    """Doubles height and width."""
    if upsampling == "transpose":
        return keras.layers.Conv2DTranspose(filters, 2, 2, kernel_initializer="he_normal", name=f"{name}_upconv")(x)
    x = Resize(scale=2, name=f"{name}_resize")(x)
    return keras.layers.Conv2D(filters, 1, kernel_initializer="he_normal", name=f"{name}_upconv")(x)


def _join(x, skip, padding, name):
    """Puts the skip connection behind the doubled map."""
    if padding == "valid":
        skip = CropLike(name=f"{name}_crop")([skip, x])
    else:
        # An odd size was pooled to the larger half: the doubled map is one row or column too large at its end.
        x = CropLike(offset=0, name=f"{name}_crop")([x, skip])
    return keras.layers.Concatenate(name=f"{name}_concat")([x, skip])
