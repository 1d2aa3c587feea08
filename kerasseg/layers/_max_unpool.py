"""Max-pooling that tells where, and unpooling: values back to where max-pooling found its maxima."""

import tensorflow as tf
from tensorflow import keras


@keras.utils.register_keras_serializable("kerasseg")
class MaxUnpool2D(keras.layers.Layer):
    """Puts each value where the maximum of its pooling window was, and zeros everywhere else (SegNet, DeconvNet).

    Unpooling values by a pooling's maxima *is* the gradient of that max-pooling, taken at the values. TensorFlow's
    kernel for it is exact for ties (the first maximum of a window, in rows, has the value) and for odd sizes, and has a
    gradient itself; no indices are stored. On a CPU it runs in a fraction of the time of a scatter. The gradient of the
    values reads what comes back from where they were put; for windows of 2 it is put together from quicker kernels than
    the registered one, with the same result.

    In 16 bits more values of a window are equal, and its maximum may be another one than in 32. A network with
    unpooling answers rather differently there (untrained SegNets do on every tenth pixel or so), and is best used in
    the precision in which it was trained.

    Args:
        pool_size: Side of the pooling windows, which is their stride too.

    Call: `[values, pooled_from]`: [B, ceil(H/p), ceil(W/p), C], and [B, H, W, C], the tensor that
        `MaxPooling2D(pool_size, padding="same")` was given; returns [B, H, W, C].
    Reference: Badrinarayanan et al. 2015, arXiv:1511.00561; Noh et al. 2015, arXiv:1505.04366.
    """

    def __init__(self, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = _checked(pool_size)

    def call(self, inputs, training=None):
        values, pooled_from = inputs
        if training and self.pool_size == 2:
            return _unpooled_by_two(values, pooled_from)
        return _unpooled(values, pooled_from, self.pool_size)

    def compute_output_shape(self, input_shape):
        values, pooled_from = input_shape
        for inner, outer in zip(values[1:3], pooled_from[1:3], strict=True):
            if inner is not None and outer is not None and inner != -(-outer // self.pool_size):
                raise ValueError(
                    f"values of {tuple(values[1:3])} do not come from a {self.pool_size}x{self.pool_size} pooling of "
                    f"{tuple(pooled_from[1:3])}; expected the size of MaxPooling2D({self.pool_size}, padding='same')"
                )
        return tuple(pooled_from)

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size}


def _window(size):
    return {"ksize": [1, size, size, 1], "strides": [1, size, size, 1], "padding": "SAME"}


def _unpooled(values, pooled_from, size):
    pooled = tf.raw_ops.MaxPool(input=pooled_from, **_window(size))
    return tf.raw_ops.MaxPoolGrad(orig_input=pooled_from, orig_output=pooled, grad=values, **_window(size))


@tf.custom_gradient
def _unpooled_by_two(values, pooled_from):
    """Unpools by windows of 2 with a gradient of a third of the registered one's time (on a CPU with oneDNN).

    The registered one (MaxPoolGradGrad) has a slow kernel, and gives `pooled_from` a gradient of zeros that is added up
    with its others. Here ones are unpooled, and what comes back is multiplied by them and averaged over each window: of
    1, 2 or 4 pixels, one of which is not 0, so that multiplied by their number the mean is that one, exactly.
    """

    def gradient(upstream):
        places = _unpooled(tf.ones_like(values), pooled_from, 2)
        mean = tf.raw_ops.AvgPool(value=upstream * places, **_window(2))
        rows, columns = (
            tf.cast(tf.minimum(2, side - tf.range(0, side, 2)), values.dtype)
            for side in tf.unstack(tf.shape(pooled_from)[1:3])
        )
        return mean * (rows[:, None, None] * columns[:, None]), None

    return _unpooled(values, pooled_from, 2), gradient


@keras.utils.register_keras_serializable("kerasseg")
class MaxPoolWithIndices2D(keras.layers.Layer):
    """Max-pooling that also returns where the maxima were, for `MaxUnpoolWithIndices2D`.

    The networks of this package unpool with `MaxUnpool2D`, which is faster and stores no indices. This pair is for
    networks in which the tensor that was pooled is no longer at hand, and for looking at the indices.

    Args:
        pool_size: Side of the pooling windows, which is their stride too. Sizes are rounded up.

    Call: [B, H, W, C]; returns the list `[pooled, indices]`, both [B, ceil(H/p), ceil(W/p), C]: what
        `MaxPooling2D(pool_size, padding="same")` gives, and, int64, (y * W + x) * C + c of each maximum within its own
        image; of equal ones the first, in rows.
    """

    def __init__(self, pool_size: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = _checked(pool_size)

    def call(self, inputs):
        return list(tf.nn.max_pool_with_argmax(inputs, self.pool_size, self.pool_size, "SAME", output_dtype=tf.int64))

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        shape = (batch, *(None if side is None else -(-side // self.pool_size) for side in sides), channels)
        return [shape, shape]

    def compute_output_spec(self, inputs):
        # Keras 3 would take the indices to have the layer's own type. What its layers inherit from traces `call`.
        return super(keras.layers.Layer, self).compute_output_spec(inputs)

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size}


@keras.utils.register_keras_serializable("kerasseg")
class MaxUnpoolWithIndices2D(keras.layers.Layer):
    """Puts each value at its index, and zeros everywhere else.

    What becomes of an image does not depend on the others of its batch. The gradient is that of reading the values
    at the indices. On the pooled windows of `MaxPoolWithIndices2D`, which do not overlap, no two values meet; those
    of equal indices would be added.

    Call: `[values, indices, like]`: [B, h, w, C]; integers [B, h, w, C], (y * W + x) * C + c; and [B, H, W, *], of
        which only height and width are used: they cannot be told from h and w where sides were rounded up. Returns
        [B, H, W, C].
    """

    def call(self, inputs):
        values, indices, like = inputs
        batch, channels = tf.shape(values, tf.int64)[0], values.shape[-1]
        height, width = tf.unstack(tf.shape(like, tf.int64)[1:3])
        size = height * width * channels
        first = tf.reshape(tf.range(batch) * size, (-1, 1, 1, 1))
        places = tf.reshape(tf.cast(indices, tf.int64) + first, (-1, 1))
        unpooled = tf.scatter_nd(places, tf.reshape(values, (-1,)), (batch * size,))
        unpooled = tf.reshape(unpooled, (batch, height, width, channels))
        return tf.ensure_shape(unpooled, self.compute_output_shape([tuple(x.shape) for x in inputs]))

    def compute_output_shape(self, input_shape):
        values, indices, like = input_shape
        for one, other in zip(values, indices, strict=True):
            if one is not None and other is not None and one != other:
                raise ValueError(f"expected an index for each value, got values {values} and indices {indices}")
        return (values[0], like[1], like[2], values[3])


def _checked(pool_size):
    if pool_size < 1:
        raise ValueError(f"pool_size must be at least 1, got {pool_size}")
    return pool_size
