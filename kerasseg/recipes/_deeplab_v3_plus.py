"""DeepLab-v3+."""

from kerasseg import models
from kerasseg.backbones import RESNET_V1, RESNET_V2
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._parts import network
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec

NO_DECAY = (r"(^|/)(bias|gamma|beta)$|depthwise",)
"""The release regularises neither these nor depthwise kernels."""


def deeplab_v3_plus(data: DatasetSpec, *, backbone: str = "xception_65", **model_options) -> list[Stage]:
    """DeepLab-v3+ as in its paper and TensorFlow's DeepLab: Xception-65, SGD at 0.007, crops of 513.

        python tools/train.py --recipe deeplab_v3_plus --data tfrecords/voc2012 --output runs/deeplab_plus \\
            --init xception_65/model.ckpt

    The rate falls to 0 with power 0.9 in 30 000 steps; batches of 16; scales 0.5, 0.75, ... 2 and flips. The last
    layer's bias has twice the rate.

    Machine and time: not stated. Score: theirs 82.20 mIoU on VOC 2012 val at output stride 16, trained on COCO before
    (model zoo); with ResNet-101, without COCO, 78.85 (paper). Not reproduced.
    Reference: Chen et al. 2018, arXiv:1802.02611, §4; tensorflow/models `research/deeplab/train.py` at 0307688,
        `g3doc/model_zoo.md` at d318246. Differs: the release's own batch is 8, the paper's protocol is that of v3, 16.

    Args:
        data: What it is to be trained on.
        backbone: A key of `kerasseg.backbones.BACKBONES`. Weight decay follows it: 1e-4 for a ResNet, else 4e-5.
        **model_options: Of `kerasseg.models.deeplab_v3_plus`; `width` a multiple of 1/8 with Xception.
    """
    resnet = backbone in RESNET_V1 or backbone in RESNET_V2
    return [
        Stage(
            "deeplab_v3_plus",
            network(models.deeplab_v3_plus, data, **{"backbone": backbone, **model_options}),
            CrossEntropy(data.ignore_label),
            Solver(
                "sgd",
                0.007,
                "poly",
                power=0.9,
                momentum=0.9,
                weight_decay=1e-4 if resnet else 4e-5,
                rate_multipliers={r"^logits_conv/bias$": 2.0},
                no_decay=NO_DECAY,
            ),
            30_000,
            16,
            513,
            "deeplab_tensorflow",
            pretrained=f"{backbone} trained on ImageNet, and then COCO",
        )
    ]
