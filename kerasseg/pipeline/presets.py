"""How samples are augmented and cut to one size: one function for each way.

A preset is any function `(sample, seed, crop_size) -> sample`; `train_batches` takes yours as it takes these. The
sample is a dictionary as `kerasseg.records.parse` gives it ("image" uint8, or float32 0-255, [H, W, C]; "mask" uint8
[H, W]; perhaps "weight"), `seed` int64 [2] is another one for every sample and epoch, `crop_size` is (height, width),
the size of what is returned.
"""

import tensorflow as tf

from kerasseg import augment
from kerasseg.augment import Sample

__all__ = ["cells", "deeplab_original", "deeplab_paper", "none"]


def deeplab_original(sample: Sample, seed: tf.Tensor, crop_size: tuple[int, int]) -> Sample:
    """The original TF1 project's: scale 0.5-2, colour, *central* crop or padding (image 0, mask 255), flip.

    The central crop is the original's quirk: only the middle of an image is ever seen at larger scales. Its order is
    kept: colour comes before the crop, so that contrast refers to the whole image.

    Source: sthalles/deeplab_v3 `train.py`, `preprocessing/read_data.py`. Differs: it shuffled after augmenting.
    """
    seeds = _split(seed, 3)
    sample = augment.random_rescale(sample, seeds[0], 0.5, 2.0, sampling="legacy")
    sample = augment.random_colour(sample, seeds[1])
    sample = augment.centre_crop(sample, crop_size, fill=0.0)
    return augment.random_flip(sample, seeds[2])


def deeplab_paper(sample: Sample, seed: tf.Tensor, crop_size: tuple[int, int]) -> Sample:
    """The paper's: scale 0.5-2, random crop, padded with the mean pixel (mask 255), flip. Good for photographs.

    Reference: Chen et al. 2017, arXiv:1706.05587, §4.1. Padding as in TensorFlow's DeepLab.
    """
    seeds = _split(seed, 3)
    sample = augment.random_rescale(sample, seeds[0], 0.5, 2.0)
    sample = augment.random_crop(sample, seeds[1], crop_size, fill="mean")
    return augment.random_flip(sample, seeds[2])


def cells(sample: Sample, seed: tf.Tensor, crop_size: tuple[int, int]) -> Sample:
    """For microscopy, which has no "up": quarter turns, random crop, flip, and varied grey values. Sizes are kept."""
    seeds = _split(seed, 4)
    sample = augment.random_rotate90(sample, seeds[0])
    sample = augment.random_crop(sample, seeds[1], crop_size, fill="mean")
    sample = augment.random_flip(sample, seeds[2])
    return augment.random_grey(sample, seeds[3])


def none(sample: Sample, seed: tf.Tensor, crop_size: tuple[int, int]) -> Sample:
    """Nothing at random: the central crop, padded with the mean pixel (mask 255)."""
    del seed
    return augment.centre_crop(sample, crop_size, fill="mean")


def _split(seed, number):
    return tf.unstack(tf.random.experimental.stateless_split(seed, number))
