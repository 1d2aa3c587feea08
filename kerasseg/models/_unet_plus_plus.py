"""UNet++ (nested U-Net)."""

import re
from collections.abc import Callable

from tensorflow import keras

from kerasseg.layers import AverageProbabilities, CropLike, Normalize
from kerasseg.models._double_conv import double_conv


def unet_plus_plus(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    filters: int = 32,
    depth: int = 4,
    deep_supervision: bool = False,
    dropout: float = 0.5,
    batch_norm: bool = False,
    norm: str | Callable = "batch",
    momentum: float = 0.9,
) -> keras.Model:
    """Builds UNet++: a U-Net whose skip connections are themselves U-Nets of every smaller depth.

    Node X(i, j) is a double convolution at depth i; it reads the doubled map of X(i + 1, j - 1), then X(i, 0), ...,
    X(i, j - 1). Its layers are named `node<i>_<j>_...`. Head j, `logits<j>`, reads X(0, j).

    With deep supervision there is a head, and an output, for each depth. Give each its own loss:

        model = unet_plus_plus(2, deep_supervision=True)
        model.compile("adam", [CrossEntropy() for _ in model.outputs])
        model.fit(image, [mask] * 4)
        smaller = unet_plus_plus_pruned(model, 2)      # the authors' fast mode
        accurate = unet_plus_plus_averaged(model)      # their accurate mode

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "unet_plus_plus".
        filters: Channels at full resolution; doubled by each level.
        depth: Number of times the image is halved.
        deep_supervision: Whether to return the logits of all heads, 1 to `depth`, instead of the last one's.
        dropout: Share of activations dropped after each 3x3 convolution.
        batch_norm: Whether each 3x3 convolution is followed by normalisation.
        norm: What kind, if so: "batch", "sync", "group", "frozen" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 -> `logits` float32 [B, H, W, K]; with deep supervision a list of
        `depth` of them (if more than one), the last from the whole network.
    Raises:
        ValueError: An argument is none of the above.
    Reference: Zhou et al. 2018, arXiv:1807.10165; MrGiovanni/UNetPlusPlus `keras/helper_functions.py` at 2659ddc.
    Differs: Logits instead of a sigmoid. Any size: odd ones are pooled to the larger half, and the doubled map cut (the
        release takes multiples of 16, where nothing is cut). The image is scaled to 0...1 inside the model. The
        release's L2 of 1e-4 on the kernels is left to the optimiser's weight decay, as in all models here; its
        models with normalisation are those on pretrained backbones.
    """
    if depth < 1 or filters < 1:
        raise ValueError(f"depth and filters must be at least 1, got depth={depth}, filters={filters}")
    convs = {"norm": norm if batch_norm else "none", "momentum": momentum, "dropout": dropout}

    image = keras.Input(input_shape, name="image")
    x = Normalize(scale=255.0, name="normalize")(image)
    nodes = {}
    for i in range(depth + 1):
        if i > 0:
            x = keras.layers.MaxPooling2D(2, padding="same", name=f"node{i}_0_pool")(x)
        x = nodes[i, 0] = double_conv(x, filters * 2**i, f"node{i}_0", **convs)
    for j in range(1, depth + 1):
        for i in range(depth + 1 - j):
            channels = filters * 2**i
            joined = _joined(nodes[i + 1, j - 1], [nodes[i, k] for k in range(j)], channels, f"node{i}_{j}")
            nodes[i, j] = double_conv(joined, channels, f"node{i}_{j}", **convs)
    heads = range(1, depth + 1) if deep_supervision else [depth]
    logits = [
        keras.layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name=f"logits{j}")(
            nodes[0, j]
        )
        for j in heads
    ]
    return keras.Model(image, logits if len(logits) > 1 else logits[0], name=name or "unet_plus_plus")


def _joined(below, row, channels, name):
    """Returns the doubled map of the node below, with the nodes to the left behind it."""
    up = keras.layers.Conv2DTranspose(channels, 2, 2, name=f"{name}_up")(below)  # from Keras' default, as the release
    # An odd size was pooled to the larger half: the doubled map is one row or column too large at its end.
    up = CropLike(offset=0, name=f"{name}_crop")([up, row[0]])
    return keras.layers.Concatenate(name=f"{name}_concat")([up, *row])


def unet_plus_plus_pruned(model: keras.Model, level: int, *, name: str | None = None) -> keras.Model:
    """Cuts a UNet++ down to the part that head `level` reads: the nodes X(i, j) with i + j <= level.

    Its logits are those of head `level` of the whole model. It shares the weights with it.

    Args:
        model: Built by `unet_plus_plus`, or loaded from a file. With deep supervision, any level can be had; without,
            only the last has a head.
        level: 1 to the model's depth.
        name: Of the new model; default the old one's with "_l<level>".

    Returns:
        Model: `image` -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: The model has no head of this level.
    Reference: Zhou et al. 2018, arXiv:1807.10165, section 3.2, figure 1c.
    """
    found = (re.fullmatch(r"logits(\d+)", layer.name) for layer in model.layers)
    levels = sorted(int(match[1]) for match in found if match)
    if not levels:
        raise ValueError(
            f"expected a model made by `unet_plus_plus`, but {model.name!r} has no layer named logits<level>"
        )
    if level not in levels:
        raise ValueError(
            f"level must be that of a head of {model.name!r}, which has {', '.join(map(str, levels))}; got {level!r} "
            "(unet_plus_plus(..., deep_supervision=True) has heads at all levels)"
        )
    logits = model.get_layer(f"logits{level}").output
    return keras.Model(model.input, logits, name=name or f"{model.name}_l{level}")


def unet_plus_plus_averaged(model: keras.Model, *, name: str | None = None) -> keras.Model:
    """Joins the heads of a UNet++ with deep supervision into one: the mean of their probabilities, as logits.

    It shares the weights with the model.

    Args:
        model: Built by `unet_plus_plus(..., deep_supervision=True)`, or loaded from a file.
        name: Of the new model; default the old one's with "_averaged".

    Returns:
        Model: `image` -> `logits` float32 [B, H, W, K] whose softmax (K = 1: sigmoid) is the mean of the heads'.
    Raises:
        ValueError: The model has one output only.
    Reference: Zhou et al. 2018, arXiv:1807.10165, section 3.2 (accurate mode).
    """
    if len(model.outputs) < 2:
        raise ValueError(
            "expected a model with several outputs, as unet_plus_plus(..., deep_supervision=True) makes, but "
            f"{model.name!r} has one"
        )
    logits = AverageProbabilities(dtype="float32", name="logits")(list(model.outputs))
    return keras.Model(model.input, logits, name=name or f"{model.name}_averaged")
