"""SegNet, SegNet-Basic and Bayesian SegNet."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.backbones import VGG16, scaled, vgg16
from kerasseg.layers import LocalResponseNorm, MaxUnpool2D, MonteCarloDropout, Normalize, make_norm

EPSILON = 1e-9  # What the authors' normalisation adds to a variance.
SHIFT = 0.001  # What their shifts start from.
BASIC_DEPTH = 4
DROPPED_BLOCKS = 3, 4, 5


def segnet(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float = 0.99,
) -> keras.Model:
    """Builds SegNet: the convolutions of VGG16, and their mirror image with unpooling in place of pooling.

    Each unpooling puts its values where the pooling of the same level had found its maxima, in a map of the size that
    was pooled: any image size is taken, odd ones too. Nothing else is handed from the encoder to the decoder.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "segnet".
        width: Multiplies all channel counts except K.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics. 0.99 averages over some hundred batches; lower it (0.9) for shorter runs.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Badrinarayanan et al. 2015, arXiv:1511.00561; alexgkendall/SegNet-Tutorial
        `Models/segnet_train.prototxt`.
    Differs: The authors recompute the statistics of the normalisation over the training set after training; here they
        are moving averages. Theirs was trained at 360x480 only. Colours are turned to BGR inside the model and, as
        there, nothing is subtracted. Their epsilon of 1e-9 is kept. Layers have the authors' names, save that the
        normalisation of conv1_1 is conv1_1_norm.
    """
    return _segnet(num_classes, input_shape, name or "segnet", width, norm, momentum)


def bayesian_segnet(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float = 0.99,
    dropout: float = 0.5,
    sampling: bool = False,
) -> keras.Model:
    """Builds Bayesian SegNet: SegNet with dropout around its central three levels.

    With dropout left on, each call gives another sample of the network's logits; the mean of their softmax is the
    prediction, their variance its uncertainty: see `kerasseg.inference.monte_carlo`, which takes a model built with or
    without `sampling`.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "bayesian_segnet".
        width: Multiplies all channel counts except K.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics. 0.99 averages over some hundred batches; lower it (0.9) for shorter runs.
        dropout: Share of activations dropped after the poolings of blocks 3, 4 and 5 and after their decoders.
        sampling: Whether dropout stays on at inference, as in the authors' release. Then evaluation, export and
            `predict` give a different sample each time. Without it they give the one answer of the averaged weights.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Kendall et al. 2015, arXiv:1511.02680; alexgkendall/SegNet-Tutorial
        `Models/bayesian_segnet_train.prototxt`, `Models/bayesian_segnet_inference.prototxt`.
    Differs: As `segnet`; and dropout is off at inference unless asked for.
    """
    return _segnet(num_classes, input_shape, name or "bayesian_segnet", width, norm, momentum, dropout, sampling)


def segnet_basic(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float = 0.99,
) -> keras.Model:
    """Builds SegNet-Basic: four 7x7 convolutions down, four up, all of 64 channels.

    The image goes through local response normalisation first. The decoder has no ReLU: its convolutions and
    normalisations are linear between unpoolings.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "segnet_basic".
        width: Multiplies the 64 channels.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics. 0.99 averages over some hundred batches; lower it (0.9) for shorter runs.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Badrinarayanan et al. 2015, arXiv:1511.00561, section 3.1; alexgkendall/SegNet-Tutorial
        `Models/segnet_basic_train.prototxt`.
    Differs: As `segnet`.
    """
    filters = scaled(64, width)
    options = {"norm": norm, "momentum": momentum, "shift": SHIFT}
    image = keras.Input(input_shape, name="image")
    x = Normalize(bgr=True, name="normalize")(image)
    x = LocalResponseNorm(5, alpha=1e-4, beta=0.75, name="norm")(x)
    pooled_from = []
    for level in range(1, BASIC_DEPTH + 1):
        x = _conv_norm(x, filters, 7, f"conv{level}", **options)
        x = keras.layers.ReLU(name=f"relu{level}")(x)
        pooled_from.append(x)
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{level}")(x)
    for level in range(BASIC_DEPTH, 0, -1):
        x = MaxUnpool2D(name=f"upsample{level}")([x, pooled_from.pop()])
        x = _conv_norm(x, filters, 7, f"conv_decode{level}", **options)
    logits = _conv(num_classes, 1, "conv_classifier", dtype="float32")(x)
    return keras.Model(image, logits, name=name or "segnet_basic")


def _segnet(num_classes, input_shape, name, width, norm, momentum, dropout=0.0, sampling=False):
    options = {"norm": norm, "momentum": momentum, "shift": SHIFT}

    def drop(prefix, block, x):
        if not dropout or block not in DROPPED_BLOCKS:
            return x
        return MonteCarloDropout(dropout, sampling, name=f"{prefix}drop{block}")(x)

    image = keras.Input(input_shape, name="image")
    x = Normalize(bgr=True, name="normalize")(image)
    features = vgg16(x, width=width, epsilon=EPSILON, after_pool=lambda block, x: drop("enc", block, x), **options)
    x = features["pool5"]
    for block in range(len(VGG16), 0, -1):
        x = MaxUnpool2D(name=f"upsample{block}")([x, features[f"block{block}"]])
        for i in range(len(VGG16[block - 1]), 0, -1):
            if (block, i) == (1, 1):
                break
            # The first convolution of a block changes the channels in VGG16, so its mirror image changes them back.
            filters = VGG16[block - 1][i - 1] if i > 1 else VGG16[block - 2][-1]
            x = _conv_norm(x, scaled(filters, width), 3, f"conv{block}_{i}_D", **options)
            x = keras.layers.ReLU(name=f"relu{block}_{i}_D")(x)
        x = drop("dec", block, x)
    # Logits are float32 under any precision policy.
    logits = _conv(num_classes, 3, "conv1_1_D", dtype="float32")(x)
    return keras.Model(image, logits, name=name)


def _conv(filters, size, name, **kwargs):
    return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer="he_normal", name=name, **kwargs)


def _conv_norm(x, filters, size, name, *, norm, momentum, shift=0.0):
    x = _conv(filters, size, name)(x)
    layer = make_norm(norm, filters, name=f"{name}_norm", momentum=momentum, epsilon=EPSILON, shift=shift)
    return x if layer is None else layer(x)
