"""A look at the batches on their way to the model."""

import dataclasses

import numpy as np
import tensorflow as tf

_THIN = 8


@dataclasses.dataclass
class FirstLook:
    """What the batches of a training show, gathered while tf.data makes them.

    Of the first `batches_to_see` batches every eighth row and column, and whether all of the images is finite; of all
    later ones, whether every pixel is ignored.

    Attributes:
        batches: Batches looked at so far: the first ones, and later ones that are all ignored.
        batch_size: Images in the newest of them.
        highest: Largest value of their images.
        finite: Whether all their images' values were finite numbers.
        labels: The values their masks held, [256] counts.
        all_ignored: Number of batches whose pixels are all ignored.
        done: Whether the first batches have been seen.
    """

    ignore_label: int | None
    batches_to_see: int = 20
    batches: int = 0
    batch_size: int = 0
    highest: float = -np.inf
    finite: bool = True
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    all_ignored: int = 0
    done: bool = False

    def through(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the same data set, looked at; data whose elements are not (image, mask, ...) as they are."""
        spec = data.element_spec
        if not (isinstance(spec, tuple) and len(spec) > 1 and all(isinstance(s, tf.TensorSpec) for s in spec[:2])):
            return data
        if spec[0].shape.rank != 4 or spec[1].shape.rank not in (3, 4) or not spec[1].dtype.is_integer:
            return data

        def look(number, element):
            image, mask = element[0], element[1]
            thin = mask[:, ::_THIN, ::_THIN]
            ignored = tf.constant(False)
            if self.ignore_label is not None:
                value = tf.cast(self.ignore_label, mask.dtype)
                ignored = tf.reduce_all(thin == value)
                ignored = tf.cond(ignored, lambda: tf.reduce_all(mask == value), lambda: ignored)
            tf.cond(
                (number < self.batches_to_see) | ignored,
                lambda: _call(self._take, number, image[:, ::_THIN, ::_THIN], thin, ignored, _is_finite(image)),
                lambda: tf.constant(0),
            )
            return element

        return data.enumerate().map(look)

    def _take(self, number, image, mask, ignored, finite):
        """Takes one batch into account."""
        self.all_ignored += bool(ignored)
        if number < self.batches_to_see:
            values = image.astype(np.float32)
            self.highest = max(self.highest, float(values.max(initial=-np.inf)))
            self.finite = self.finite and bool(finite)
            self.labels += np.bincount(np.clip(mask, 0, 255).ravel(), minlength=256)
        self.batch_size = len(image)
        self.batches += 1
        self.done = self.done or number + 1 >= self.batches_to_see
        return np.int32(0)


def _is_finite(image):
    if not image.dtype.is_floating:
        return tf.constant(True)
    return tf.reduce_all(tf.math.is_finite(image))


def _call(function, *tensors):
    return tf.numpy_function(function, tensors, tf.int32)
