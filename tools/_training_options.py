"""The options of train.py."""

import ast
import math
from pathlib import Path

import _cli
import _crops

RECIPES = Path(__file__).resolve().parent.parent / "kerasseg" / "recipes"

DEFAULTS = {
    "steps": 2000,
    "batch_size": 8,
    "crop_size": [256],
    "preset": "deeplab_paper",
    "learning_rate": 0.01,
    "schedule": "poly",
    "optimizer": "sgd",
    "weight_decay": 1e-4,
    "decay": "l2",
    "class_weights": "none",
    "loss": "CrossEntropy",
}
"""Of a training with --model; with --recipe what is not given is as the recipe has it."""


LOSSES = (
    *("CrossEntropy", "CrossEntropyDice", "Dice", "Focal", "HardPixelCrossEntropy", "Jaccard", "Lovasz"),
    *("SampledCrossEntropy", "Tversky"),
)
"""Those of kerasseg.losses that need no other."""


def recipes() -> dict[str, str]:
    """Returns {recipe: first line of its docstring}, read from the source: `--help` does not wait for TensorFlow."""
    found = {}
    for path in sorted(RECIPES.glob("_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.returns is None:
                continue
            if ast.unparse(node.returns) == "list[Stage]" and node.args.args[0].arg == "data":
                found[node.name] = ast.get_docstring(node).splitlines()[0]
    return found


def parser(doc: str):
    """Returns the parser; what it leaves None, `resolved` or the recipe fills in."""
    listed = "".join(f"\n  {name:22}{line}" for name, line in recipes().items())
    result = _cli.parser(f"{doc.rstrip()}\n\nRecipes:{listed}\n", workers=True)
    what = result.add_mutually_exclusive_group(required=True)
    what.add_argument("--recipe", metavar="NAME", help="train as the authors did: one of the recipes above")
    what.add_argument("--model", metavar="NAME", help="a function of kerasseg.models: unet, deeplab_v3, ...")
    add = result.add_argument
    add(
        "--model-option",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="arguments of the network (filters=16) or of the recipe (variant=release)",
    )
    add("--data", required=True, type=Path, metavar="DIR", help="folder of a converted data set")
    add("--output", required=True, type=Path, metavar="DIR", help="folder of this run")
    add("--describe", action="store_true", help="only print what would be done")
    add("--train-split", metavar="NAME", default="train", help="split to train on")
    add("--val-split", metavar="NAME", default="val", help="split to choose the best weights by")
    _add_both(result)
    _add_of_model(result.add_argument_group("with --model"))
    return result


def _add_both(parser):
    add = parser.add_argument
    add("--steps", type=_positive_int, metavar="N", help="updates of the weights, in all" + _default("steps"))
    add(
        "--batch-size",
        type=_positive_int,
        metavar="N",
        help="images in a batch, over all GPUs and workers" + _default("batch_size"),
    )
    add("--accumulate", type=_positive_int, metavar="N", help="batches to each update (with --model: 1)")
    _crops.add_option(parser, None, " (with --model: 256)")
    add("--preset", metavar="NAME", help="augmentation, of kerasseg.pipeline.presets" + _default("preset"))
    add(
        "--learning-rate",
        type=_positive,
        metavar="RATE",
        help="at the first step; a recipe's later stages keep their proportion" + _default("learning_rate"),
    )
    add("--ema", type=float, metavar="X", help="validate and keep a moving average of the weights (0.999)")
    add("--clip-norm", type=_positive, metavar="X", help="the largest norm that the gradients together may have")
    add(
        "--recalculate",
        type=_positive_int,
        metavar="N",
        help="batches for the statistics of batch normalisation, with a recipe that recalculates them at the end",
    )
    add("--patience", type=_positive_int, metavar="N", help="end after so many validations without a better score")
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


def _add_of_model(group):
    add = group.add_argument
    add("--schedule", choices=("poly", "cosine", "step", "constant"), help="of the learning rate (default: poly)")
    add("--drops", nargs="+", type=_positive_int, metavar="STEP", help="where the rate of --schedule step drops")
    add("--drop-factor", type=_positive, metavar="X", help="what each drop multiplies it by (default: 0.1)")
    add("--warmup-steps", type=_positive_int, metavar="N", help="steps in which the rate rises from 0")
    add("--optimizer", choices=("sgd", "adam"), help="sgd has momentum 0.9 (default: sgd)")
    add("--weight-decay", type=float, metavar="X", help="of kernels (default: 0.0001)")
    add("--decay", choices=("l2", "decoupled"), help="in the gradient, or taken off the weights (default: l2)")
    add(
        "--rate-multiplier",
        nargs="+",
        metavar="REGEX=X",
        help="factors of the rate of variables, by layer/variable: bias$=2 ^logits/=10",
    )
    add("--loss", choices=LOSSES, metavar="NAME", help=f"one of {', '.join(LOSSES)} (default: CrossEntropy)")
    add("--loss-option", nargs="+", metavar="NAME=VALUE", help="its arguments, smooth=0.01 for one")
    add("--class-weights", choices=("none", "median", "sqrt-median"), help="median-frequency balancing (default: none)")
    add("--pixel-weights", action="store_true", help="use the weight maps stored with the data")


CHANGES = (
    "steps",
    "batch_size",
    "accumulate",
    "preset",
    "learning_rate",
    "patience",
    "ema",
    "clip_norm",
    "recalculate",
)
"""Options that replace what a recipe says, where they are given (and crop_size)."""

OF_MODEL = (
    *("schedule", "drops", "drop_factor", "warmup_steps", "optimizer", "weight_decay", "decay", "rate_multiplier"),
    *("loss", "loss_option", "class_weights", "pixel_weights"),
)
"""Options that a recipe decides itself."""


def resolved(parser, arguments=None):
    """Returns the parsed options, those of a training with --model filled in; ends the tool where they contradict."""
    options = parser.parse_args(arguments)
    if options.recipe:
        given = [name for name in OF_MODEL if getattr(options, name)]
        if given:
            parser.error(f"--{given[0].replace('_', '-')} goes with --model; a recipe decides it itself")
    else:
        for name, value in DEFAULTS.items():
            if getattr(options, name) is None:
                setattr(options, name, value)
        if options.validate_every is None:
            options.validate_every = max(1, options.steps // 20)
    options.crop_given = options.crop_size is not None
    if options.crop_given:
        options.crop_size = _crops.size(parser, options)
    return options


def _default(name):
    return f" (with --model: {DEFAULTS[name]})"


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
