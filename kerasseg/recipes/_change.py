"""Recipes with some of their numbers changed."""

import dataclasses
from collections.abc import Sequence

from kerasseg.recipes._stage import Solver, Stage

FIELDS = ("batch_size", "crop_size", "preset", "accumulate", "patience", "loss", "pixel_weights", "recalculate")
SOLVER_FIELDS = ("schedule", "warmup_steps", "ema", "clip_norm", "weight_decay", "decay", "rate_multipliers")


def change(stages: Sequence[Stage], *, steps: int | None = None, learning_rate: float | None = None, **changes):
    """Returns a recipe's stages with other numbers; what is not given stays as its authors have it.

    Args:
        stages: What a recipe returned.
        steps: Of all stages together, divided in the recipe's proportion; the rates (drops, decay, warm-up) go along.
        learning_rate: Of the first stage; those of the others in proportion.
        **changes: Of every stage: batch_size, crop_size, preset, accumulate, patience, loss, pixel_weights, recalculate
            (of those that do); and of every `Solver`: optimizer (its name), schedule, warmup_steps, ema, clip_norm,
            weight_decay, decay, rate_multipliers.
    Raises:
        ValueError: There is no such attribute, fewer steps than stages, or an optimiser is no `Solver`.
    """
    of_stage = {name: value for name, value in changes.items() if name in FIELDS}
    of_solver = {name: value for name, value in changes.items() if name not in FIELDS}
    if "optimizer" in of_solver:
        of_solver["name"] = of_solver.pop("optimizer")
    unknown = [name for name in of_solver if name not in (*SOLVER_FIELDS, "name")]
    if unknown:
        raise ValueError(f"expected some of {', '.join((*FIELDS, 'optimizer', *SOLVER_FIELDS))}, received {unknown}")
    stages = [dataclasses.replace(stage, **_fitting(stage, of_stage)) for stage in stages]
    if of_solver or learning_rate is not None:
        stages = _with_solvers(stages, learning_rate, of_solver)
    return stages if steps is None else _with_steps(stages, steps)


def _fitting(stage, changes):
    """Leaves stages without recalculation as they are."""
    return {name: value for name, value in changes.items() if name != "recalculate" or stage.recalculate}


def _with_solvers(stages, learning_rate, changes):
    for stage in stages:
        if not isinstance(stage.optimizer, Solver):
            raise ValueError(f"stage {stage.name!r} makes its own optimiser, whose rates cannot be changed from here")
    factor = 1.0 if learning_rate is None else learning_rate / stages[0].optimizer.rate
    return [
        dataclasses.replace(
            stage, optimizer=dataclasses.replace(stage.optimizer, rate=stage.optimizer.rate * factor, **changes)
        )
        for stage in stages
    ]


def _with_steps(stages, steps):
    if steps < len(stages):
        raise ValueError(f"{len(stages)} stages need at least as many steps, received {steps}")
    whole, result, before = sum(stage.steps for stage in stages), [], 0
    for number, stage in enumerate(stages, start=1):
        # By where the stage ends, so that the parts add up; each has a step, and leaves the others theirs.
        end = round(steps * sum(s.steps for s in stages[:number]) / whole)
        end = min(max(end, before + 1), steps - (len(stages) - number))
        result.append(dataclasses.replace(stage, steps=end - before, optimizer=_shortened(stage, end - before)))
        before = end
    return result


def _shortened(stage, steps):
    """Returns the optimiser with warm-up in proportion to the steps."""
    solver = stage.optimizer
    if not isinstance(solver, Solver) or not solver.warmup_steps:
        return solver
    return dataclasses.replace(solver, warmup_steps=round(solver.warmup_steps * steps / stage.steps))
