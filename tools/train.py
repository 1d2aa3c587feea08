"""Train a network on a converted data set.

    python tools/train.py --model unet --data tfrecords/cells --output runs/cells --preset cells \\
        --model-option filters=16 padding=same batch_norm=True --steps 2000
    python tools/train.py --model deeplab_v3 --data tfrecords/voc2012 --output runs/voc --steps 30000 \\
        --batch-size 16 --crop-size 513 --learning-rate 0.007 --init resnet_v2_50.ckpt --init-exclude logits

Called again with the same options, it goes on from the last checkpoint. The output folder gets best.keras (highest mean
IoU on the validation images), last.keras, log.csv, curves.png, run.json (all options) and tensorboard/.
"""

import _cli

# isort: split
import ast
import inspect
import math
import re
from pathlib import Path

import _crops

from kerasseg.spec import DataError, DatasetSpec, median_frequency_weights


def main(arguments=None):
    parser = _parser()
    options = parser.parse_args(arguments)
    options.crop_size = _crops.size(parser, options)
    spec = DatasetSpec.load(options.data)
    for split in (options.train_split, options.val_split):
        spec.split(split)
    if options.validate_every is None:
        options.validate_every = max(1, options.steps // 20)

    from tensorflow import keras

    from kerasseg import pipeline, training

    if options.preset not in pipeline.presets.__all__:
        raise DataError(f"--preset {options.preset}: expected one of {', '.join(pipeline.presets.__all__)}")
    keras.utils.set_random_seed(options.seed)
    if options.mixed_precision != "none":
        keras.mixed_precision.set_global_policy(f"mixed_{options.mixed_precision}")

    described = {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items() if name != "output"}
    with training.RunFolder(options.output).open(described, spec.to_dict()) as run:
        with training.strategy().scope():
            model = _model(options, spec)
            training.compile(model, _optimizer(options), _loss(options, spec), spec.ignore_label)
        if options.init and not run.last.exists():
            print(_initialise(model, options.init, options.init_exclude))
        with pipeline.naming_damage(options.data, options.train_split, options.val_split):
            state = training.fit(
                model,
                lambda step: _batches(options, spec, step),
                run,
                steps=options.steps,
                validate_every=options.validate_every,
                val_data=pipeline.eval_images(options.data, options.val_split),
                ignore_label=spec.ignore_label,
            )
        training.plot_curves(state, run.curves)
    best = state.best
    print(f"best mean IoU on {options.val_split}: {best['val_mean_iou']:.4f} at step {best['step']} of {state.step}")
    print(f"best model: {run.best}\nlog:        {run.log}\ncurves:     {run.curves}")


def _parser():
    parser = _cli.parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="a function of kerasseg.models: unet, deeplab_v3, ...")
    add("--model-option", nargs="+", default=[], metavar="NAME=VALUE", help="its arguments, filters=16 for one")
    add("--data", required=True, type=Path, metavar="DIR", help="folder of a converted data set")
    add("--output", required=True, type=Path, metavar="DIR", help="folder of this run")
    add("--train-split", metavar="NAME", default="train", help="split to train on")
    add("--val-split", metavar="NAME", default="val", help="split to choose the best weights by")
    add("--steps", type=_positive_int, metavar="N", default=2000, help="batches to train on, in all")
    add("--batch-size", type=_positive_int, metavar="N", default=8, help="images in a batch, over all GPUs")
    _crops.add_option(parser, 256)
    add("--preset", default="deeplab_paper", metavar="NAME", help="augmentation, of kerasseg.pipeline.presets")
    add("--learning-rate", type=_positive, metavar="RATE", default=0.01, help="at the first step")
    add("--schedule", choices=("poly", "cosine", "constant"), default="poly", help="of the learning rate")
    add("--optimizer", choices=("sgd", "adam"), default="sgd", help="sgd has momentum 0.9")
    add("--weight-decay", type=float, metavar="X", default=1e-4, help="of kernels")
    add("--decay", choices=("l2", "decoupled"), default="l2", help="in the gradient, or taken off the weights")
    add("--class-weights", choices=("none", "median", "sqrt-median"), default="none", help="median-frequency balancing")
    add("--pixel-weights", action="store_true", help="use the weight maps stored with the data")
    add(
        "--validate-every",
        type=_positive_int,
        metavar="N",
        help="steps between validations, and checkpoints (default: 1/20)",
    )
    add("--seed", type=int, metavar="N", default=1, help="of weights, data and dropout")
    add(
        "--init",
        metavar="WEIGHTS",
        help="start from a model (.keras), a classifier of keras-applications (.keras, .h5) or a TF1 checkpoint",
    )
    add("--init-exclude", nargs="+", default=[], metavar="LAYER", help="layers that stay fresh, by their first letters")
    add("--mixed-precision", choices=("none", "float16", "bfloat16"), default="none", help="compute type on GPUs")
    return parser


def _positive(text):
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _positive_int(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _model(options, spec):
    from kerasseg import models

    if options.model not in models.__all__:
        raise DataError(f"--model {options.model}: expected one of {', '.join(models.__all__)}")
    build = getattr(models, options.model)
    arguments = dict(_argument(text, build) for text in options.model_option)
    try:
        model = build(spec.num_classes, input_shape=(None, None, spec.channels), **arguments)
    except (TypeError, ValueError) as error:
        raise DataError(f"--model-option: {error}") from error
    if options.crop_size is not None:
        height, width = options.crop_size
        try:
            model.compute_output_shape((options.batch_size, height, width, spec.channels))
        except ValueError as error:
            raise DataError(f"--crop-size {height} {width}: {error}") from error
    return model


def _argument(text, build):
    """Returns name and value of NAME=VALUE, the value a Python literal or else the text itself."""
    name, equals, value = text.partition("=")
    known = [key for key in inspect.signature(build).parameters if key not in ("num_classes", "input_shape", "name")]
    if not equals or name not in known:
        raise DataError(f"--model-option {text}: expected NAME=VALUE with a name of {', '.join(known)}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _optimizer(options):
    from kerasseg import training

    rate = training.schedule(options.schedule, options.learning_rate, steps=options.steps)
    return training.optimizer(options.optimizer, rate, weight_decay=options.weight_decay, decay=options.decay)


def _loss(options, spec):
    from kerasseg.losses import CrossEntropy

    weights = None
    if options.class_weights != "none":
        weights = median_frequency_weights(spec, options.train_split)
        weights = weights**0.5 if options.class_weights == "sqrt-median" else weights
    return CrossEntropy(spec.ignore_label, weights)


def _batches(options, spec, step):
    """Returns the training batches from a step's on."""
    from kerasseg import pipeline

    return pipeline.train_batches(
        options.data,
        options.train_split,
        options.batch_size,
        options.crop_size,
        options.preset,
        options.seed,
        weights=options.pixel_weights,
        # Resampled pixels of 8 bits are rounded, or, where a function of TensorFlow ops makes them, left as they are.
        compact=spec.bit_depth == 8 and options.preset != "deeplab_original",
        first_step=step,
    )


def _initialise(model, source, exclude):
    """Loads weights from wherever; returns a line that says what was loaded."""
    from kerasseg import weights

    try:
        report = weights.load(model, source, exclude=exclude)
    except DataError as error:
        raise DataError("--init: " + re.sub(r'exclude=\("(.*?)",\)', r"--init-exclude \1", str(error))) from error
    return f"weights of {source}: {report.summary()}"


if __name__ == "__main__":
    _cli.run(main)
