"""The training loop: Keras's `fit`, from the last checkpoint to the last step."""

import math
import re
import sys
from collections.abc import Callable

import tensorflow as tf
from tensorflow import keras

from kerasseg.metrics import MeanIoU
from kerasseg.spec import IGNORE_LABEL, DataError
from kerasseg.training._callbacks import Checkpoint, Progress, StopAt
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._state import TrainingState
from kerasseg.training._validation import Validation


def compile(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: keras.losses.Loss,
    ignore_label: int | None = IGNORE_LABEL,
) -> None:
    """Compiles a model for `fit`: with mIoU as its metric, and without XLA (a U-Net step took 3x as long on a CPU).

    Each output of a model with several (UNet++ with deep supervision) has the loss, and they add up; mIoU is the last
    one's.
    """
    *others, last = model.outputs
    metrics = [MeanIoU(last.shape[-1], ignore_label)]
    if others:
        loss, metrics = [loss] * len(model.outputs), [*([] for _ in others), metrics]
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=False)


def fit(
    model: keras.Model,
    data: tf.data.Dataset | Callable[[int], tf.data.Dataset],
    run: RunFolder,
    *,
    steps: int,
    validate_every: int,
    val_data: tf.data.Dataset | None = None,
    ignore_label: int | None = IGNORE_LABEL,
    deliver: Callable[[keras.Model], keras.Model] | None = None,
    progress: bool = True,
) -> TrainingState:
    """Trains a compiled model up to step `steps`, from where the run in the folder stands.

    Every `validate_every` steps, and at the end, the model is scored on `val_data` and the folder brought up to date. A
    killed run goes on from there: with weights, optimiser, schedule, best score and the state of dropout as they were
    (Keras 2 keeps the last to itself), and with the batches that would have come next.

    Args:
        model: As `compile` leaves it, made under `strategy().scope()`.
        data: Batches (image, mask[, weight]) without end. Or a function that returns them beginning with a given
            step's, which resumes faster: a data set is made to skip the batches already seen.
        run: An open run folder.
        steps: Length of the whole training.
        validate_every: Steps between validations; what a killed run can lose.
        val_data: Whole images, see `Validation`. None: no validation, and no best.keras.
        ignore_label: Mask value that does not count.
        deliver: Makes of the model what is to be scored and saved in best.keras, on the same input and with the same
            weights: `models.unet_plus_plus_averaged` for one. None: the model itself.
        progress: Whether to show progress on stderr.
    Returns:
        The state reached.
    Raises:
        DataError: The data hold labels outside the model's classes, the loss is no longer a finite number, or the
            folder cannot be resumed from.
    """
    state = run.restore(model)
    if state.step >= steps:
        return state
    batches = data(state.step) if callable(data) else data.skip(state.step)
    if len(model.outputs) > 1:
        batches = batches.map(lambda image, *targets: (image, *((x,) * len(model.outputs) for x in targets)))
    validation = None if val_data is None else Validation(model, val_data, ignore_label, deliver)
    callbacks = [StopAt(steps, state.step), Checkpoint(run, state, validation, deliver)]
    if progress:
        callbacks.append(Progress(steps, state, sys.stderr))
    callbacks.append(keras.callbacks.TensorBoard(str(run.tensorboard), write_graph=False))
    try:
        model.fit(
            batches,
            epochs=math.ceil(steps / validate_every),
            initial_epoch=state.step // validate_every,
            steps_per_epoch=validate_every,
            callbacks=callbacks,
            verbose=0,
            shuffle=False,  # Keras warns, where a data set is given, that it cannot
        )
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"expected labels \S+ in the mask", str(error))
        if found is None:
            raise
        raise DataError(
            f"the data hold labels that the model does not have: {found[0]}, or {ignore_label} where nothing is known; "
            "tools/check_data.py names the records"
        ) from error
    return state
