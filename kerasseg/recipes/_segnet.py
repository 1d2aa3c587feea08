"""SegNet, SegNet-Basic and Bayesian SegNet."""

from typing import NamedTuple

from kerasseg import models
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._parts import BIASES_TWICE, epoch, network, one_of
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec, median_frequency_weights

CAMVID_WEIGHTS = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)
"""The authors', from sky to bicyclist. (That of signs, 9.6446, is not what the formula gives, about 3.5.)"""
BATCH_SIZE = 4


class _Variant(NamedTuple):
    build: object
    rate: float
    steps: int
    pretrained: str = "VGG16 trained on ImageNet"


VARIANTS = {
    "segnet": _Variant(models.segnet, 0.001, 40_000),
    "basic": _Variant(models.segnet_basic, 0.1, 10_000, ""),
    "bayesian": _Variant(models.bayesian_segnet, 0.001, 60_000),
}


def segnet_camvid(
    data: DatasetSpec,
    *,
    variant: str = "segnet",
    class_weights: str = "data",
    train_split: str = "train",
    **model_options,
) -> list[Stage]:
    """SegNet as released for CamVid: SGD at 0.001 on whole frames, classes balanced by their median frequency.

        python tools/convert_pairs.py --images CamVid/train --masks CamVid/trainannot ... --output tfrecords/camvid
        python tools/train.py --recipe segnet_camvid --data tfrecords/camvid --output runs/segnet \\
            --init vgg16_weights_tf_dim_ordering_tf_kernels.h5

    Batches of 4 frames of 360 x 480 without augmentation, momentum 0.9, 40 000 steps. Then the statistics of batch
    normalisation are averaged over the training set.

    Machine and time: not stated. Score: theirs are in the papers, for 233 test images that are not part of the split
    above. Not reproduced.
    Reference: Badrinarayanan et al. 2015, arXiv:1511.00561; alexgkendall/SegNet-Tutorial at bb68b64, `Models/`,
        `Scripts/compute_bn_statistics.py`.

    Args:
        data: What it is to be trained on.
        variant: "segnet"; "basic": SegNet-Basic, from random weights at rate 0.1 for 10 000 steps; or "bayesian": with
            dropout, 60 000 steps.
        class_weights: "data": by the median frequency of the training split; or "authors": the numbers in their
            release, for the eleven classes of CamVid.
        train_split: Whose class frequencies count.
        **model_options: Of the network.
    """
    chosen = VARIANTS[one_of("variant", variant, *VARIANTS)]
    if one_of("class_weights", class_weights, "data", "authors") == "data":
        weights = median_frequency_weights(data, train_split)
    elif data.num_classes == len(CAMVID_WEIGHTS):
        weights = CAMVID_WEIGHTS
    else:
        raise ValueError(f"the authors' class_weights are for 11 classes, {data.name!r} has {data.num_classes}")
    return [
        Stage(
            "segnet" if variant == "segnet" else f"{variant}_segnet",
            network(chosen.build, data, **model_options),
            CrossEntropy(data.ignore_label, weights),
            # Their normalisations have a decay of their scales, not of their shifts.
            Solver(
                "sgd",
                chosen.rate,
                momentum=0.9,
                weight_decay=5e-4,
                rate_multipliers=BIASES_TWICE,
                no_decay=(r"(^|/)(bias|beta)$",),
            ),
            chosen.steps,
            BATCH_SIZE,
            (360, 480),
            "segnet",
            pretrained=chosen.pretrained,
            recalculate=epoch(data, train_split, BATCH_SIZE),
        )
    ]
