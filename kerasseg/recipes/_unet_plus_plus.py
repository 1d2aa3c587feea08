"""UNet++."""

from kerasseg import models
from kerasseg.losses import CrossEntropyDice
from kerasseg.recipes._parts import epoch, network, one_of
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec

BATCH_SIZE = 16
L2_AS_DECAY = 2e-4
"""Keras's l2(1e-4) adds 1e-4 · Σw² to the loss, whose gradient is 2e-4 · w."""
NO_DECAY = (r"(^|/)(bias|gamma|beta)$", r"_up/kernel$")
"""The authors regularise convolutions, not the transposed ones."""


def unet_plus_plus(
    data: DatasetSpec,
    *,
    variant: str = "paper",
    deep_supervision: bool = True,
    train_split: str = "train",
    **model_options,
) -> list[Stage]:
    """UNet++: a loss of cross-entropy and Dice at each head, Adam, until 30 epochs bring nothing more.

        python tools/train.py --recipe unet_plus_plus --data tfrecords/nuclei --output runs/unet_plus_plus

    best.keras averages the probabilities of all heads, the authors' accurate mode; of last.keras,
    `kerasseg.models.unet_plus_plus_pruned(model, level)` makes the smaller networks of the fast mode.

    Machine and time: the authors' is not stated. Score: theirs IoU 82.90 on liver, 79.70 without deep supervision,
    76.62 for U-Net (paper, table 3). Not reproduced.
    Reference: Zhou et al. 2018, arXiv:1807.10165, §4; MrGiovanni/UNetPlusPlus `keras/` at 888660a.
    Differs: K-class softmax, two for foreground and background, where the authors have one sigmoid. The batch is to be
        the largest that fits; 16 is ours, as are crops (theirs are resized images, 96 x 96 of nuclei), flips and turns,
        and the limit of 1000 epochs. They stop by the validation loss, here it is the mIoU.

    Args:
        data: What it is to be trained on.
        variant: "paper": rate 3e-4 (as others quote it), Dice of each image. Or "release": 1e-3, since it names its
            optimiser but does not hand it the 1e-4 of its settings; Dice of the whole batch.
        deep_supervision: Whether every depth has a head and a loss.
        train_split: By whose number of images epochs are counted.
        **model_options: Of `kerasseg.models.unet_plus_plus`.
    """
    paper = one_of("variant", variant, "paper", "release") == "paper"
    options = {"deep_supervision": deep_supervision, **model_options}
    heads = options.get("depth", 4) if deep_supervision else 1
    losses = [CrossEntropyDice("paper" if paper else "original", data.ignore_label) for _ in range(heads)]
    one_epoch = epoch(data, train_split, BATCH_SIZE)
    return [
        Stage(
            "unet_plus_plus",
            network(models.unet_plus_plus, data, **options),
            losses if heads > 1 else losses[0],
            Solver("adam", 3e-4 if paper else 1e-3, weight_decay=L2_AS_DECAY, no_decay=NO_DECAY),
            1000 * one_epoch,
            BATCH_SIZE,
            96,
            "cells",
            deliver=models.unet_plus_plus_averaged if heads > 1 else None,
            patience=30,
            validate_every=one_epoch,
            notes=("softmax over the classes, where the authors have one sigmoid",),
        )
    ]
