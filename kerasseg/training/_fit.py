"""The training loop: Keras's `fit`, from the last checkpoint to the last step."""

import math
import re
import sys
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow import keras

from kerasseg.metrics import MeanIoU
from kerasseg.spec import IGNORE_LABEL, DataError
from kerasseg.training._callbacks import Checkpoint, StopAt, StopEarly
from kerasseg.training._first_look import FirstLook
from kerasseg.training._progress import Progress
from kerasseg.training._report import Report
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._state import TrainingState
from kerasseg.training._update import accumulated, update_of
from kerasseg.training._validation import Validation
from kerasseg.training._warnings import Warnings
from kerasseg.training._watch import Watch
from kerasseg.training._workers import Workers, naming_lost_workers


def compile(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: keras.losses.Loss | Sequence[keras.losses.Loss | None],
    ignore_label: int | None = IGNORE_LABEL,
    loss_weights: Sequence[float] | None = None,
) -> None:
    """Compiles a model for `fit`: with mIoU as its metric, and without XLA (a U-Net step took 3x as long on a CPU).

    A loss that changes with the steps is told to follow the optimiser's.

    Args:
        model: With one output or several (UNet++ with deep supervision); mIoU is the last one's.
        optimizer: See `optimizer`.
        loss: One for all outputs, each of which has it, or one for each output; None: that output has none.
        ignore_label: Mask value that does not count in mIoU.
        loss_weights: A factor for each output's loss, in their sum; None: 1 each.
    Raises:
        ValueError: There is not a loss or a weight for each output.
    """
    *others, last = model.outputs
    losses = list(loss) if isinstance(loss, list | tuple) else [loss] * len(model.outputs)
    for what, given in (("losses", losses), ("loss_weights", loss_weights)):
        if given is not None and len(given) != len(model.outputs):
            raise ValueError(f"expected {len(model.outputs)} {what}, one an output, received {len(given)}")
    metrics = [MeanIoU(max(last.shape[-1], 2), ignore_label)]
    model.compile(
        optimizer=optimizer,
        loss=losses if others else losses[0],
        loss_weights=None if loss_weights is None else list(loss_weights),
        metrics=[*([] for _ in others), metrics] if others else metrics,
        jit_compile=False,
    )
    for loss in losses:
        if hasattr(loss, "follow"):
            loss.follow(model.optimizer.iterations)
    update = update_of(model.optimizer)
    if update is not None:
        update.skip_non_finite = update is not model.optimizer  # Keras has put it into a LossScaleOptimizer


def fit(
    model: keras.Model,
    data: tf.data.Dataset | Callable[..., tf.data.Dataset],
    run: RunFolder,
    *,
    steps: int,
    validate_every: int,
    val_data: tf.data.Dataset | None = None,
    ignore_label: int | None = IGNORE_LABEL,
    deliver: Callable[[keras.Model], keras.Model] | None = None,
    patience: int | None = None,
    progress: bool = True,
) -> TrainingState:
    """Trains a compiled model up to step `steps`, from where the run in the folder stands.

    Every `validate_every` steps, and at the end, the model is scored on `val_data` and the folder brought up to date. A
    killed run goes on from there: with weights, optimiser, schedule, averages, best score and the state of dropout as
    they were (Keras 2 keeps the last to itself), and with the batches that would have come next.

    A step is an update of the weights. Where the optimiser accumulates the gradients of n batches, it takes n of them.
    Where it keeps averages of the weights (`ema`), these are validated and saved in best.keras; last.keras holds the
    weights that are trained, and the averages within the optimiser.

    Several workers each call this, with a folder that they share: the chief alone writes there, and all go on from what
    it wrote. Each scores all the images, and the chief's scores are everyone's.

    Args:
        model: As `compile` leaves it, made under `strategy().scope()`.
        data: Batches (image, mask[, weight]) without end. Or a function that returns them beginning with the first one
            of a given step (so of batch step · n), which resumes faster: a data set is made to skip those already seen.
            With several workers (see `strategy`) it must be a function of step and `tf.distribute.InputContext`, which
            gives one replica's part of the batches, another to each worker:
            `train_batches(..., first_step=step, input_context=context)`.
        run: An open run folder.
        steps: Length of the whole training.
        validate_every: Steps between validations; what a killed run can lose.
        val_data: Whole images, see `Validation`. None: no validation, and no best.keras.
        ignore_label: Mask value that does not count.
        deliver: Makes of the model what is to be scored and saved in best.keras, on the same input and with the same
            weights: `models.unet_plus_plus_averaged` for one. None: the model itself.
        patience: Validations without a better mIoU after which training ends; None: never before the last step.
        progress: Whether to show progress on stderr.
    Returns:
        The state reached.
    Raises:
        DataError: The data hold labels outside the model's classes, the loss is no longer a finite number, or the
            folder cannot be resumed from or written to; of several workers one has ended, or was started otherwise
            than the others.
        ValueError: `patience` without `val_data`.
    """
    if patience is not None and (patience < 1 or val_data is None):
        raise ValueError(f"patience must be at least 1, and takes val_data; received {patience} and {val_data}")
    workers = Workers(model.distribute_strategy)
    state = run.restore(model)
    workers.check_same(run, state.step)
    if state.step >= steps or (patience is not None and state.without_better >= patience):
        return state
    per_step = accumulated(model)
    look, warnings = FirstLook(ignore_label), Warnings(run.warnings)
    batches = workers.batches(
        data, state.step, per_step, lambda batches: _for_each_output(look.through(batches), len(model.outputs))
    )
    validation = None if val_data is None else Validation(model, val_data, ignore_label, deliver, run.class_names)
    callbacks = [
        StopAt((steps - state.step) * per_step),
        Checkpoint(run, state, validation and workers.agreed(validation), deliver),
        Watch(run, state, validation, look, warnings),
    ]
    progress = progress and workers.is_chief
    if workers.is_chief:
        callbacks.append(Report(run, state, validation, warnings, ignore_label))
    if progress:
        callbacks.append(Progress(steps, validate_every, state, sys.stderr))
    if patience is not None:
        callbacks.append(StopEarly(state, patience, sys.stderr if progress else None))
    try:
        with naming_lost_workers(run.directory):
            model.fit(
                batches,
                epochs=math.ceil(steps / validate_every),
                initial_epoch=state.step // validate_every,
                steps_per_epoch=validate_every * per_step,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,  # Keras warns, where a data set is given, that it cannot
            )
            workers.wait()
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"(expected labels \S+ in the mask).* received:\] \[(-?\d+)\] \[(-?\d+)\]", str(error))
        if found is None:
            raise
        raise DataError(
            f"the data hold labels that the model does not have: {found[1]}, or {ignore_label} where nothing is known, "
            f"received {found[3]} to {found[2]}; tools/check_data.py names the records"
        ) from error
    return state


def _for_each_output(batches: tf.data.Dataset, outputs: int) -> tf.data.Dataset:
    """Returns the batches with masks, and weights, once for each output of the model."""
    if outputs == 1:
        return batches
    return batches.map(lambda image, *targets: (image, *((x,) * outputs for x in targets)))
