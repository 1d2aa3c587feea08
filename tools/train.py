"""Train a network on a converted data set, the way its authors did it or with options of one's own.

    python tools/train.py --recipe segnet_camvid --data tfrecords/camvid --output runs/segnet --init vgg16_weights.h5
    python tools/train.py --model unet --data tfrecords/cells --output runs/cells --preset cells \\
        --model-option filters=16 padding=same batch_norm=True --steps 2000
    python tools/train.py --model deeplab_v3 --data tfrecords/voc2012 --output runs/voc --steps 30000 \\
        --batch-size 16 --crop-size 513 --learning-rate 0.007 --init resnet_v2_50.ckpt --init-exclude logits

First it prints what it is going to do. Called again with the same options, it goes on from the last checkpoint. The
output folder gets best.keras (highest mean IoU on the validation images), last.keras, log.csv, curves.png, run.json
(all options) and tensorboard/; with a recipe of several stages, each stage has a folder in it with these.
"""

import _cli

# isort: split
import ast
import functools
import inspect
import re
from pathlib import Path

import _training_options

from kerasseg._cluster import cluster
from kerasseg.spec import DataError, DatasetSpec, median_frequency_weights


def main(arguments=None):
    options = _training_options.resolved(_training_options.parser(__doc__), arguments)
    spec = DatasetSpec.load(options.data)
    for split in (options.train_split, options.val_split):
        spec.split(split)

    from kerasseg import recipes, training

    if not options.describe:
        training.strategy()  # several workers have to meet before TensorFlow does anything else
    stages = _stages(options, spec)
    print(recipes.table(stages))
    if options.describe:
        return
    try:
        state = recipes.run(
            stages,
            options.data,
            options.output,
            train_split=options.train_split,
            val_split=options.val_split,
            seed=options.seed,
            validate_every=options.validate_every,
            init=options.init,
            init_exclude=options.init_exclude,
            mixed_precision=options.mixed_precision,
            options=_described(options),
        )
    except DataError as error:
        raise DataError(re.sub("^init: ", "--init: ", _as_option(str(error)))) from error
    if not cluster().is_chief:
        return
    best, output = state.best, options.output
    print(f"best mean IoU on {options.val_split}: {best['val_mean_iou']:.4f} at step {best['step']} of {state.step}")
    print(f"best model: {output / 'best.keras'}\nlog:        {output / 'log.csv'}\ncurves:     {output / 'curves.png'}")


def _as_option(text):
    return re.sub(r'init_exclude=\("(.*?)",\)', r"--init-exclude \1", text)


def _described(options):
    """Returns the options that a resumed run must have been given again, in plain values."""
    unimportant = ("output", "describe", "crop_given", "crop_size")
    return {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items() if name not in unimportant}


def _stages(options, spec):
    from kerasseg import pipeline, recipes

    if options.preset and options.preset not in pipeline.presets.__all__:
        raise DataError(f"--preset {options.preset}: expected one of {', '.join(pipeline.presets.__all__)}")
    if options.model:
        return [_stage(options, spec)]
    if options.recipe not in recipes.__all__:
        raise DataError(f"--recipe {options.recipe}: expected one of {', '.join(recipes.__all__)}")
    recipe = getattr(recipes, options.recipe)
    arguments = dict(_argument(text) for text in options.model_option)
    if "train_split" in inspect.signature(recipe).parameters:
        arguments["train_split"] = options.train_split
    changes = {name: getattr(options, name) for name in _training_options.CHANGES if getattr(options, name) is not None}
    if options.crop_given:
        changes["crop_size"] = options.crop_size
    try:
        return recipes.change(recipe(spec, **arguments), **changes)
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        raise DataError(f"--recipe {options.recipe}: {error}") from error


def _stage(options, spec):
    """Returns the one stage of a training with --model."""
    from kerasseg import models, recipes

    if options.model not in models.__all__:
        raise DataError(f"--model {options.model}: expected one of {', '.join(models.__all__)}")
    build = getattr(models, options.model)
    arguments = dict(_argument(text, build) for text in options.model_option)
    return recipes.Stage(
        options.model,
        functools.partial(build, spec.num_classes, input_shape=(None, None, spec.channels), **arguments),
        _loss(options, spec),
        recipes.Solver(
            options.optimizer,
            options.learning_rate,
            options.schedule,
            weight_decay=options.weight_decay,
            decay=options.decay,
        ),
        options.steps,
        options.batch_size,
        options.crop_size,
        options.preset,
        accumulate=options.accumulate or 1,
        pixel_weights=options.pixel_weights,
        patience=options.patience,
    )


def _argument(text, build=None):
    """Returns name and value of NAME=VALUE, the value a Python literal or else the text itself."""
    name, equals, value = text.partition("=")
    known = [] if build is None else list(inspect.signature(build).parameters)
    known = [key for key in known if key not in ("num_classes", "input_shape", "name")]
    if not equals or (known and name not in known):
        expected = f" with a name of {', '.join(known)}" if known else ""
        raise DataError(f"--model-option {text}: expected NAME=VALUE{expected}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _loss(options, spec):
    from kerasseg.losses import CrossEntropy

    weights = None
    if options.class_weights != "none":
        weights = median_frequency_weights(spec, options.train_split)
        weights = weights**0.5 if options.class_weights == "sqrt-median" else weights
    return CrossEntropy(spec.ignore_label, weights)


if __name__ == "__main__":
    _cli.run(main)
