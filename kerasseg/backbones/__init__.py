"""Feature extractors: functions from an image tensor to named feature maps, at a chosen output stride."""

from kerasseg.backbones._resnet_v2 import RESNET_V2, resnet_v2

__all__ = ["RESNET_V2", "resnet_v2"]
