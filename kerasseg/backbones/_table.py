"""Every backbone of the DeepLabs by name."""

from kerasseg.backbones._mean import channel_means
from kerasseg.backbones._mobilenet_v2 import MOBILENET_V2, mobilenet_v2
from kerasseg.backbones._resnet_v1 import RESNET_V1, resnet_v1
from kerasseg.backbones._resnet_v2 import RESNET_V2, resnet_v2
from kerasseg.backbones._xception import XCEPTION, xception
from kerasseg.layers import Normalize

BACKBONES = {
    **dict.fromkeys(RESNET_V1, resnet_v1),
    **dict.fromkeys(RESNET_V2, resnet_v2),
    **dict.fromkeys(MOBILENET_V2, mobilenet_v2),
    **dict.fromkeys(XCEPTION, xception),
}
"""Name to the function that connects it, as `connect(x, name, output_stride=16, ...)`."""

IMAGENET_MEAN = (123.15, 115.90, 103.06)
"""RGB, as TensorFlow's DeepLab has it."""


def normalization(name: str, channels: int) -> Normalize:
    """Returns the layer that normalises images as a backbone's released weights expect them.

    Args:
        name: Of the backbone. ResNet-v1 without the *beta* root: the ImageNet mean is subtracted, see
            `channel_means`. Others: -1...1.
        channels: Of the image.
    """
    if name not in RESNET_V1 or name.endswith("beta"):
        return Normalize(127.5, 127.5, name="normalize")
    return Normalize(channel_means(IMAGENET_MEAN, channels), name="normalize")
