"""The networks: functions that build a `keras.Model` from an image to logits.

Every model takes `image`, float32 [B, H, W, C], 0-255 (RGB for three channels), normalises it itself and returns
`logits`, float32 [B, H, W, K], also under mixed precision. `__all__` lists these builders; functions that take a
finished model are here as well.
"""

from kerasseg.models._attention_unet import attention_maps as attention_maps
from kerasseg.models._attention_unet import attention_unet
from kerasseg.models._convolutionize import convolutionize as convolutionize
from kerasseg.models._deconvnet import deconvnet
from kerasseg.models._deeplab_v3 import deeplab_v3
from kerasseg.models._deeplab_v3_cascade import deeplab_v3_cascade
from kerasseg.models._deeplab_v3_plus import deeplab_v3_plus
from kerasseg.models._fcn import fcn_8s, fcn_16s, fcn_32s, fcn_alexnet
from kerasseg.models._segnet import bayesian_segnet, segnet, segnet_basic
from kerasseg.models._unet import unet
from kerasseg.models._unet_plus_plus import unet_plus_plus
from kerasseg.models._unet_plus_plus import unet_plus_plus_averaged as unet_plus_plus_averaged
from kerasseg.models._unet_plus_plus import unet_plus_plus_pruned as unet_plus_plus_pruned

__all__ = [
    "attention_unet",
    "bayesian_segnet",
    "deconvnet",
    "deeplab_v3",
    "deeplab_v3_cascade",
    "deeplab_v3_plus",
    "fcn_16s",
    "fcn_32s",
    "fcn_8s",
    "fcn_alexnet",
    "segnet",
    "segnet_basic",
    "unet",
    "unet_plus_plus",
]
