"""Trains stages in turn, and goes on where it was killed."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tensorflow import keras

from kerasseg import training
from kerasseg._cluster import cluster
from kerasseg.recipes._stage import Stage
from kerasseg.recipes._train import Context, train
from kerasseg.spec import DatasetSpec
from kerasseg.training import RunFolder, TrainingState

PRECISIONS = ("none", "float16", "bfloat16")


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
        validate_every: Steps between validations, and checkpoints. None: what the stage says, or a 20th of it.
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
    context = Context(
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
                return train(stages[0], folder, None, seed, context)
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
                state = train(stage, folder, previous, seed + number, context)
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
