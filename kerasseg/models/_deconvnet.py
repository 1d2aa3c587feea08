"""DeconvNet."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.backbones import channel_means, scaled, vgg16
from kerasseg.layers import LegalInputSize, MaxUnpool2D, Normalize, make_norm

MEAN = 122.675, 116.669, 104.008
"""RGB, of the authors' training files."""
DECODER = {5: (512, 512, 512), 4: (512, 512, 256), 3: (256, 256, 128), 2: (128, 64), 1: (64, 64)}
"""Channels of the deconvolutions of each block."""
NORM = {"epsilon": 1e-9, "shift": 0.001}


def deconvnet(
    num_classes: int,
    *,
    input_shape: tuple = (224, 224, 3),
    name: str | None = None,
    width: float = 1.0,
    norm: str | Callable = "batch",
    momentum: float = 0.99,
) -> keras.Model:
    """Builds DeconvNet: VGG16 down to a single cell of 4096 channels, and its mirror image up again.

    The decoder unpools to the maxima of the encoder's poolings and convolves with transposed convolutions of stride 1.
    The authors show it one object at a time: crops of 224x224. Larger images are taken with
    `input_shape=(None, None, 3)`: each side a multiple of 32, at least 224. They have (H/32 - 6) x (W/32 - 6) cells.

    Train it on batches: at 224x224 the normalisation of a single cell sees one value per image. That of a batch of one
    gives the same for every image, and nothing passes.

    Args:
        num_classes: K, background included, void excluded.
        input_shape: (H, W, C); None where any legal size is to be taken.
        name: Of the model; default "deconvnet".
        width: Multiplies all channel counts except K, the 4096 too.
        norm: "batch", "sync", "group", "frozen", "none" or a callable; see `kerasseg.layers.make_norm`.
        momentum: Of the moving statistics. 0.99 averages over some hundred batches; lower it (0.9) for shorter runs.

    Returns:
        Model: `image` float32 [B, H, W, C], 0-255 RGB -> `logits` float32 [B, H, W, K].
    Raises:
        ValueError: An argument is none of the above, or a size is illegal (the nearest legal ones are named).
    Reference: Noh et al. 2015, arXiv:1505.04366; HyeonwooNoh/DeconvNet `training/001_stage_1/stage_1_train.prototxt`.
    Differs: The authors average the statistics of the normalisation over 501 batches after training; here they are
        moving averages. The mean that is subtracted is that of their training files; their inference subtracts
        FCN's, which differs by less than 0.005. From channels after the third the mean over the colours is
        subtracted, and so from all channels of one or two. The encoder starts from He's initialisation unless
        weights of VGG16 are loaded, as theirs were; deconvolutions and score start from a normal distribution of
        deviation 0.01, as theirs. Their epsilon of 1e-9 is kept: TensorFlow's fused normalisation takes it as it
        is, and it trains in float32 (a channel that is constant over a whole batch becomes the noise of rounding).
        Layers have the authors' names, save that the normalisation of conv1_1 is conv1_1_norm. Caffe's kernels
        [in, out, h, w] of deconvolutions become [h, w, out, in] by transposition alone; nothing is flipped.
    """
    options = {"norm": norm, "momentum": momentum, **NORM}
    image = keras.Input(input_shape, name="image")
    x = Normalize(channel_means(MEAN, input_shape[-1]), bgr=True, name="normalize")(image)
    x = LegalInputSize(32, 0, 224, name="legal_input_size")(x)
    features = vgg16(x, width=width, **options)
    x = features["pool5"]
    for conv, relu, size in (("fc6", "relu6", 7), ("fc7", "relu7", 1)):
        x = keras.layers.Conv2D(scaled(4096, width), size, kernel_initializer="he_normal", name=conv)(x)
        x = _norm_relu(x, conv, relu, options)
    x = keras.layers.Conv2DTranspose(scaled(512, width), 7, kernel_initializer=_gaussian(), name="fc6-deconv")(x)
    x = _norm_relu(x, "fc6-deconv", "fc6-deconv-relu", options)
    for block, channels in DECODER.items():
        x = MaxUnpool2D(name=f"unpool{block}")([x, features[f"block{block}"]])
        for i, filters in enumerate(channels, start=1):
            conv = f"deconv{block}_{i}"
            x = keras.layers.Conv2DTranspose(
                scaled(filters, width), 3, padding="same", kernel_initializer=_gaussian(), name=conv
            )(x)
            x = _norm_relu(x, conv, f"derelu{block}_{i}", options)
    # Logits are float32 under any precision policy.
    score = keras.layers.Conv2D(num_classes, 1, kernel_initializer=_gaussian(), dtype="float32", name="seg-score")
    return keras.Model(image, score(x), name=name or "deconvnet")


def _norm_relu(x, conv, relu, options):
    layer = make_norm(channels=x.shape[-1], name=f"{conv}_norm", **options)
    x = x if layer is None else layer(x)
    return keras.layers.ReLU(name=relu)(x)


def _gaussian():
    return keras.initializers.RandomNormal(stddev=0.01)
