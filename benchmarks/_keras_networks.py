"""Contestants made of Keras layers: this package's networks, the same of plain Keras layers, keras-hub's DeepLab-v3."""

import numpy as np
import tensorflow as tf
from _shared_data import images, masks
from tensorflow import keras

from kerasseg import inspection, models, training
from kerasseg.export._frozen import frozen
from kerasseg.layers import AtrousConv2D, BatchNorm
from kerasseg.losses import CrossEntropy


def forward(network, shape, num_classes=21, dtype="float32", plain=False, **options):
    """One forward pass: as exported, or of plain Keras layers in a `tf.function`."""
    model = _built(network, num_classes, dtype, plain, shape[-1], options)
    function = tf.function(lambda x: model(x, training=False), autograph=False) if plain else frozen(model)
    image = tf.constant(images(shape))
    giga = None if plain else 2e-9 * shape[0] * inspection.multiply_adds(model, *shape[1:3])
    return lambda: function(image).numpy(), giga


def step(network, shape, num_classes=21, dtype="float32", plain=False, **options):
    """One training step: cross-entropy, stochastic gradient descent with momentum."""
    model = _built(network, num_classes, dtype, plain, shape[-1], options)
    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9) if plain else training.optimizer("sgd", 1e-3, momentum=0.9)
    model.compile(optimizer, CrossEntropy(), jit_compile=False)
    image, mask = tf.constant(images(shape)), tf.constant(masks((*shape[:1], *model.compute_output_shape(shape)[1:3])))
    return lambda: model.train_on_batch(image, mask)


def keras_hub_forward(shape, num_classes=21):
    """The nearest that keras-hub builds: stride 16, where block 4 is not dilated."""
    import keras_hub

    encoder = keras_hub.models.ResNetBackbone(
        [64], [7], [64, 128, 256, 512], [3, 4, 6, 3], [1, 2, 2, 1], "bottleneck_block", use_pre_activation=True
    )
    backbone = keras_hub.models.DeepLabV3Backbone(encoder, "P4", 16, [6, 12, 18])
    model = keras_hub.models.DeepLabV3ImageSegmenter(backbone, num_classes)
    function = tf.function(lambda x: model(x, training=False), autograph=False)
    image = tf.constant(images(shape))
    return lambda: function(image).numpy()


def matrix_product(side=4096, dtype="float32"):
    """The machine's own rate: a product of square matrices."""
    rng = np.random.default_rng(0)
    a, b = (tf.cast(tf.constant(rng.normal(size=(side, side)), tf.float32), dtype) for _ in range(2))
    return lambda: float(tf.cast(tf.matmul(a, b)[0, 0], tf.float32)), 2e-9 * side**3


def _built(network, num_classes, dtype, plain, channels, options):
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy({"bfloat16": "mixed_bfloat16"}.get(dtype, dtype))
    model = getattr(models, network)(num_classes, **{"input_shape": (None, None, channels), **options})
    return _plain(model) if plain else model


def _plain(model):
    """Returns a copy with Keras's own layers."""

    def clone(layer):
        for ours, keras_own in ((AtrousConv2D, keras.layers.Conv2D), (BatchNorm, keras.layers.BatchNormalization)):
            if isinstance(layer, ours):
                return keras_own.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
