"""U-Net."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.layers import CropLike, LegalInputSize, Normalize, Resize, make_norm


def unet(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    filters: int = 64,
    depth: int = 4,
    padding: str = "valid",
    upsampling: str = "transpose",
    batch_norm: bool = False,
    norm: str | Callable = "batch",
    momentum: float = 0.9,
    dropout: float = 0.5,
) -> keras.Model:
    """Builds U-Net.

    With valid padding, as its authors have it, each 3x3 convolution takes a pixel off every border: at depth 4 the
    input is 16k + 60 pixels a side, at least 188, and the output 184 fewer (572 -> 388): the logits of the centre.
    With same padding the output has the input's size, and any size is taken.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any legal size is to be taken.
        name: Of the model; default "unet".
        filters: Channels at full resolution; doubled by each level.
        depth: Number of times the image is halved.
        padding: "valid" or "same".
        upsampling: "transpose" (2x2 transposed convolution) or "bilinear" (followed by a 1x1 convolution); both halve
            the channels.
        batch_norm: Whether each 3x3 convolution is followed by normalisation.
        norm: What kind, if so: "batch", "sync", "group", "frozen" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics. 0.9 follows them within tens of steps: small data sets are trained briefly.
        dropout: Share of activations dropped at the end of the two lowest levels of the contracting path.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 -> `logits` float32 [B, H, W, K], or [B, H - 184, W - 184, K].
    Raises:
        ValueError: An argument is none of the above, or a size is illegal (the nearest legal ones are named).
    Reference: Ronneberger et al. 2015, arXiv:1505.04597, section 2, figure 1.
    Differs: The image is scaled to 0...1 inside the model, the paper does not say how. Same padding and bilinear
        upsampling are later users' forms. The last up-convolution has `filters` channels as in the figure (the
        authors' released model keeps 128).
    """
    for option, value, legal in (
        ("padding", padding, ("valid", "same")),
        ("upsampling", upsampling, ("transpose", "bilinear")),
    ):
        if value not in legal:
            raise ValueError(f"{option} must be one of {', '.join(legal)}, got {value!r}")
    if depth < 1 or filters < 1:
        raise ValueError(f"depth and filters must be at least 1, got depth={depth}, filters={filters}")
    build = _Builder(padding, upsampling, norm if batch_norm else "none", momentum)

    image = keras.Input(input_shape, name="image")
    x = Normalize(scale=255.0, name="normalize")(image)
    if padding == "valid":
        x = _legal_input_size(depth)(x)
    skips = []
    for level in range(1, depth + 1):
        x = build.double_conv(x, filters * 2 ** (level - 1), f"down{level}")
        if level == depth:
            x = keras.layers.Dropout(dropout, name=f"down{level}_dropout")(x)
        skips.append(x)
        # "same" pools odd sizes to the larger half, so that nothing of the image is lost.
        x = keras.layers.MaxPooling2D(2, padding=padding, name=f"pool{level}")(x)
    x = build.double_conv(x, filters * 2**depth, "bottom")
    x = keras.layers.Dropout(dropout, name="bottom_dropout")(x)
    for level in range(depth, 0, -1):
        x = build.up(x, skips[level - 1], filters * 2 ** (level - 1), f"up{level}")
    logits = keras.layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="logits")(x)
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


class _Builder:
    """The pieces of the network, sharing its options."""

    def __init__(self, padding, upsampling, norm, momentum):
        self.padding, self.upsampling, self.norm, self.momentum = padding, upsampling, norm, momentum

    def conv(self, x, filters, size, name):
        return keras.layers.Conv2D(filters, size, padding=self.padding, kernel_initializer="he_normal", name=name)(x)

    def double_conv(self, x, filters, name):
        for i in (1, 2):
            x = self.conv(x, filters, 3, f"{name}_conv{i}")
            norm = make_norm(self.norm, filters, name=f"{name}_conv{i}_norm", momentum=self.momentum, epsilon=1e-3)
            x = x if norm is None else norm(x)
            x = keras.layers.ReLU(name=f"{name}_relu{i}")(x)
        return x

    def up(self, x, skip, filters, name):
        """Doubles the size, joins the skip connection behind it, and convolves twice."""
        if self.upsampling == "transpose":
            x = keras.layers.Conv2DTranspose(filters, 2, 2, kernel_initializer="he_normal", name=f"{name}_upconv")(x)
        else:
            x = Resize(scale=2, name=f"{name}_resize")(x)
            x = self.conv(x, filters, 1, f"{name}_upconv")
        if self.padding == "valid":
            skip = CropLike(name=f"{name}_crop")([skip, x])
        else:
            # An odd size was pooled to the larger half: the doubled map is one row or column too large at its end.
            x = CropLike(offset=0, name=f"{name}_crop")([x, skip])
        x = keras.layers.Concatenate(name=f"{name}_concat")([x, skip])
        return self.double_conv(x, filters, name)
