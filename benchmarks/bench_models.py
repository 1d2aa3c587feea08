"""Speed of the networks against the same networks made of plain Keras layers.

    python benchmarks/bench_models.py

The plain network has the same wiring and the same weights, with `keras.layers.Conv2D(dilation_rate=...)` and
`keras.layers.BatchNormalization` in place of this package's layers. Data is synthetic: this is the model's speed alone.
"""

import numpy as np
import tensorflow as tf
from _timing import interleaved, table
from tensorflow import keras

from kerasseg.layers import AtrousConv2D, BatchNorm
from kerasseg.losses import CrossEntropy
from kerasseg.models import deeplab_v3, unet


def plain(model: keras.Model) -> keras.Model:
    """Returns a copy with Keras's own layers."""

    def clone(layer):
        for ours, keras_own in ((AtrousConv2D, keras.layers.Conv2D), (BatchNorm, keras.layers.BatchNormalization)):
            if isinstance(layer, ours):
                return keras_own.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def forward(model, image):
    function = tf.function(lambda x: model(x, training=False))
    image = tf.constant(image)
    return lambda: function(image).numpy()


def train_step(model, image, mask):
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), CrossEntropy())
    return lambda: model.train_on_batch(image, mask)


def pair(model, call):
    return {"kerasseg": call(model), "plain Keras": call(plain(model))}


def subjects():
    """Yields a title and the calls to compare."""
    rng = np.random.default_rng(0)

    def images(n, size, channels=3):
        return rng.uniform(0, 255, (n, size, size, channels)).astype(np.float32)

    image = images(1, 513)
    yield "DeepLab-v3 R50, stride 16, 513², forward", pair(deeplab_v3(21), lambda m: forward(m, image))
    small = images(4, 257)
    mask = rng.integers(0, 21, (4, 257, 257)).astype(np.int32)
    yield (
        "DeepLab-v3 R50, stride 16, 4 x 257², training step",
        pair(deeplab_v3(21), lambda m: train_step(m, small, mask)),
    )
    cells = images(2, 256, 1)
    cell_mask = rng.integers(0, 2, (2, 256, 256)).astype(np.int32)
    net = unet(2, input_shape=(None, None, 1), padding="same", batch_norm=True)
    yield "U-Net, batch norm, 2 x 256², training step", pair(net, lambda m: train_step(m, cells, cell_mask))


def main():
    for title, calls in subjects():
        print(f"\n### {title}\n\n{table(interleaved(calls), 'plain Keras')}", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
