"""Attention U-Net."""

from kerasseg import models
from kerasseg.augment import Augmentation
from kerasseg.losses import Dice
from kerasseg.recipes._parts import epoch, network
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec

SIDE = 160


def attention_unet(data: DatasetSpec, *, train_split: str = "train", **model_options) -> list[Stage]:
    """Attention U-Net as released: Dice, Adam at 1e-4, halved every 250 of 1000 epochs.

        python tools/train.py --recipe attention_unet --data tfrecords/hela --output runs/attention_unet

    Two gates on each connection and deep supervision, as in the configuration that its authors released. Batches of 2;
    turned by up to 15 degrees, scaled by 0.7 to 1.3, shifted by up to a tenth, flipped.

    Machine and time: not stated. Score: theirs are of volumes, in three dimensions (paper). Not reproduced.
    Reference: Oktay et al. 2018, arXiv:1804.03999; ozan-oktay/Attention-Gated-Networks at eee4881,
        `configs/config_unet_ct_multi_att_dsv.json`, `models/layers/loss.py`.
    Differs: two dimensions, so crops of 160 x 160 where theirs are 160 x 160 x 96. Their Dice has its 0.01 inside the
        doubled intersection as well, which changes the value of absent classes only (2 instead of 1).

    Args:
        data: What it is to be trained on.
        train_split: By whose number of images epochs are counted.
        **model_options: Of `kerasseg.models.attention_unet`.
    """
    batch_size = 2
    return [
        Stage(
            "attention_unet",
            network(models.attention_unet, data, **{"gates": 2, "deep_supervision": True, **model_options}),
            Dice(smooth=0.01, per_image=True, ignore_label=data.ignore_label),
            # PyTorch's decay is of every weight, biases too.
            Solver(
                "adam",
                1e-4,
                "step",
                drops=(0.25, 0.5, 0.75),
                factor=0.5,
                weight_decay=1e-6,
                no_decay=(),
                options={"epsilon": 1e-8},
            ),
            1000 * epoch(data, train_split, batch_size),
            batch_size,
            SIDE,
            Augmentation(
                scale=(0.7, 1.3), rotation=15.0, shift=0.1 * SIDE, flip_left_right=True, flip_up_down=True, fill=0.0
            ),
        )
    ]
