"""DeepLab-v3 as its paper, TensorFlow's DeepLab, and the TensorFlow 1 repository trained it."""

import dataclasses

from kerasseg import models
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._parts import network, one_of
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec


def deeplab_v3_original(data: DatasetSpec, *, weight_decay: float = 0.0, **model_options) -> list[Stage]:
    """DeepLab-v3 as in the TensorFlow 1 repository that many know it by: Adam at 1e-5, crops of 513.

        python tools/train.py --recipe deeplab_v3_original --data tfrecords/voc2012 --output runs/deeplab \\
            --init resnet_v2_50.ckpt

    ResNet-v2-50, output stride 16, no ReLU in the head. Scales from 0.5 to 2, colour, central crops, flips.

    Machine and time: not stated. Score: theirs about 74 mIoU on VOC 2012 val, trained on 8252 images of VOC and SBD
    (README). Not reproduced. Reference: sthalles/deeplab_v3 at c74c0f0, `train.py`, `network.py`, README.
    Differs: `--preset deeplab_original` is their augmentation to the letter, the default does the same several times as
        fast. They train until they stop it: the 30 000 steps are the paper's.

    Args:
        data: What it is to be trained on.
        weight_decay: Theirs is set to 1e-4, and built, but never added to the loss that they train on: 0. Give 1e-4 for
            what the setting says.
        **model_options: Of `kerasseg.models.deeplab_v3`. `momentum` of the statistics is their default, 0.9997; their
            README's command has 0.997.
    """
    notes = ("the authors' L2 of 1e-4 never reached their loss, so there is none; weight_decay=1e-4 adds it",)
    return [
        Stage(
            "deeplab_v3",
            network(models.deeplab_v3, data, **{"variant": "original", **model_options}),
            CrossEntropy(data.ignore_label),
            Solver("adam", 1e-5, weight_decay=weight_decay, options={"epsilon": 1e-8}),
            30_000,
            8,
            513,
            "deeplab_original_fast",
            pretrained="ResNet-v2-50 trained on ImageNet",
            notes=() if weight_decay else notes,
        )
    ]


def deeplab_v3_paper(data: DatasetSpec, *, variant: str = "paper", **model_options) -> list[Stage]:
    """DeepLab-v3 as in its paper: output stride 16 at 0.007, then 8 at 0.001 with batch normalisation frozen.

        python tools/train.py --recipe deeplab_v3_paper --data tfrecords/voc2012 --output runs/deeplab \\
            --init resnet_v1_101.ckpt

    SGD with momentum 0.9, the rate falling to 0 with power 0.9 in each stage of 30 000 steps; batches of 16, crops of
    513, scales from 0.5 to 2, flips.

    Machine and time: not stated. Score: theirs 77.21 mIoU on VOC 2012 val after the first stage, 78.51 at output stride
    8, 79.77 over six scales with flips; 85.7 on test, with COCO and the second stage on trainval. Not reproduced.
    Reference: Chen et al. 2017, arXiv:1706.05587, §4.1; tensorflow/models `research/deeplab/train.py` at 0307688.
    Differs: the paper's second stage is on the official trainval, here on the same split as the first; give its best
        weights as --init to a run of one's own for that. The paper names no weight decay: 1e-4 is the release's, and so
        is the start of the last layer, from a normal distribution of deviation 0.01. The release's dropout of 0.1 after
        the pyramid is not in this network. Images with rare classes are not repeated.

    Args:
        data: What it is to be trained on.
        variant: "paper", or "release": TensorFlow's DeepLab: one stage of 30 000 steps at output stride 16, batches of
            8, scales 0.5, 0.75, ... 2, ResNet-v1 with three convolutions at its root ("beta") and moving statistics of
            0.95, the last layer's bias at twice the rate. The rate is the 0.007 of its FAQ for VOC; its code's default
            is 1e-4.
        **model_options: Of `kerasseg.models.deeplab_v3`.
    """
    release = one_of("variant", variant, "paper", "release") == "release"
    options = {"backbone": "resnet_v1_101_beta"} if release else {"backbone": "resnet_v1_101", "momentum": 0.9997}
    options |= model_options
    first = Stage(
        "output_stride_16",
        network(models.deeplab_v3, data, **{"output_stride": 16, **options}),
        CrossEntropy(data.ignore_label),
        Solver(
            "sgd",
            0.007,
            "poly",
            power=0.9,
            momentum=0.9,
            weight_decay=1e-4,
            rate_multipliers={r"^logits_conv/bias$": 2.0} if release else {},
        ),
        30_000,
        8 if release else 16,
        513,
        "deeplab_tensorflow" if release else "deeplab_paper",
        pretrained=f"{options['backbone']} trained on ImageNet",
    )
    if release:
        return [first]
    options |= {"output_stride": 8, "norm": "frozen"}
    second = dataclasses.replace(
        first,
        name="output_stride_8",
        model=network(models.deeplab_v3, data, **options),
        optimizer=dataclasses.replace(first.optimizer, rate=0.001),
        start="previous",
        notes=("the authors' second stage is on trainval; here it is on the split of the first",),
    )
    return [first, second]
