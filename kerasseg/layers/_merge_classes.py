"""Several classes become one."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class MergeClasses(keras.layers.Layer):
    """Turns logits of finer classes into logits of coarser ones, whose probabilities are the sums of theirs.

    `MergeClasses([[0], [1, 2]])` takes (background, inside of a cell, its rim) to (background, cell). The new logit is
    log Σ exp(logit) over the classes that are merged. Computed in float32.

    Args:
        groups: For each new class the old classes that belong to it; each old class once at most.

    Call: float [B, H, W, k]; returns [B, H, W, len(groups)].
    Raises:
        ValueError: A group is empty, a class is in two, or there is no such class.
    """

    def __init__(self, groups: Sequence[Sequence[int]], **kwargs):
        super().__init__(**kwargs)
        self.groups = [[int(label) for label in group] for group in groups]
        labels = [label for group in self.groups for label in group]
        if not all(self.groups) or len(set(labels)) < len(labels) or min(labels, default=-1) < 0:
            raise ValueError(f"groups must be lists of classes, none empty, none in two groups, received {groups}")

    def call(self, inputs):
        logits = tf.cast(inputs, tf.float32)
        if max(map(max, self.groups)) >= logits.shape[-1]:
            raise ValueError(f"groups {self.groups} name classes beyond the {logits.shape[-1]} of the logits")
        merged = [tf.reduce_logsumexp(tf.gather(logits, group, axis=-1), -1) for group in self.groups]
        return tf.cast(tf.stack(merged, -1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], len(self.groups))

    def get_config(self):
        return {**super().get_config(), "groups": self.groups}
