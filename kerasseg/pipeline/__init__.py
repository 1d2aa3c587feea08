"""From a converted data set to batches for `model.fit`, and to whole images for evaluation.

data = train_batches("tfrecords/voc2012", "train", batch_size=8, crop_size=513, preset=presets.deeplab_paper, seed=1)
with naming_damage("tfrecords/voc2012"):
    model.fit(data, steps_per_epoch=1000)
"""

from kerasseg.pipeline import presets
from kerasseg.pipeline._batches import eval_images, train_batches
from kerasseg.pipeline._damage import naming_damage

__all__ = ["eval_images", "naming_damage", "presets", "train_batches"]
