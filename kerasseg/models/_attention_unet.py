"""Attention U-Net."""

import re
from collections.abc import Callable

from tensorflow import keras

from kerasseg.layers import AttentionGate, CropLike, Normalize, Resize, make_norm
from kerasseg.models._double_conv import double_conv


def attention_unet(
    num_classes: int,
    *,
    input_shape: tuple = (None, None, 3),
    name: str | None = None,
    filters: int = 16,
    depth: int = 4,
    gates: int = 1,
    deep_supervision: bool = False,
    norm: str | Callable = "batch",
    momentum: float = 0.9,
) -> keras.Model:
    """Builds Attention U-Net: a U-Net whose skip connections, but for the finest, are weighed by attention gates.

    The gate of the lowest level is steered by a 1x1 convolution of the bottom, those above by the decoder's map below
    them. `attention_maps` tells what a gate lets through.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any size is to be taken.
        name: Of the model; default "attention_unet".
        filters: Channels at full resolution; doubled by each level. 16 in the authors' models (their 64 ÷
            `feature_scale` 4); 64 gives the width of the first U-Net.
        depth: Number of times the image is halved.
        gates: Gates side by side on each skip connection: 1, or 2 as in the authors' "multi" models.
        deep_supervision: Whether the logits are made from all levels of the decoder: a 1x1 convolution to K channels
            for each, enlarged, side by side, and one more 1x1 convolution. The output is one either way.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above.
    Reference: Oktay et al. 2018, arXiv:1804.03999; ozan-oktay/Attention-Gated-Networks at eee4881
        (`unet_CT_single_att_dsv_3D.py`, and with two gates `unet_CT_multi_att_dsv_3D.py`).
    Differs: Two dimensions instead of three. Any size: odd ones are pooled to the larger half, and the enlarged map
        cut. The image is scaled to 0...1 inside the model. Enlarging is bilinear on half-pixel centres (PyTorch
        before 0.4 aligned corners). Batch normalisation begins with a scale of 1 (theirs: 1 ± 0.02).
    """
    if depth < 1 or filters < 1 or gates < 1:
        raise ValueError(
            f"depth, filters and gates must be at least 1, got depth={depth}, filters={filters}, gates={gates}"
        )
    norms = {"norm": norm, "momentum": momentum, "epsilon": 1e-5}

    image = keras.Input(input_shape, name="image")
    x = Normalize(scale=255.0, name="normalize")(image)
    skips = []
    for level in range(1, depth + 1):
        x = double_conv(x, filters * 2 ** (level - 1), f"down{level}", **norms)
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{level}")(x)
    x = double_conv(x, filters * 2**depth, "bottom", **norms)
    gating = _pointwise(x, filters * 2**depth, "gating", norms)
    decoded = []
    for level in range(depth, 0, -1):
        skip, channels = skips[level - 1], filters * 2 ** (level - 1)
        if level > 1:
            skip = _gated(skip, gating, channels, gates, f"gate{level}", norms)
        x = _enlarged(x, skip, 2, f"up{level}")
        x = keras.layers.Concatenate(name=f"up{level}_concat")([skip, x])
        x = gating = double_conv(x, channels, f"up{level}", **norms)
        decoded.insert(0, x)
    if deep_supervision:
        x = _all_levels(decoded, num_classes)
    logits = keras.layers.Conv2D(num_classes, 1, kernel_initializer="he_normal", dtype="float32", name="logits")(x)
    return keras.Model(image, logits, name=name or "attention_unet")


def _pointwise(x, filters, name, norms):
    """A 1x1 convolution with bias, normalisation and ReLU."""
    x = keras.layers.Conv2D(filters, 1, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    norm = make_norm(channels=filters, name=f"{name}_norm", **norms)
    x = x if norm is None else norm(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _gated(skip, gating, filters, gates, name, norms):
    names = [name] if gates == 1 else [f"{name}_{i}" for i in range(1, gates + 1)]
    x = [AttentionGate(filters, name=gate, **norms).connect([skip, gating]) for gate in names]
    x = x[0] if gates == 1 else keras.layers.Concatenate(name=f"{name}_concat")(x)
    return _pointwise(x, filters, f"{name}_combine", norms)


def _enlarged(x, like, scale, name, dtype=None):
    """Enlarges a map, and cuts off at its end what odd sizes, pooled to the larger half, make it too large by."""
    x = Resize(scale=scale, name=f"{name}_resize", dtype=dtype)(x)
    return CropLike(offset=0, name=f"{name}_crop", dtype=dtype)([x, like])


def _all_levels(decoded, num_classes):
    """Returns K channels from each level of the decoder, side by side at full size, the finest first."""
    maps = []
    for level, x in enumerate(decoded, start=1):
        x = keras.layers.Conv2D(
            num_classes, 1, kernel_initializer="he_normal", dtype="float32", name=f"supervised{level}_conv"
        )(x)
        if level > 1:
            x = _enlarged(x, decoded[0], 2 ** (level - 1), f"supervised{level}", dtype="float32")
        maps.append(x)
    return maps[0] if len(maps) == 1 else keras.layers.Concatenate(dtype="float32", name="supervised_concat")(maps)


def attention_maps(model: keras.Model) -> keras.Model:
    """Makes a model that tells what the attention gates of a model let through. It shares the weights.

        maps = attention_maps(model)(image)["gate2"]      # [B, h, w, 1]

    Args:
        model: Built by `attention_unet`, or loaded from a file.

    Returns:
        Model: `image` -> {"gate2": float [B, h, w, 1], "gate3": ..., ...}, in 0...1, each of the size of the skip
        connection that it weighs: that of level n is the image's ÷ 2^(n-1), rounded up.
    Raises:
        ValueError: The model has no gates.
    """
    found = (re.fullmatch(r"(gate\w+)_map", layer.name) for layer in model.layers)
    gates = sorted(match[1] for match in found if match)
    if not gates:
        raise ValueError(
            f"expected a model made by `attention_unet`, but {model.name!r} has no layer named gate<level>_map"
        )
    return keras.Model(model.input, {gate: model.get_layer(f"{gate}_map").output for gate in gates})
