"""What several processes that train one model have to agree on."""

import contextlib
import math
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kerasseg._cluster import cluster
from kerasseg.spec import DataError
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._strategy import strategy


class Workers:
    """The workers of `MultiWorkerMirroredStrategy`; with any other strategy, this process alone.

    Every worker has to call the same methods in the same order: most wait for the others.

    Raises:
        DataError: TF_CONFIG names several workers, and the model was not made for them.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self._cluster = cluster()
        if self._cluster.several != self.several:
            raise DataError(
                f"TF_CONFIG names {max(1, len(self._cluster.addresses))} worker(s), and the model was made by "
                f"{type(strategy).__name__}: make and compile it under `training.strategy().scope()`"
            )
        self._gather = tf.function(self._gather_step, input_signature=[tf.TensorSpec([None], tf.float64)])

    @property
    def is_chief(self) -> bool:
        return self._cluster.is_chief

    def batches(
        self, data: tf.data.Dataset | Callable[..., tf.data.Dataset], step: int, per_step: int, prepare: Callable
    ):
        """Returns what `fit` takes from a step on: of several workers, each its own part of the global batches.

        Args:
            data: Of `training.fit`.
            step: The first one to come.
            per_step: Batches to a step.
            prepare: Dataset -> Dataset, put upon the data.
        Raises:
            ValueError: Several workers need a function, and there is none.
            DataError: The global batch is no multiple of the number of replicas.
        """
        if not self.several:
            return prepare(data(step) if callable(data) else data.skip(step * per_step))
        if not callable(data):
            raise ValueError(
                "several workers train, each on its own part of the data: expected a function data(step, "
                f"input_context) -> dataset of one replica's part of the batches, received {type(data).__name__}"
            )

        def part(context):
            try:
                return prepare(data(step, context))
            except DataError:
                raise
            except ValueError as error:
                raise DataError(f"the data cannot be shared out among the workers: {error}") from error

        return self._strategy.distribute_datasets_from_function(part)

    def check_same(self, run: RunFolder, step: int) -> None:
        """Refuses workers that stand at other steps, or were given other options, than the chief.

        Args:
            run: The open run folder.
            step: That it was restored to.
        Raises:
            DataError: On all workers, when one differs.
        """
        if not self.several:
            return
        (chiefs_step, chiefs_options), *others = self._gathered([step, run.fingerprint])
        for worker, (its_step, its_options) in enumerate(others, 1):
            if its_options != chiefs_options:
                raise DataError(
                    f"worker {worker} has other options or another data set than the chief: start all workers with the "
                    "same command, on the same data"
                )
            if its_step != chiefs_step:
                raise DataError(
                    f"worker {worker} found step {its_step:.0f} in {run.directory}, the chief step {chiefs_step:.0f}: "
                    "all workers need the same output folder, on a disk that they share"
                )

    def agreed(self, validation: Callable[[], dict[str, float | None]]) -> Callable[[], dict[str, float | None]]:
        """Returns a validation whose scores are the chief's: rounding on other machines must not part the workers."""
        if not self.several:
            return validation

        def chiefs():
            scores = validation()
            values = self._gathered([math.nan if value is None else value for value in scores.values()])[0]
            # Which classes there are, and so which scores, all workers see alike.
            known = [None if own is None else float(value) for own, value in zip(scores.values(), values, strict=True)]
            return dict(zip(scores, known, strict=True))

        return chiefs

    def wait(self) -> None:
        """Returns when all workers have come here: what the chief wrote before is there to be read."""
        if self.several:
            self._gathered([0])

    def _gathered(self, values) -> np.ndarray:
        """Returns float64 [workers, values]."""
        [result, *_] = self._strategy.experimental_local_results(self._gather(tf.constant(values, tf.float64)))
        # Of a worker's replicas one will do.
        return result.numpy().reshape(len(self._cluster.addresses), -1, len(values))[:, 0]

    def _gather_step(self, values):
        def step():
            return tf.distribute.get_replica_context().all_gather(values[None], axis=0)

        return self._strategy.run(step)


def wait_for_workers() -> None:
    """Returns when all workers have called it: what the chief wrote before is there to be read. Alone: at once."""
    Workers(strategy()).wait()


@contextlib.contextmanager
def naming_lost_workers(directory: str | os.PathLike):
    """Says in one line what to do where work of several workers ends because one of them has.

    Args:
        directory: The folder of their run.
    Raises:
        DataError: In place of TensorFlow's UnavailableError, AbortedError or CancelledError.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if not cluster().several:
            raise
        raise DataError(
            "another worker has ended or cannot be reached any more (its own output says why); start all workers again "
            f"with the same command: they go on from the last checkpoint in {directory}"
        ) from error
