"""FCN's loss sampling."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.losses._cross_entropy import CrossEntropy
from kerasseg.losses._replicas import images_before


@keras.utils.register_keras_serializable("kerasseg")
class SampledCrossEntropy(CrossEntropy):
    """Cross-entropy of a random part of the pixels, drawn anew at each step: training on patches, as FCN tried it.

    Every cell of `cell` x `cell` pixels is kept with probability `keep`, independently of the others. "valid_mean" is
    the mean over the pixels kept; "sum" their sum ÷ keep, which on average is the sum over all. The authors enlarge the
    batch by 1 / keep instead, so that it has as many terms as before: do that with `rescale=False`.

    The draws follow from the seed and the step alone: training that resumes draws as if it had not stopped, and the
    same pixels on any number of replicas. The loss must `follow` the optimiser's iterations.

    Args:
        keep: Probability, above 0 to 1.
        cell: Side of a cell in pixels: 1 drops single terms of the loss; the network's stride (32 in FCN-32s), cells of
            its last score map.
        seed: Of the draws.
        rescale: Whether "sum" divides by `keep`.
        **options: See `PixelLoss`.
    Raises:
        ValueError: An argument is out of range, or the loss was not told the step.
    Reference: Long et al. 2015 (arXiv:1411.4038), §3.4 and §4.3: convergence per iteration was similar, and slower by
        the clock, so FCN trains on whole images, as `CrossEntropy` does.
    """

    def __init__(self, keep: float = 0.5, cell: int = 1, seed: int = 0, rescale: bool = True, **options):
        super().__init__(**options)
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be a probability above 0, received {keep}")
        if cell < 1:
            raise ValueError(f"cell must be a side of at least 1 pixel, received {cell}")
        self.keep, self.cell, self.seed, self.rescale = keep, cell, seed, rescale

    def global_loss(self, mask, logits, weight):
        if self.pixel_reduction == "sum" and self.rescale:
            weight /= self.keep
        return super().global_loss(mask, logits, weight)

    def kept(self, weight, values):
        images, height, width = tf.unstack(tf.shape(weight))
        # The whole global batch is drawn, so that an image's draws do not depend on the replica it is on.
        first, total = images_before(images)
        cells = [total, -(-height // self.cell), -(-width // self.cell)]
        seed = tf.stack([tf.constant(self.seed, tf.int64), self._step()])
        drawn = tf.cast(tf.random.stateless_uniform(cells, seed) < self.keep, tf.float32)[first : first + images]
        pixels = tf.repeat(tf.repeat(drawn, self.cell, axis=1), self.cell, axis=2)
        return pixels[:, :height, :width]

    def get_config(self):
        return {
            **super().get_config(),
            "keep": self.keep,
            "cell": self.cell,
            "seed": self.seed,
            "rescale": self.rescale,
        }
