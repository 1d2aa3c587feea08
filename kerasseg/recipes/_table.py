"""What a training is going to do, for people to read."""

import textwrap
from collections.abc import Sequence

from tensorflow import keras

from kerasseg.recipes._stage import Solver, Stage, plain


def table(stages: Sequence[Stage], init: str | None = None) -> str:
    """Returns some lines for each stage: network, start, optimiser and rates, decay, loss, batches, augmentation.

    `init` are the weights that `run` will be given, if any.
    """
    return "\n".join(_stage(number, stage, init) for number, stage in enumerate(stages, start=1))


def _stage(number, stage, init):
    rows = {
        "network": plain(stage.model),
        "starts from": _start(stage, init),
        "optimiser": _optimiser(stage.optimizer),
        "rate": _rate(stage),
        "decay": _decay(stage.optimizer),
        "steps": f"{stage.steps}, each from {_batch(stage)}",
        "samples": _samples(stage),
        "loss": _loss(stage),
        "best.keras": _delivered(stage),
    }
    lines = [f"{number}. {stage.name}"]
    for name, text in (*rows.items(), *(("note", note) for note in stage.notes)):
        if text:
            lines += textwrap.wrap(
                f"{name:12}{text}", 116, initial_indent=" " * 3, subsequent_indent=" " * 15, break_long_words=False
            )
    return "\n".join(lines)


def _start(stage, init):
    if stage.start == "previous":
        return "the stage before"
    authors = f" (the authors: {stage.pretrained})" if stage.pretrained else ""
    return str(init) if init else f"random weights{authors}"


def _optimiser(solver):
    if not isinstance(solver, Solver):
        return plain(solver)
    parts = [solver.name] + ([f"momentum {solver.momentum:g}"] if solver.name == "sgd" else [])
    parts += [f"{name} {value}" for name, value in solver.options.items()]
    if solver.clip_norm:
        parts.append(f"gradients no longer than {solver.clip_norm:g}")
    if solver.ema:
        parts.append(f"moving average of the weights, {solver.ema:g}")
    return ", ".join(parts)


def _rate(stage):
    solver = stage.optimizer
    if not isinstance(solver, Solver):
        return ""
    parts = [f"{solver.rate:g}, {solver.schedule}"]
    if solver.schedule == "poly":
        parts[0] += f" with power {solver.power:g}"
    if solver.drops:
        parts.append(f"times {solver.factor:g} at {', '.join(map(str, solver.drop_steps(stage.steps)))}")
    if solver.warmup_steps:
        parts.append(f"{solver.warmup_steps} steps of warm-up")
    parts += [f"times {factor:g} for {pattern}" for pattern, factor in solver.rate_multipliers.items()]
    return ", ".join(parts)


def _decay(solver):
    if not isinstance(solver, Solver) or not solver.weight_decay:
        return "none"
    without = "biases, scales and shifts" if solver.no_decay is None else ", ".join(solver.no_decay)
    where = "in the gradient" if solver.decay == "l2" else "decoupled"
    return f"{solver.weight_decay:g}, {where}, {f'without {without}' if without else 'of everything'}"


def _batch(stage):
    many = f"{stage.accumulate} batches of " if stage.accumulate > 1 else "a batch of "
    return f"{many}{stage.batch_size}"


def _samples(stage):
    if stage.crop_size is None:
        size = "whole images"
    else:
        sides = (stage.crop_size,) * 2 if isinstance(stage.crop_size, int) else stage.crop_size
        size = f"{sides[0]} x {sides[1]}"
    preset = plain(stage.preset)
    if isinstance(preset, dict):
        preset = ", ".join(f"{name} {value}" for name, value in preset.items()) or "as they are"
    return f"{size}, {preset}" + (", with weights for each pixel" if stage.pixel_weights else "")


def _loss(stage):
    loss = stage.make_loss()
    return "; ".join(map(_one_loss, loss)) if isinstance(loss, (list, tuple)) else _one_loss(loss)


def _one_loss(loss):
    if not isinstance(loss, keras.losses.Loss):
        return str(plain(loss))
    values = {name: value for name, value in plain(loss).items() if name not in ("loss", "ignore_label")}
    rounded = {name: [round(x, 4) for x in v] if name == "class_weights" else v for name, v in values.items()}
    return ", ".join([type(loss).__name__, *(f"{name} {value}" for name, value in rounded.items())])


def _delivered(stage):
    parts = [plain(stage.deliver)] if stage.deliver else []
    if stage.recalculate:
        size = stage.recalculate_batch_size or stage.batch_size
        parts.append(f"batch normalisation recalculated over {stage.recalculate} batches of {size}")
    if stage.patience:
        parts.append(f"ends after {stage.patience} validations without a better score")
    return ", ".join(parts)
