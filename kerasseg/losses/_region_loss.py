"""What losses that compare regions, not pixels, share."""

from collections.abc import Sequence

import tensorflow as tf

from kerasseg.losses._replicas import add_over_replicas, sum_over_replicas
from kerasseg.losses._segmentation_loss import SegmentationLoss, at_least_two


class RegionLoss(SegmentationLoss):
    """Base of losses that give each class a value, from all pixels together; a subclass defines `class_values`.

    The loss is the mean over the classes that take part, weighted by `class_weights`, of each class's value over the
    global batch. With `per_image` the value and the mean are each image's own, and the loss is their mean over the
    images with a pixel that counts.

    A pixel's weight says how much of a pixel it is: in every sum over a region it counts that much. So a weight that is
    the same all over changes nothing (except against `smooth`).

    Args:
        classes: "all"; "present", those that occur in the truth of the batch (of the image, with `per_image`); or the
            ids of those that take part. A network of one logit has class 1 alone, whether present or not, unless ids
            are given.
        per_image: Whether each image is measured by itself.
        ignore_label, class_weights, name: See `SegmentationLoss`, which says how a loss is called.
    Raises:
        ValueError, tf.errors.InvalidArgumentError: See `SegmentationLoss`.
    """

    def __init__(self, classes: str | Sequence[int] = "all", per_image: bool = False, **options):
        super().__init__(**options)
        if isinstance(classes, str):
            if classes not in ("all", "present"):
                raise ValueError(f"classes must be 'all', 'present' or class ids, received {classes!r}")
        else:
            classes = [int(label) for label in classes]
            if not classes or min(classes) < 0 or len(set(classes)) < len(classes):
                raise ValueError(f"classes must be different class ids of at least 0, received {classes}")
        self.classes = classes
        self.per_image = per_image

    def class_values(self, truth: tf.Tensor, probabilities: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Returns each class's value in each group, float32 [G, K]; 0 for a group without a pixel that counts.

        A group is the global batch, of which this replica has a part (G = 1), or, with `per_image`, an image. Sums over
        the pixels of groups are taken by `sum_groups`.

        Args:
            truth: bool [G, N, K], whether pixel n is of class k.
            probabilities: float32 [G, N, K].
            weight: float32 [G, N]; 0 where ignored.
        """
        raise NotImplementedError

    def sum_groups(self, *parts: tf.Tensor) -> list[tf.Tensor]:
        """Returns parts of one shape, each summed over the replicas where a group is spread over them."""
        if self.per_image:
            return list(parts)
        return tf.unstack(add_over_replicas(tf.stack(parts)))

    def global_loss(self, mask, logits, weight):
        taking_part = self._taking_part(logits.shape[-1])
        probabilities = tf.nn.softmax(at_least_two(logits))
        num_classes = probabilities.shape[-1]
        groups = tf.shape(mask)[0] if self.per_image else 1
        weight = tf.reshape(weight, [groups, -1])
        truth = tf.one_hot(tf.reshape(mask, [groups, -1]), num_classes, on_value=True, off_value=False)
        values = self.class_values(truth, tf.reshape(probabilities, [groups, -1, num_classes]), weight)
        if self.classes == "present" and logits.shape[-1] > 1:
            occurring = tf.reduce_any(truth & (weight > 0)[..., None], 1)
            taking_part *= tf.cast(self.sum_groups(tf.cast(occurring, tf.float32))[0] > 0, tf.float32)
        return self._mean(values, tf.broadcast_to(taking_part, tf.shape(values)), tf.reduce_any(weight > 0, 1))

    def _taking_part(self, num_logits: int) -> tf.Tensor:
        """Returns each class's weight in the mean, float32 [K]."""
        num_classes = max(num_logits, 2)
        chosen = self.classes
        if isinstance(chosen, str):
            chosen = range(num_classes) if num_logits > 1 else [1]
        if max(chosen) >= num_classes:
            raise ValueError(f"expected class ids 0..{num_classes - 1}, received classes {self.classes}")
        weights = self.class_weights or [1.0] * num_classes
        return tf.constant([weights[label] if label in chosen else 0.0 for label in range(num_classes)])

    def _mean(self, values: tf.Tensor, taking_part: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        """Returns the mean over classes, then over groups; values and taking_part [G, K], counts bool [G]."""
        means = tf.math.divide_no_nan(tf.reduce_sum(taking_part * values, 1), tf.reduce_sum(taking_part, 1))
        if not self.per_image:
            return means[0]
        counted = tf.cast(counts & tf.reduce_any(taking_part > 0, 1), tf.float32)
        total = add_over_replicas(tf.reduce_sum(counted * means))
        return tf.math.divide_no_nan(total, sum_over_replicas(tf.reduce_sum(counted)))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "per_image": self.per_image}
