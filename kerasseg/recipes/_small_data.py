"""What we give to someone with some tens of images and no pretrained weights."""

import functools

import tensorflow as tf
from tensorflow import keras

from kerasseg import models
from kerasseg.augment import Augmentation, ColourRange, GreyRange, rim_targets
from kerasseg.layers import MergeClasses
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec, median_frequency_weights

KINDS = ("objects", "texture", "scenes")


def small_data(
    data: DatasetSpec, kind: str | None = None, filters: int = 16, train_split: str = "train", **options
) -> list[Stage]:
    """For some tens of images and no pretrained weights: a narrow U-Net, Adam at a rate that falls to zero.

        python tools/train.py --recipe small_data --data tfrecords/NAME --output runs/NAME

    Machine and time: two CPU cores, 19 to 21 minutes beside other work. Score: on validation images, one seed each, IoU
    0.714 of the nuclei of DSB 2018 and average precision 0.490 at IoU 0.5 over all; 0.481 mIoU on 40 frames of CamVid,
    trained on 120; 0.805 on five slices of ISBI 2012.

    There are three kinds of data, and what moves the score differs:
        "objects": single objects of one class, with instance ids (nuclei, cells). It learns inside, rim and outside,
            so that touching objects are parted by `Segmenter.objects` and in evaluate.py; best.keras gives background
            and object, as for any data. Each image is standardised in the model: stain and exposure do not matter. The
            rim counts twice, but background and object are not balanced: objects would be found too large.
        "texture": microscopy without objects, or where they fill the image and what is sought are the membranes between
            them. No up and down, so it is turned and mirrored.
        "scenes": photographs. Seen at half their size, for a wider view at a quarter of the work; colours and scale
            vary.

    Args:
        data: The data set.
        kind: One of these. None: "objects" where there are two classes and instance ids, and the second class has no
            more than two thirds of the pixels; "scenes" where the images have three channels; else "texture".
        filters: Channels of the U-Net at full resolution.
        train_split: Split whose pixel counts balance the classes.
        **options: On to `kerasseg.models.unet`.
    Raises:
        ValueError: Another kind, or "objects" without instance ids or with more classes.
    """
    has_objects = data.has_instances and data.num_classes == 2
    if kind is None:
        pixels = data.split(train_split).class_pixels
        sparse = has_objects and pixels[1] <= 2 * pixels[0]
        kind = "objects" if sparse else "scenes" if data.channels == 3 else "texture"
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, received {kind!r}")
    if kind == "objects" and not has_objects:
        raise ValueError(f"kind 'objects' takes two classes with instance ids, which {data.name!r} does not have")
    network = {"input_shape": (None, None, data.channels), "filters": filters, "padding": "same", "batch_norm": True}
    network |= {"dropout": 0.0, "standardize": True, **options}
    if kind == "objects":
        return [_objects(data, network)]
    balanced = CrossEntropy(data.ignore_label, median_frequency_weights(data, train_split) ** 0.5)
    return [_texture(data, balanced, network) if kind == "texture" else _scenes(data, balanced, network)]


_SOLVER = Solver("adam", 2e-3, "cosine", warmup_steps=100)


def _objects(data, network):
    return Stage(
        "small_data",
        functools.partial(models.unet, 3, **network),
        CrossEntropy(data.ignore_label, [1, 1, 2]),
        _SOLVER,
        steps=1400,
        batch_size=8,
        crop_size=128,
        preset=Augmentation(quarter_turns=True, flip_left_right=True, grey=GreyRange()),
        instances=True,
        targets=functools.partial(_with_rims, ignore_label=data.ignore_label),
        deliver=merge_rims,
    )


def _texture(data, loss, network):
    return Stage(
        "small_data",
        functools.partial(models.unet, data.num_classes, **network),
        loss,
        _SOLVER,
        steps=2000,
        batch_size=2,
        crop_size=256,
        preset=Augmentation(quarter_turns=True, flip_left_right=True, grey=GreyRange()),
    )


def _scenes(data, loss, network):
    colour = ColourRange(saturation=(0.7, 1.3), hue=0.0, contrast=(0.7, 1.3))
    return Stage(
        "small_data",
        functools.partial(models.unet, data.num_classes, **{"downscale": 2, **network}),
        loss,
        _SOLVER,
        steps=1460,
        batch_size=4,
        crop_size=384,
        preset=Augmentation(flip_left_right=True, colour=colour),
    )


def _with_rims(image: tf.Tensor, mask: tf.Tensor, instances: tf.Tensor, ignore_label: int) -> tuple:
    return image, rim_targets(mask, instances, ignore_label)


def merge_rims(model: keras.Model) -> keras.Model:
    """Makes of a network that tells outside, inside and rim one that tells background and object; it shares weights."""
    logits = MergeClasses([[0], [1, 2]], dtype="float32", name="objects")(model.output)
    return keras.Model(model.input, logits, name=model.name)
