"""Feature extractors: functions from an image tensor to named feature maps, at a chosen output stride."""

from kerasseg.backbones._alexnet import ALEXNET, alexnet
from kerasseg.backbones._mean import channel_means
from kerasseg.backbones._mobilenet_v2 import MOBILENET_V2, mobilenet_v2
from kerasseg.backbones._resnet_v1 import RESNET_V1, resnet_v1
from kerasseg.backbones._resnet_v2 import RESNET_V2, resnet_v2
from kerasseg.backbones._table import BACKBONES, normalization
from kerasseg.backbones._vgg16 import VGG16, vgg16
from kerasseg.backbones._width import scaled
from kerasseg.backbones._xception import XCEPTION, xception

__all__ = [
    "ALEXNET",
    "BACKBONES",
    "MOBILENET_V2",
    "RESNET_V1",
    "RESNET_V2",
    "VGG16",
    "XCEPTION",
    "alexnet",
    "channel_means",
    "mobilenet_v2",
    "normalization",
    "resnet_v1",
    "resnet_v2",
    "scaled",
    "vgg16",
    "xception",
]
