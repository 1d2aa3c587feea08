"""Which devices train."""

import functools
import signal
import threading

import tensorflow as tf
from tensorflow import keras

from kerasseg._cluster import cluster, wait_for_all
from kerasseg.spec import DataError


@functools.cache
def strategy() -> tf.distribute.Strategy:
    """Returns the strategy for this machine's devices and this process's environment.

    `MultiWorkerMirroredStrategy` where TF_CONFIG names two workers or more, each with all its GPUs; it waits until all
    have started. Else `MirroredStrategy` over all GPUs where there are two or more, else TensorFlow's default.

    Build and compile the model under `strategy().scope()`. With several workers call it before TensorFlow has done
    anything else. Always the same object: a second MirroredStrategy in one process numbers its reductions like the
    first, and TensorFlow takes one for the other ("shape mismatch in the collective instance").

    Raises:
        DataError: TF_CONFIG is wrong, or names several workers under Keras 3, whose `fit` cannot run on them; or this
            worker's port cannot be listened at.
    """
    workers = cluster()
    if workers.several:
        if not issubclass(keras.Model, tf.Module):
            # Keras 3's are none: it keeps its variables itself, and its `fit` cannot have several workers share them.
            raise DataError(
                f"TF_CONFIG names {len(workers.addresses)} workers, on which Keras 3 cannot train: install Keras 2 "
                'beside it with `pip install "kerasseg[distributed]"` (tf_keras) and set TF_USE_LEGACY_KERAS=1 before '
                "TensorFlow is imported, or unset TF_CONFIG to train alone"
            )
        return _on_all_workers(workers)
    if len(tf.config.list_logical_devices("GPU")) >= 2:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _on_all_workers(workers) -> tf.distribute.Strategy:
    wait_for_all(workers)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        address = workers.addresses[workers.index]
        raise DataError(
            f"worker {workers.index} cannot start at {address} ({error.message.splitlines()[0]}); TF_CONFIG must give "
            "each worker a free port of its own machine, which the others reach"
        ) from error
    finally:
        # TensorFlow has put itself in its place, and a worker would outlive `kill`.
        if threading.current_thread() is threading.main_thread() and terminated is not None:
            signal.signal(signal.SIGTERM, terminated)
