"""The k-th largest of the values that all replicas hold, without sorting or exchanging them."""

import tensorflow as tf

from kerasseg.losses._replicas import sum_over_replicas

_DIGITS = ((22, 512), (11, 2048), (0, 2048))
"""A float's 31 bits below the sign as three digits: (lowest bit, number of values)."""


def kth_largest(values: tf.Tensor, counted: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the k-th largest value over all replicas.

    The bits of floats of at least 0, read as integers, are in the order of the floats. So the answer is found digit by
    digit from the counts of each digit's values, as a radix sort would; only counts are summed over the replicas.
    (Of 262 144 values the 65 536th took 2 ms, `tf.math.top_k` 17 ms, on 2 cores.)

    Args:
        values: float32, any shape, at least 0.
        counted: bool, same shape: the values among which to look.
        k: int32 [], 1 to the number of those on all replicas.
    Returns:
        value: float32 [], the k-th largest.
        above: int32 [], how many values are larger.
        equal: int32 [], how many are equal to it.
    """
    # Not -0.0, whose bits are those of a negative number.
    bits = tf.bitcast(tf.reshape(tf.abs(values), [-1]), tf.int32)
    found, above = tf.constant(0), tf.constant(0)
    candidates = tf.reshape(counted, [-1])
    for lowest, size in _DIGITS:
        digits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, lowest), size - 1)
        # Values that differ in a higher digit go into one cell beyond. Not `tf.math.bincount`: see `MeanIoU`.
        counts = tf.raw_ops.DenseBincount(
            input=tf.where(candidates, digits, size),
            size=size + 1,
            weights=tf.zeros([0], tf.int32),
            binary_output=False,
        )
        counts = sum_over_replicas(counts)[:-1]
        larger = above + tf.cumsum(counts, exclusive=True, reverse=True)
        # The digit is the lowest one that fewer than k values surpass.
        digit = tf.argmax(larger < k, output_type=tf.int32)
        found += digit * 2**lowest
        # Not `larger[digit]`: XLA would compile anew for each value of an index.
        above, equal = tf.gather(larger, digit), tf.gather(counts, digit)
        candidates &= digits == digit
    return tf.bitcast(found, tf.float32), above, equal
