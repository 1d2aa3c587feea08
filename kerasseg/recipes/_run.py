"""Trains stages in turn, and goes on where it was killed."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow import keras

from kerasseg import pipeline, training, weights
from kerasseg._cluster import cluster
from kerasseg.recipes._stage import Stage
from kerasseg.spec import DataError, DatasetSpec
from kerasseg.training import RunFolder, TrainingState

PRECISIONS = ("none", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class _Context:
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


def run(
    stages: Sequence[Stage],
    data_dir: str | os.PathLike,
    output: str | os.PathLike,
    *,
    train_split: str = "train",
    val_split: str = "val",
    seed: int = 1,
    validate_every: int | None = None,
    init: str | None = None,
    init_exclude: Sequence[str] = (),
    mixed_precision: str = "none",
    progress: bool = True,
    options: dict | None = None,
    say: Callable[[str], None] = print,
) -> TrainingState:
    """Trains stages in turn. Called again with the same arguments after it was killed, it goes on from there.

    Where TF_CONFIG names several workers, each calls this with the same arguments and a folder that they share; the
    number of files of the data set's training split must be a multiple of theirs.

    One stage: `output` is its run folder (`kerasseg.training.RunFolder`). Several: each has a run folder in it, named
    after the stage; best.keras is that of the last, log.csv and curves.png are of all, and run.json lists them.

    Args:
        stages: What a recipe returns, or made by hand.
        data_dir: Folder of a converted data set.
        output: Folder for the results; new, or of this run.
        train_split, val_split: Splits to train on, and to choose the best weights by.
        seed: Of weights, data and dropout.
        validate_every: Steps between validations, and checkpoints. None: a 20th of each stage.
        init: Weights to start from, whatever `kerasseg.weights.load` takes. None: random ones.
        init_exclude: Layers that stay fresh then, by the start of their names.
        mixed_precision: "none", "float16" or "bfloat16".
        progress: Whether to show progress on stderr.
        options: More that is to be the same when the run is resumed; plain values.
        say: Called with a line at a time: which stage begins, which weights were loaded.
    Returns:
        The state reached: all stages' rows, the steps counted through; `best` is that of the last stage.
    Raises:
        DataError: The data set, the weights or the folder do not fit; each says why.
        ValueError: An argument is none of the above.
    """
    stages = list(stages)
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) < len(names):
        raise ValueError(f"expected stages of different names, received {names}")
    if mixed_precision not in PRECISIONS:
        raise ValueError(f"mixed_precision must be one of {', '.join(PRECISIONS)}, received {mixed_precision!r}")
    spec = DatasetSpec.load(data_dir)
    for split in (train_split, val_split):
        spec.split(split)
    if not cluster().is_chief:
        say = _silent
    context = _Context(
        Path(data_dir), spec, train_split, val_split, validate_every, init, tuple(init_exclude), progress, say
    )
    described = {
        **{"data": str(data_dir), "train_split": train_split, "val_split": val_split, "seed": seed},
        **{"validate_every": validate_every, "init": None if init is None else str(init)},
        **{"init_exclude": list(init_exclude), "mixed_precision": mixed_precision},
    }
    training.strategy()  # waits for the other workers, where there are any: none waits for one that has given up
    with _precision(mixed_precision), training.naming_lost_workers(output):
        if len(stages) == 1:
            whole = {**described, **stages[0].describe(), **_given(options)}
            with RunFolder(output).open(whole, spec.to_dict()) as folder:
                return _train(stages[0], folder, None, seed, context)
        return _in_turn(stages, Path(output), seed, context, described, options or {})


def _in_turn(stages, output, seed, context, described, options):
    listed = {**described, **options, "stages": [stage.name for stage in stages]}
    with RunFolder(output).open(listed, context.spec.to_dict()) as whole:
        done, previous = [], None
        for number, stage in enumerate(stages):
            folder = RunFolder(output / stage.name)
            context.say(f"stage {number + 1} of {len(stages)}: {stage.name}, {stage.steps} steps")
            resolved = {**described, **stage.describe(), "stage": stage.name}
            with folder.open(resolved, context.spec.to_dict()):
                state = _train(stage, folder, previous, seed + number, context)
            done.append((stage.name, state))
            previous = folder
            whole.note(stages=[_outcome(name, state) for name, state in done])
        joined = _joined(done)
        if not whole.scores.get("finished"):
            whole.put_best(folder.best)
            whole.write_log(joined)
            training.plot_curves(joined, whole.curves, context.spec.palette)
            whole.note(step=joined.step, **_scores(joined), finished=True)
    return joined


def _train(stage: Stage, folder: RunFolder, previous: RunFolder | None, seed: int, context: _Context) -> TrainingState:
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
            validate_every=context.validate_every or max(1, stage.steps // 20),
            val_data=_validation(stage, context),
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


def batches(
    stage: Stage,
    data_dir: str | os.PathLike,
    split: str = "train",
    seed: int = 1,
    first: int = 0,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Returns the training batches of a stage, without end, from the batch numbered `first` on.

    With an `input_context` they are one worker's part of them, see `kerasseg.pipeline.train_batches`.
    """
    spec = DatasetSpec.load(data_dir)
    preset = getattr(pipeline.presets, stage.preset, None) if isinstance(stage.preset, str) else stage.preset
    data = pipeline.train_batches(
        data_dir,
        split,
        stage.batch_size,
        stage.crop_size,
        stage.preset,
        seed,
        weights=stage.pixel_weights,
        instances=stage.instances,
        # Resampled pixels of 8 bits are rounded, or, where a function of TensorFlow ops makes them, left as they are.
        compact=spec.bit_depth == 8 and not callable(preset),
        first_step=first,
        input_context=input_context,
    )
    return data if stage.targets is None else data.map(stage.targets, num_parallel_calls=tf.data.AUTOTUNE)


def _validation(stage, context):
    """Returns whole images with their masks, and with what the model learns instead, where that is something else."""
    optional = {"instances": True} if stage.instances else {}
    data = pipeline.eval_images(context.data_dir, context.val_split, **optional)

    def with_target(image, mask, *instances):
        weight = [tf.ones_like(mask, tf.float32)] if stage.pixel_weights else []
        return image, mask, stage.targets(image, mask, *weight, *instances)[1]

    return data if stage.targets is None else data.map(with_target)


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
    data = batches(stage, context.data_dir, context.train_split, seed)
    training.recalculate_batch_norm(model, data, stage.recalculate)
    partial = folder.directory / "partial_recalculated.keras"
    model.save(str(partial))
    folder.put_best(partial)
    partial.unlink()
    context.say(f"batch normalisation recalculated over {stage.recalculate} batches")


class _Joined(TrainingState):
    """The rows of all stages; the best one is the last stage's."""

    @property
    def best(self):
        return TrainingState(history=[row for row in self.history if row["stage"] == self.history[-1]["stage"]]).best


def _joined(done) -> TrainingState:
    """Returns one state of all stages, its steps and seconds counted through."""
    joined = _Joined()
    for name, state in done:
        step, seconds = joined.step, joined.seconds
        rows = [
            {**row, "step": row["step"] + step, "seconds": round(row["seconds"] + seconds, 1)} for row in state.history
        ]
        joined.history += [{"stage": name, **row} for row in rows]
        joined.step += state.step
    return joined


def _outcome(name, state):
    return {"name": name, "step": state.step, **_scores(state)}


def _scores(state):
    best = state.best or {}
    return {"best_mean_iou": best.get("val_mean_iou"), "best_step": best.get("step")}


def _given(options):
    return {name: value for name, value in (options or {}).items() if value is not None}


def _silent(line):
    """Of several workers, the chief speaks."""


@contextlib.contextmanager
def _precision(name):
    before = keras.mixed_precision.global_policy()
    if name != "none":
        keras.mixed_precision.set_global_policy(f"mixed_{name}")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
