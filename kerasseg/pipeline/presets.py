"""How samples are augmented and cut to one size: one name for each way.

Most are an `Augmentation`, ranges that parameters are drawn from; `dataclasses.replace(presets.unet, rotation=0)` makes
a variant. `deeplab_original` is a function `(sample, seed, crop_size) -> sample` of TensorFlow ops; `train_batches`
takes yours as well. There the sample is a dictionary as `kerasseg.records.parse` gives it ("image" uint8, or float32
0-255, [H, W, C]; "mask" uint8 [H, W]; perhaps "weight" and "instances"), `seed` int64 [2] is another one for every
sample and epoch, `crop_size` is (height, width), the size of what is returned; for whole images the image's own, int32
[2].
"""

import tensorflow as tf

from kerasseg import augment
from kerasseg.augment import Augmentation, ColourRange, GreyRange, GridElastic, Sample

__all__ = [
    "cells",
    "deconvnet_stage1",
    "deconvnet_stage2",
    "deeplab_original",
    "deeplab_original_fast",
    "deeplab_paper",
    "deeplab_tensorflow",
    "fcn",
    "none",
    "segnet",
    "unet",
]


def deeplab_original(sample: Sample, seed: tf.Tensor, crop_size: tuple[int, int]) -> Sample:
    """The original TF1 project's: scale 0.5-2, colour, *central* crop or padding (image 0, mask 255), flip.

    The central crop is the original's quirk: only the middle of an image is ever seen at larger scales. Its order is
    kept: colour comes before the crop, so that contrast refers to the whole image.

    Source: sthalles/deeplab_v3 `train.py`, `preprocessing/read_data.py`. Differs: it shuffled after augmenting.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    sample = augment.random_rescale(sample, seeds[0], 0.5, 2.0, sampling="legacy")
    sample = augment.random_colour(sample, seeds[1])
    sample = augment.centre_crop(sample, crop_size, fill=0.0)
    return augment.random_flip(sample, seeds[2])


deeplab_original_fast = Augmentation(
    scale=(0.5, 2.0), crop="centre", flip_left_right=True, fill=0.0, colour=ColourRange()
)
"""The same ranges several times as fast: colour as one affine map of what is shown, pixels resampled once."""

deeplab_paper = Augmentation(scale=(0.5, 2.0), flip_left_right=True)
"""The paper's: scale 0.5-2, random crop, padded with the mean pixel (mask 255), flip. Good for photographs.

Reference: Chen et al. 2017, arXiv:1706.05587, §4.1. Padding as in TensorFlow's DeepLab.
"""

deeplab_tensorflow = Augmentation(scale=(0.5, 2.0), scale_step=0.25, flip_left_right=True)
"""That of TensorFlow's DeepLab: as the paper's, with scales 0.5, 0.75, ..., 2. Source: tensorflow/models `train.py`."""

fcn = Augmentation()
"""FCN's: nothing. Its authors train on whole images (`crop_size=None`, a batch of one); mirroring and shifting gave
them no gain. Reference: Long et al. 2015, arXiv:1411.4038, §4.3."""

unet = Augmentation(
    flip_left_right=True,
    flip_up_down=True,
    rotation=180.0,
    shift=16.0,
    elastic=GridElastic(sigma=10.0, points=3),
    border="mirror",
    grey=GreyRange(),
)
"""U-Net's: elastic deformation (3 x 3 grid, sigma 10 pixels, bicubic), rotation, shift, grey values; mirrored borders.

The paper gives numbers for the deformation only; those of the rest are ours. Reference: Ronneberger et al. 2015,
arXiv:1505.04597, §3.1.
"""

deconvnet_stage1 = Augmentation(crop="object", only_object=True, flip_left_right=True, fill=0.0)
"""DeconvNet's first stage: a box 1.2 times an object's, resized to 250 of which 224 are cut; only its class is kept.

For data sets with instances. Reference: Noh et al. 2015, arXiv:1505.04366, §4.2; HyeonwooNoh/DeconvNet.
"""

deconvnet_stage2 = Augmentation(crop="proposal", flip_left_right=True, fill=0.0)
"""DeconvNet's second stage: proposals that overlap an object by half or more, resized and cut likewise, all classes.

Records without proposals get boxes jittered about their objects, which is not the authors' way.
"""

segnet = Augmentation(crop="centre")
"""SegNet's: nothing; its 480 x 360 frames are taken whole (`crop_size=(360, 480)`). Source: SegNet-Tutorial."""

cells = Augmentation(quarter_turns=True, flip_left_right=True, grey=GreyRange())
"""For microscopy, which has no "up": quarter turns, random crop, flip, and varied grey values. Sizes are kept."""

none = Augmentation(crop="centre")
"""Nothing at random: the central crop, padded with the mean pixel (mask 255)."""
