"""Cross-entropy."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._pixel_loss import PixelLoss


@keras.utils.register_keras_serializable("kerasseg")
class CrossEntropy(PixelLoss):
    """Softmax cross-entropy from logits: -log softmax(logits)[mask] at each pixel.

    `model.compile(loss=CrossEntropy())`. Arguments, call, reductions and what becomes of ignored pixels: `PixelLoss`.
    Reference: Chen et al. 2017 (arXiv:1706.05587) with "valid_mean"; the FCN release with "sum".
    """

    def pixel_values(self, mask, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(mask, logits)
