"""Speed of each loss, forward and backward, against cross-entropy.

    python benchmarks/bench_losses.py

Logits of 4 x 256 x 256 pixels and 21 classes, all of which occur; in a graph, without XLA, as `training.compile` has
it. Beside Lovász the same by sorting, as its authors' code does it: one sort for each class.
"""

import numpy as np
import tensorflow as tf
from _timing import interleaved, table

from kerasseg import losses

SHAPE, K = (4, 256, 256), 21


def sorted_lovasz(mask, logits):
    """Lovász-softmax of the batch without ignored pixels, all classes, by sorting."""
    truth = tf.reshape(tf.one_hot(mask, K), [-1, K])
    errors = tf.transpose(tf.abs(truth - tf.reshape(tf.nn.softmax(logits), [-1, K])))
    errors, order = tf.math.top_k(errors, k=errors.shape[1])
    inside = tf.gather(tf.transpose(truth), order, batch_dims=1)
    size = tf.reduce_sum(inside, 1, keepdims=True)
    iou = (size - tf.cumsum(inside, 1)) / (size + tf.cumsum(1 - inside, 1))
    gain = tf.concat([1 - iou[:, :1], iou[:, :-1] - iou[:, 1:]], 1)
    return tf.reduce_mean(tf.reduce_sum(errors * tf.stop_gradient(gain), 1))


def gradient_of(loss, mask, logits):
    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(mask, logits)
        return value, tape.gradient(value, logits)

    return step


def main():
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(0, 2, (*SHAPE, K)).astype(np.float32))
    mask = tf.constant(rng.integers(0, K, SHAPE), tf.int32)
    sampled = losses.SampledCrossEntropy(0.5)
    sampled.follow(tf.Variable(0))
    contestants = {
        "CrossEntropy": losses.CrossEntropy(),
        "Focal": losses.Focal(),
        "HardPixelCrossEntropy": losses.HardPixelCrossEntropy(),
        "SampledCrossEntropy": sampled,
        "Dice": losses.Dice(),
        "Dice(per_image=True)": losses.Dice(per_image=True),
        "Jaccard": losses.Jaccard(),
        "Tversky": losses.Tversky(),
        "CrossEntropyDice": losses.CrossEntropyDice(),
        "Lovasz": losses.Lovasz(),
        "Lovasz(per_image=True)": losses.Lovasz(per_image=True),
        "Lovász by sorting": sorted_lovasz,
    }
    calls = {name: gradient_of(loss, mask, logits) for name, loss in contestants.items()}
    difference = abs(float(calls["Lovasz"]()[0]) - float(calls["Lovász by sorting"]()[0]))
    print(f"\n{table(interleaved(calls), 'CrossEntropy')}\n")
    print(f"Lovász by counting and by sorting differ by {difference:.1e}.")


if __name__ == "__main__":
    main()
