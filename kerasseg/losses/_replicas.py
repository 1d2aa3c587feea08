"""Sums over the replicas of a training, and what a loss must look like to Keras for them to come out right."""

import tensorflow as tf


def add_over_replicas(part: tf.Tensor) -> tf.Tensor:
    """Returns the sum over all replicas; its gradient is that of this replica's part alone.

    A loss computed from such sums has, on each replica, the value for the global batch and this replica's share of the
    gradient; Keras adds up the shares.
    """
    if num_replicas() == 1:
        return part
    return part - tf.stop_gradient(part) + sum_over_replicas(part)


def sum_over_replicas(part: tf.Tensor) -> tf.Tensor:
    """Returns the sum, without a gradient: it would cost one more reduction, in an order not fixed among replicas."""
    if num_replicas() == 1:
        return tf.stop_gradient(part)
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(part))


def reported(loss: tf.Tensor) -> tf.Tensor:
    """Returns the global loss in such a form that Keras reports its value; the gradient stays as it is.

    What Keras reports is the mean over replicas of (value · replicas), weighted by their images: so the value must be
    the global loss ÷ replicas, the same on each, or replicas with an unequal number of images would report another.
    """
    replicas = num_replicas()
    return loss if replicas == 1 else loss - tf.stop_gradient(loss) + tf.stop_gradient(loss) / replicas


def images_before(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns, of int32 [], the images of this replica: how many the replicas before it hold, and how many there are.

    The images of a global batch are dealt out in their order, so that is where this replica's begin.
    """
    if num_replicas() == 1:
        return tf.zeros_like(images), images
    replica = tf.distribute.get_replica_context()
    mine = tf.one_hot(replica.replica_id_in_sync_group, num_replicas(), dtype=tf.float32)
    held = sum_over_replicas(mine * tf.cast(images, tf.float32))
    before = tf.reduce_sum(tf.cumsum(held, exclusive=True) * mine)
    return tf.cast(before, tf.int32), tf.cast(tf.reduce_sum(held), tf.int32)


def num_replicas() -> int:
    # Outside `strategy.run` there is one batch, whatever the strategy.
    replica = tf.distribute.get_replica_context()
    return 1 if replica is None else replica.num_replicas_in_sync
