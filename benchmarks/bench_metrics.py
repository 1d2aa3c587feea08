"""Speed of one update of the confusion matrix against what others offer.

    python benchmarks/bench_metrics.py

8 masks of 513 x 513, 21 classes in regions, 255 ignored, and class ids predicted for them. All count the same pixels
into the same matrix, which is checked.
"""

import argparse
import importlib

import cv2
import numpy as np
import tensorflow as tf
from _timing import interleaved
from tensorflow import keras

from kerasseg import metrics

SHAPE, K = (8, 513, 513), 21
KERAS = "Keras MeanIoU"


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Returns regions as a photograph's, int32 [B, H, W], 4 % ignored, and a prediction that errs on a tenth."""
    rng = np.random.default_rng(0)
    fields = [cv2.resize(rng.random((9, 9)), SHAPE[:0:-1], interpolation=cv2.INTER_CUBIC) for _ in range(SHAPE[0])]
    mask = (np.stack(fields).clip(0, 1) * 1.5 * K - K / 2).clip(0, K - 1).astype(np.int32)
    predicted = np.where(rng.random(SHAPE) < 0.1, rng.integers(0, K, SHAPE), mask).astype(np.int32)
    mask[rng.random(SHAPE) < 0.04] = 255
    return mask, predicted


def in_keras(metric):
    """Returns a call that updates a metric as `model.fit` does, in a graph, and gives its matrix."""

    @tf.function
    def update(mask, predicted):
        metric.update_state(mask, predicted)

    def call(mask, predicted):
        metric.reset_state()
        update(mask, predicted)
        return metric.confusion_matrix() if hasattr(metric, "confusion_matrix") else metric.total_cm

    return call


@tf.function
def by_tensorflow(mask, predicted):
    known = tf.reshape(mask != 255, [-1])
    mask, predicted = (tf.reshape(labels, [-1])[known] for labels in (mask, predicted))
    return tf.math.confusion_matrix(mask, predicted, K)


def by_numpy(mask, predicted):
    known = mask != 255
    return np.bincount(mask[known] * K + predicted[known], minlength=K * K).reshape(K, K)


def by_torch():
    torch = importlib.import_module("torch")

    def call(mask, predicted):
        """That of torchvision's references and, with its checks, torchmetrics."""
        known = mask != 255
        return torch.bincount(mask[known] * K + predicted[known], minlength=K * K).reshape(K, K)

    return call, torch.from_numpy


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    arrays, skipped = masks(), []
    tensors = tuple(map(tf.constant, arrays))
    alternatives = {
        "kerasseg MeanIoU": (in_keras(metrics.MeanIoU(K)), tensors),
        "kerasseg confusion_matrix, NumPy": (lambda *pair: metrics.confusion_matrix(*pair, K), arrays),
        KERAS: (in_keras(keras.metrics.MeanIoU(K + 1, ignore_class=255)), tensors),
        "tf.math.confusion_matrix": (by_tensorflow, tensors),
        "np.bincount": (by_numpy, arrays),
    }
    try:
        call, tensor = by_torch()
        alternatives["torch.bincount"] = (call, tuple(map(tensor, arrays)))
    except ImportError as error:
        skipped.append(f"torch.bincount ({error})")
    expected = by_numpy(*arrays)
    for name, (call, pair) in alternatives.items():
        if not np.array_equal(np.asarray(call(*pair))[:K, :K], expected):
            raise RuntimeError(f"{name} counts something else")
    times = interleaved({name: lambda c=call, p=pair: np.asarray(c(*p)) for name, (call, pair) in alternatives.items()})
    print(f"### Confusion matrix of {SHAPE[0]} x {SHAPE[1]}x{SHAPE[2]}, {K} classes\n")
    print(f"| | min ms | median ms | ÷ {KERAS} |\n|---|---|---|---|")
    for name, row in times.items():
        low, middle = 1000 * row["min_s"], 1000 * row["median_s"]
        print(f"| {name} | {low:.1f} | {middle:.1f} | {row['median_s'] / times[KERAS]['median_s']:.3f} |")
    for reason in skipped:
        print(f"\nLeft out: {reason}")


if __name__ == "__main__":
    main()
