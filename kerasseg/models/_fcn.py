"""The fully convolutional networks: FCN-32s, FCN-16s, FCN-8s and FCN-AlexNet."""

from tensorflow import keras

from kerasseg.backbones import alexnet, channel_means, scaled, vgg16
from kerasseg.layers import BilinearConv2DTranspose, Normalize, Scale
from kerasseg.models._fcn_maps import Map

MEAN = (122.67891434, 116.66876762, 104.00698793)
"""Of PASCAL VOC in RGB, as `voc_layers.py` of the release subtracts it (in BGR)."""
PADDINGS = ("authors", "same")
LEARNED = {
    "fixed": {},
    "learned": dict.fromkeys(("first", "inner", "last"), {"learned": True}),
    "cvpr15": {"first": {"learned": True, "use_bias": True}, "inner": {"learned": True}},
}


def fcn_32s(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    padding: str = "authors",
    upsampling: str = "fixed",
    dropout: float = 0.5,
    width: float = 1.0,
) -> keras.Model:
    """Builds FCN-32s: VGG16 with its dense layers as convolutions, scores at stride 32, bilinear upsampling.

    Takes images of any size. Train it from VGG16's weights: from random ones it ends with background everywhere. Its
    weights start FCN-16s and those FCN-8s; layers of the same name in the three have the same shape. Score
    convolutions start at zero, so that adding a skip changes nothing at first; at zero they pass no gradient down, and
    what lies below begins to move at the second step.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "fcn_32s".
        padding: "authors": 100 zeros around the image, no padding in fc6, and crops by 19 pixels (16s: 5 and 27, 8s: 5,
            9 and 31), which follow from the places of the cells. "same": the usual padding everywhere; crops only take
            off what the poolings rounded up, and at 512 pixels it is six tenths of the work. Weights fit both.
        upsampling: "fixed": bilinear, as released. "learned": it starts so and is trained.
        dropout: Share of activations dropped after fc6 and fc7.
        width: Multiplies the channel counts of the trunk, fc6 and fc7.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Long et al. 2015, arXiv:1411.4038; Shelhamer et al. 2017, arXiv:1605.06211; `voc-fcn32s` of
        shelhamer/fcn.berkeleyvision.org at 1305c73.
    Differs: The mean of PASCAL VOC is subtracted inside the model. From images of other than three channels: from the
        channels after the third the mean over the colours, and so from all channels of one or two. Same padding is a
        later users' form: at the borders its cells see fewer zeros, and the upsampled scores fade there.
    """
    build = _Builder(num_classes, input_shape, padding, upsampling, ("fixed", "learned"))
    x = build.score(build.vgg16(dropout, width)["fc7"], "score_fr")
    x = build.upsample(x, 32, "upscore", "last")
    return build.model(x, name or "fcn_32s")


def fcn_16s(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    padding: str = "authors",
    upsampling: str = "fixed",
    dropout: float = 0.5,
    width: float = 1.0,
) -> keras.Model:
    """Builds FCN-16s: the scores of FCN-32s, upsampled twofold, plus scores of pool4, upsampled sixteenfold at once.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "fcn_16s".
        padding: "authors" or "same"; see `fcn_32s`.
        upsampling: "fixed": bilinear, as released. "learned": it starts so and is trained. "cvpr15": as the paper's
            first version had it: the twofold one learned, with a bias, the last one fixed.
        dropout, width: See `fcn_32s`.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: As `fcn_32s`; `voc-fcn16s`.
    Differs: As `fcn_32s`.
    """
    build = _Builder(num_classes, input_shape, padding, upsampling)
    maps = build.vgg16(dropout, width)
    x = build.score(maps["fc7"], "score_fr")
    x = build.upsample(x, 2, "upscore2", "first")
    x = build.fuse(x, maps["pool4"], "pool4")
    x = build.upsample(x, 16, "upscore16", "last")
    return build.model(x, name or "fcn_16s")


def fcn_8s(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    padding: str = "authors",
    upsampling: str = "fixed",
    at_once: bool = False,
    dropout: float = 0.5,
    width: float = 1.0,
) -> keras.Model:
    """Builds FCN-8s: scores at stride 32, plus those of pool4 at 16, plus those of pool3 at 8, upsampled eightfold.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "fcn_8s".
        padding: "authors" or "same"; see `fcn_32s`.
        upsampling: "fixed": bilinear, as released. "learned": it starts so and is trained. "cvpr15": as the paper's
            first version had it: the two twofold ones learned, the first with a bias, the last one fixed.
        at_once: Whether pool4 is multiplied by 0.01 and pool3 by 0.0001 before their scores, so that the network can be
            trained from VGG16 in one stage and not from FCN-16s.
        dropout, width: See `fcn_32s`.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: As `fcn_32s`; `voc-fcn8s`, `voc-fcn8s-atonce`.
    Differs: As `fcn_32s`.
    """
    build = _Builder(num_classes, input_shape, padding, upsampling)
    maps = build.vgg16(dropout, width)
    x = build.score(maps["fc7"], "score_fr")
    x = build.upsample(x, 2, "upscore2", "first")
    x = build.fuse(x, maps["pool4"], "pool4", 0.01 if at_once else None)
    x = build.upsample(x, 2, "upscore_pool4", "inner")
    x = build.fuse(x, maps["pool3"], "pool3", 0.0001 if at_once else None)
    x = build.upsample(x, 8, "upscore8", "last")
    return build.model(x, name or "fcn_8s")


def fcn_alexnet(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    upsampling: str = "fixed",
    dropout: float = 0.5,
    width: float = 1.0,
) -> keras.Model:
    """Builds FCN-AlexNet: AlexNet with its dense layers as convolutions, scores at stride 32, bilinear upsampling.

    Takes images of any size, around which it puts 100 zeros. See `fcn_32s` on weights to start from.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "fcn_alexnet".
        upsampling: "fixed": bilinear, as released. "learned": it starts so and is trained.
        dropout: Share of activations dropped after fc6 and fc7.
        width: Multiplies the channel counts of the trunk, fc6 and fc7.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: As `fcn_32s`; `voc-fcn-alexnet`.
    Differs: The mean is treated as in `fcn_32s`.
    """
    build = _Builder(num_classes, input_shape, "authors", upsampling, ("fixed", "learned"))
    trunk = alexnet(build.normalized, width=width, first_padding=100)
    x = build.dense(trunk["pool5"], 6, dropout, width)
    x = build.upsample(build.score(x, "score_fr"), 32, "upscore", "last", kernel_size=63)
    return build.model(x, name or "fcn_alexnet")


class _Builder:
    """The pieces of the networks, sharing their options."""

    def __init__(self, num_classes, input_shape, padding, upsampling, upsamplings=tuple(LEARNED)):
        for option, value, legal in (("padding", padding, PADDINGS), ("upsampling", upsampling, upsamplings)):
            if value not in legal:
                raise ValueError(f"{option} must be one of {', '.join(legal)}, got {value!r}")
        self.num_classes, self.upsampling = num_classes, upsampling
        self.padding = "same" if padding == "same" else "valid"
        self.image = Map(keras.Input(input_shape, name="image"))
        self.normalized = Normalize(channel_means(MEAN, input_shape[-1]), bgr=True, name="normalize")(self.image.tensor)

    def vgg16(self, dropout, width) -> dict[str, Map]:
        """Returns the maps that scores are made of."""
        features = vgg16(self.normalized, width=width, first_padding=1 if self.padding == "same" else 100)
        maps = {name: self.image.to(features[name]) for name in ("pool3", "pool4")}
        return {**maps, "fc7": self.dense(features["pool5"], 7, dropout, width)}

    def dense(self, x, size, dropout, width) -> Map:
        """The dense layers as convolutions, the first of them over the whole map that it read as a classifier."""
        for name, kernel_size in (("6", size), ("7", 1)):
            x = keras.layers.Conv2D(
                scaled(4096, width), kernel_size, padding=self.padding, kernel_initializer="he_normal", name=f"fc{name}"
            )(x)
            x = keras.layers.ReLU(name=f"relu{name}")(x)
            x = keras.layers.Dropout(dropout, name=f"drop{name}")(x)
        return self.image.to(x)

    # Scores and all that is made of them are float32 under any precision policy: 16 bits lose too much for a softmax.

    def score(self, x, name) -> Map:
        return x.through(
            keras.layers.Conv2D(self.num_classes, 1, kernel_initializer="zeros", dtype="float32", name=name)
        )

    def upsample(self, x, factor, name, role, kernel_size=None) -> Map:
        options = LEARNED[self.upsampling].get(role, {})
        size = kernel_size or 2 * factor
        return x.through(BilinearConv2DTranspose(size, factor, self.padding, dtype="float32", name=name, **options))

    def fuse(self, x, skip, name, scale=None) -> Map:
        """Adds the scores of a finer map, after cropping the larger of the two."""
        if scale is not None:
            skip = skip.through(Scale(scale, dtype="float32", name=f"scale_{name}"))
        score = self.score(skip, f"score_{name}")
        if self.padding == "same":
            x = x.cropped_to(score, f"crop_to_{name}")
        else:
            score = score.cropped_to(x, f"score_{name}c")
        return Map(keras.layers.Add(dtype="float32", name=f"fuse_{name}")([x.tensor, score.tensor]), x.start, x.stride)

    def model(self, x, name) -> keras.Model:
        return keras.Model(self.image.tensor, x.cropped_to(self.image, "score").tensor, name=name)
