"""Cross-entropy."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._pixel_loss import PixelLoss


@keras.utils.register_keras_serializable("kerasseg")
class CrossEntropy(PixelLoss):
    """Softmax cross-entropy from logits: -log softmax(logits)[mask] at each pixel.

    `model.compile(loss=CrossEntropy())`. Arguments, call, reductions and what becomes of ignored pixels: `PixelLoss`.
    Of one logit it is binary cross-entropy with a sigmoid.

    U-Net's weighted loss, Σ w(x)·(-log p(x)) over a tile, is `CrossEntropy(reduction="sum")` with its weight map
    (`kerasseg.augment.border_weights`, class balance included) as the third part of each batch; "valid_mean" divides by
    the number of pixels, so that the rate need not change with the size of the tile.

    Reference: Chen et al. 2017 (arXiv:1706.05587) with "valid_mean"; the FCN release with "sum"; Ronneberger et al.
    2015 (arXiv:1505.04597), eq. 1, with weights.
    """

    def pixel_values(self, mask, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
