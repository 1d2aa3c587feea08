"""Trains one stage."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from tensorflow import keras

from kerasseg import pipeline, training, weights
from kerasseg.recipes._samples import batches, scored_images
from kerasseg.recipes._stage import Stage
from kerasseg.spec import DataError, DatasetSpec
from kerasseg.training import RunFolder, TrainingState


@dataclasses.dataclass(frozen=True)
class Context:
    """What is the same for all stages of a run."""

    data_dir: Path
    spec: DatasetSpec
    train_split: str
    val_split: str
    validate_every: int | None
    init: str | None
    init_exclude: tuple[str, ...]
    progress: bool
    say: Callable[[str], None]


def train(stage: Stage, folder: RunFolder, previous: RunFolder | None, seed: int, context: Context) -> TrainingState:
    """Trains one stage to its end, unless it is there."""
    if folder.scores.get("finished"):
        return folder.state()
    keras.utils.set_random_seed(seed)
    spec = context.spec
    with training.strategy().scope():
        model = _built(stage, spec)
        compiled = {} if stage.loss_weights is None else {"loss_weights": list(stage.loss_weights)}
        training.compile(model, stage.make_optimizer(), stage.make_loss(), spec.ignore_label, **compiled)
    if not folder.last.exists():
        context.say(_start(model, stage, previous, context))
    optional = {"deliver": stage.deliver, "patience": stage.patience}
    with pipeline.naming_damage(context.data_dir, context.train_split, context.val_split):
        state = training.fit(
            model,
            lambda step, part=None: batches(
                stage, context.data_dir, context.train_split, seed, step * stage.accumulate, part
            ),
            folder,
            steps=stage.steps,
            validate_every=_validate_every(stage, context),
            val_data=scored_images(stage, context.data_dir, context.val_split),
            ignore_label=spec.ignore_label,
            progress=context.progress,
            **{name: value for name, value in optional.items() if value is not None},
        )
        training.plot_curves(state, folder.curves, spec.palette)
        if stage.recalculate and folder.is_written:
            _recalculate(stage, folder, seed, context)
    folder.note(finished=True)
    training.wait_for_workers()  # the next stage reads what the chief wrote
    return state


def _validate_every(stage, context):
    return min(context.validate_every or stage.validate_every or max(1, stage.steps // 20), stage.steps)


def _built(stage, spec):
    try:
        model = stage.model()
    except (TypeError, ValueError) as error:
        raise DataError(f"options of the network: {error}") from error
    if stage.crop_size is not None:
        sides = (stage.crop_size,) * 2 if isinstance(stage.crop_size, int) else tuple(stage.crop_size)
        try:
            model.compute_output_shape((stage.batch_size, *sides, spec.channels))
        except ValueError as error:
            raise DataError(f"crops of {sides[0]} x {sides[1]}: {error}") from error
    return model


def _start(model, stage, previous, context):
    """Loads the weights that a stage starts from; returns a line that tells which."""
    if stage.start == "previous" and previous is not None:
        report = weights.load_by_name(model, previous.best, exclude=stage.exclude)
        return f"weights of {previous.best}: {report.summary()}"
    if context.init is None:
        expected = f", where the authors start from {stage.pretrained}: give those as init" if stage.pretrained else ""
        return f"starts from random weights{expected}"
    try:
        report = weights.load(model, context.init, exclude=(*stage.exclude, *context.init_exclude))
    except DataError as error:
        raise DataError(f"init: {str(error).replace('or exclude=(', 'or init_exclude=(')}") from error
    return f"weights of {context.init}: {report.summary()}"


def _recalculate(stage, folder, seed, context):
    """Gives best.keras statistics of batch normalisation that are averages over the training set."""
    model = keras.models.load_model(folder.best, compile=False)
    size = stage.recalculate_batch_size or stage.batch_size
    data = batches(dataclasses.replace(stage, batch_size=size), context.data_dir, context.train_split, seed)
    training.recalculate_batch_norm(model, data, stage.recalculate)
    training.compile(model, keras.optimizers.SGD(0.0), stage.make_loss(), context.spec.ignore_label)
    images = scored_images(stage, context.data_dir, context.val_split)
    score = training.Validation(model, images, context.spec.ignore_label)()["val_mean_iou"]
    partial = folder.directory / "partial_recalculated.keras"
    model.save(str(partial))
    folder.put_best(partial)
    partial.unlink()
    folder.note(recalculated_mean_iou=score)
    context.say(f"batch normalisation recalculated over {stage.recalculate} batches of {size}: mean IoU {score:.4f}")
