"""What train.py is to train, as stages: those of a recipe, or the one that its options describe."""

import ast
import functools
import inspect

import _training_options

from kerasseg.spec import DataError, DatasetSpec, median_frequency_weights


def of(options, spec: DatasetSpec) -> list:
    """Returns the stages; raises `DataError` where an option is none that the recipe, network or loss knows."""
    from kerasseg import pipeline

    if options.preset and options.preset not in pipeline.presets.__all__:
        raise DataError(f"--preset {options.preset}: expected one of {', '.join(pipeline.presets.__all__)}")
    return _of_recipe(options, spec) if options.recipe else [_of_model(options, spec)]


def _of_recipe(options, spec):
    from kerasseg import recipes

    if options.recipe not in recipes.__all__:
        raise DataError(f"--recipe {options.recipe}: expected one of {', '.join(recipes.__all__)}")
    recipe = getattr(recipes, options.recipe)
    arguments = dict(_argument("--model-option", text) for text in options.model_option)
    if "train_split" in inspect.signature(recipe).parameters:
        arguments["train_split"] = options.train_split
    changes = {name: getattr(options, name) for name in _training_options.CHANGES if getattr(options, name) is not None}
    if options.crop_given:
        changes["crop_size"] = options.crop_size
    try:
        return recipes.change(recipe(spec, **arguments), **changes)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--recipe {options.recipe}: {error}") from error


def _of_model(options, spec):
    from kerasseg import models, recipes

    if options.model not in models.__all__:
        raise DataError(f"--model {options.model}: expected one of {', '.join(models.__all__)}")
    build = getattr(models, options.model)
    arguments = dict(_argument("--model-option", text, build) for text in options.model_option)
    return recipes.Stage(
        options.model,
        functools.partial(build, spec.num_classes, input_shape=(None, None, spec.channels), **arguments),
        _loss(options, spec),
        _solver(options),
        options.steps,
        options.batch_size,
        options.crop_size,
        options.preset,
        accumulate=options.accumulate or 1,
        pixel_weights=options.pixel_weights,
        patience=options.patience,
    )


def _solver(options):
    from kerasseg import recipes

    if (options.schedule == "step") != bool(options.drops):
        raise DataError("--schedule step and --drops go together: the steps at which the rate falls")
    multipliers = {}
    for text in options.rate_multiplier or ():
        pattern, equals, factor = text.rpartition("=")
        try:
            multipliers[pattern] = float(factor)
        except ValueError:
            equals = ""
        if not equals:
            raise DataError(f"--rate-multiplier {text}: expected a regular expression, =, and a factor")
    solver = recipes.Solver(
        options.optimizer,
        options.learning_rate,
        options.schedule,
        drops=tuple(step / options.steps for step in options.drops or ()),
        factor=options.drop_factor or 0.1,
        warmup_steps=options.warmup_steps or 0,
        weight_decay=options.weight_decay,
        decay=options.decay,
        rate_multipliers=multipliers,
        ema=options.ema,
        clip_norm=options.clip_norm,
    )
    try:
        solver(options.steps, options.accumulate or 1)
    except ValueError as error:
        raise DataError(f"options of the optimiser: {error}") from error
    return solver


def _loss(options, spec):
    from kerasseg import losses

    build = getattr(losses, options.loss)
    arguments = dict(_argument("--loss-option", text) for text in options.loss_option or ())
    weights = None
    if options.class_weights != "none":
        weights = median_frequency_weights(spec, options.train_split)
        weights = weights**0.5 if options.class_weights == "sqrt-median" else weights
    try:
        return build(**{"ignore_label": spec.ignore_label, "class_weights": weights, **arguments})
    except (TypeError, ValueError) as error:
        raise DataError(f"--loss {options.loss}: {error}") from error


def _argument(option, text, build=None):
    """Returns name and value of NAME=VALUE, the value a Python literal or else the text itself."""
    name, equals, value = text.partition("=")
    known = [] if build is None else list(inspect.signature(build).parameters)
    known = [key for key in known if key not in ("num_classes", "input_shape", "name")]
    if not equals or (known and name not in known):
        expected = f" with a name of {', '.join(known)}" if known else ""
        raise DataError(f"{option} {text}: expected NAME=VALUE{expected}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
