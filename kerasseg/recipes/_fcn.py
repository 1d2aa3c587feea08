"""FCN, in three stages and at once."""

import math

from kerasseg import models
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._parts import BIASES_TWICE, network, one_of
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec

BUILDERS = {"fcn_32s": models.fcn_32s, "fcn_16s": models.fcn_16s, "fcn_8s": models.fcn_8s}
PRETRAINED = "VGG16 trained on ImageNet"


def fcn_staged(
    data: DatasetSpec, *, variant: str = "release", train_split: str = "train", **model_options
) -> list[Stage]:
    """FCN-32s, then 16s, then 8s, each from the weights of the one before; rates fall by 100.

        python tools/train.py --recipe fcn_staged --data tfrecords/voc2012 --output runs/fcn \\
            --init vgg16_weights_tf_dim_ordering_tf_kernels.h5

    SGD on single whole images without augmentation; the loss is summed over pixels, hence rates of 1e-10 and less. The
    upsampling is fixed. From random weights this ends with background everywhere.

    Machine and time: not stated in the release. Score: theirs 63.6, 65.0, 65.5 mIoU on seg11valid for 32s, 16s, 8s,
    trained on 8498 images of SBD (release); 59.4, 62.4, 62.7 (CVPR 2015). Not reproduced.

    Args:
        data: What it is to be trained on.
        variant: "release": shelhamer/fcn.berkeleyvision.org at 1305c73, `voc-fcn*/solver.prototxt`, which the journal
            version (arXiv:1605.06211) describes. Or "cvpr15", the first version (arXiv:1411.4038, §4.3): batches of 20
            images, padded to the largest; a mean over pixels; momentum 0.9; rate 1e-4; 175 epochs a stage (it says "at
            least 175", not of what); the inner upsampling is learned. Whether its loss was a mean is not stated.
        train_split: By whose number of images epochs are counted.
        **model_options: Of the networks, for instance `width` or `padding`.
    """
    cvpr = one_of("variant", variant, "release", "cvpr15") == "cvpr15"
    steps = math.ceil(175 * data.split(train_split).num_examples / 20) if cvpr else 100_000
    stages = []
    for number, (name, build) in enumerate(BUILDERS.items()):
        upsampling = {"upsampling": "cvpr15"} if cvpr and name != "fcn_32s" else {}
        stages.append(
            Stage(
                name,
                network(build, data, **{**upsampling, **model_options}),
                CrossEntropy(data.ignore_label, reduction="valid_mean" if cvpr else "sum"),
                _solver(1e-4 / 100**number, 0.9) if cvpr else _solver(1e-10 / 100**number, 0.99),
                steps,
                20 if cvpr else 1,
                None,
                "fcn",
                start="previous" if number else "pretrained",
                pretrained=PRETRAINED,
            )
        )
    return stages


def fcn_at_once(data: DatasetSpec, **model_options) -> list[Stage]:
    """FCN-8s in one stage: what comes from pool4 and pool3 is scaled down, so that one rate fits all.

        python tools/train.py --recipe fcn_at_once --data tfrecords/voc2012 --output runs/fcn_at_once \\
            --init vgg16_weights_tf_dim_ordering_tf_kernels.h5

    As `fcn_staged`, with rate 1e-10 throughout and three times the steps.

    Machine and time: not stated. Score: the authors' 65.4 mIoU on seg11valid (release), to 65.5 in three stages. Not
    reproduced. Reference: `voc-fcn8s-atonce` of shelhamer/fcn.berkeleyvision.org at 1305c73.

    Args:
        data: What it is to be trained on.
        **model_options: Of `kerasseg.models.fcn_8s`.
    """
    build = network(models.fcn_8s, data, **{"at_once": True, **model_options})
    loss = CrossEntropy(data.ignore_label, reduction="sum")
    solver = _solver(1e-10, 0.99)
    return [Stage("fcn_8s", build, loss, solver, 300_000, 1, None, "fcn", pretrained=PRETRAINED)]


def _solver(rate, momentum):
    return Solver("sgd", rate, momentum=momentum, weight_decay=5e-4, rate_multipliers=BIASES_TWICE)
