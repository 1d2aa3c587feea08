"""A small training to be watched, on data made up here."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg import spec, training
from kerasseg.losses import CrossEntropy

NAMES = ("dark", "bright", "void-like")
COLOURS = ((0, 0, 0), (200, 0, 0), (0, 0, 250))


def described(class_pixels=(1, 1, 1), num_examples=6):
    """A data set's description as its folder holds it."""
    split = spec.SplitSpec(num_examples, (), class_pixels)
    return spec.DatasetSpec("made-up", NAMES, COLOURS, splits={"train": split}).to_dict()


def pictures(number=6, side=16, labels=(0, 1, 2), seed=0):
    """Columns of the given labels, as bright as the label says; the first row ignored."""
    rng = np.random.default_rng(seed)
    mask = np.sort(rng.choice(labels, (number, 1, side)), axis=2).repeat(side, axis=1).astype(np.int32)
    image = (mask[..., None] * 100 + rng.uniform(0, 50, (number, side, side, 3))).astype(np.float32)
    mask[:, 0] = 255
    return image, mask


def endless(image, mask):
    return tf.data.Dataset.from_tensor_slices((image, mask)).batch(2).repeat()


def small_model(rate=0.05):
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization(momentum=0.5, center=False, scale=False)(image)
    model = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same", name="logits")(x))
    training.compile(model, training.optimizer("sgd", rate), CrossEntropy())
    return model


def train(directory, data=None, model=None, steps=4, every=2, dataset=None, **options):
    image, mask = pictures(seed=1)
    options = {"val_data": tf.data.Dataset.from_tensor_slices((image, mask)).batch(1), "progress": False, **options}
    with training.RunFolder(directory).open({}, described() if dataset is None else dataset) as run:
        data = endless(*pictures()) if data is None else data
        state = training.fit(model or small_model(), data, run, steps=steps, validate_every=every, **options)
    return state, run
