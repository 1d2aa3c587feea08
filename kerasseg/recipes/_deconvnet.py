"""DeconvNet."""

import dataclasses

from kerasseg import models
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._parts import BIASES_TWICE, network
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DataError, DatasetSpec


def deconvnet_two_stage(data: DatasetSpec, **model_options) -> list[Stage]:
    """DeconvNet: first crops around objects, one class each, then proposals with all classes.

        python tools/convert_voc.py --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset --instances \\
            --output tfrecords/voc2012
        python tools/train.py --recipe deconvnet_two_stage --data tfrecords/voc2012 --output runs/deconvnet \\
            --init vgg16_weights_tf_dim_ordering_tf_kernels.h5

    SGD at 0.01, a tenth of it after every 9000 of 20 000 steps, then after every 10 000 of 40 000; batches of 8,
    gradients of 8 of them together. Then the statistics of batch normalisation are averaged over 501 batches of 28.

    Machine and time: the authors', one Titan X with 12 GB, 6 days. Score: theirs 69.6 mIoU on VOC 2012 test, 70.5 with
    a CRF, 72.5 together with FCN-8s. Not reproduced.
    Reference: Noh et al. 2015, arXiv:1505.04366, §5; HyeonwooNoh/DeconvNet at 87dd133, `training/`.
    Differs: rare classes are not repeated in the second stage. Without stored proposals (tools/convert_voc.py
        --proposals) it takes boxes jittered about the objects.

    Args:
        data: What it is to be trained on; with boxes of objects.
        **model_options: Of `kerasseg.models.deconvnet`.
    Raises:
        DataError: The data set has no boxes of objects.
    """
    if not data.has_objects:
        raise DataError(
            f"data set {data.name!r} has no boxes of objects, around which deconvnet_two_stage cuts its crops; convert "
            "it again, VOC with --instances"
        )
    first = Stage(
        "objects",
        network(models.deconvnet, data, **model_options),
        CrossEntropy(data.ignore_label),
        # Their normalisations have the decay of any weight: scales and shifts too.
        Solver(
            "sgd",
            0.01,
            "step",
            drops=(9_000 / 20_000, 18_000 / 20_000),
            momentum=0.9,
            weight_decay=5e-4,
            rate_multipliers=BIASES_TWICE,
            no_decay=(r"(^|/)bias$",),
        ),
        20_000,
        8,
        224,
        "deconvnet_stage1",
        accumulate=8,
        pretrained="VGG16 trained on ImageNet",
    )
    second = dataclasses.replace(
        first,
        name="proposals",
        optimizer=dataclasses.replace(first.optimizer, drops=(0.25, 0.5, 0.75)),
        steps=40_000,
        preset="deconvnet_stage2",
        start="previous",
        recalculate=501,
        recalculate_batch_size=28,
        notes=() if data.has_proposals else ("no proposals are stored: boxes jittered about the objects instead",),
    )
    return [first, second]
