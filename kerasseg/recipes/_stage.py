"""One stage of a training, as plain data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import keras

from kerasseg import training
from kerasseg.augment import Augmentation

STARTS = ("pretrained", "previous")


@dataclasses.dataclass(frozen=True)
class Solver:
    """An optimiser with its rates, before it is known for how many steps: `solver(steps)` makes it.

    Attributes:
        name: "sgd" or "adam".
        rate: Learning rate at the first step (after warm-up).
        schedule: "constant", "poly", "cosine" or "step"; see `kerasseg.training.schedule`.
        power: Of "poly".
        drops: Of "step": where the rate drops, as shares of the steps.
        factor: Of "step": what each drop multiplies the rate by.
        warmup_steps: Steps in which the rate rises to `rate`.
        momentum: Of "sgd".
        weight_decay: Its strength.
        decay: "l2" (in the gradient) or "decoupled".
        rate_multipliers: {regular expression, of a variable's "layer/variable": factor of its rate}.
        no_decay: Regular expressions of variables without decay; None: biases, scales and shifts.
        ema: Decay of the moving average of the weights that is validated and saved as best; None: there is none.
        clip_norm: Longest gradient, over all variables together; None: any.
        options: On to the Keras optimiser (epsilon, ...).
    """

    name: str
    rate: float
    schedule: str = "constant"
    power: float = 0.9
    drops: tuple[float, ...] = ()
    factor: float = 0.1
    warmup_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: str = "l2"
    rate_multipliers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    no_decay: tuple[str, ...] | None = None
    ema: float | None = None
    clip_norm: float | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __call__(self, steps: int, accumulate: int = 1) -> keras.optimizers.Optimizer:
        """Returns the optimiser for a training of so many updates, each from `accumulate` batches."""
        options = {name: value for name, value in self._optional(accumulate).items() if value is not None}
        return training.optimizer(
            self.name,
            self.learning_rate(steps),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            decay=self.decay,
            **options,
            **self.options,
        )

    def learning_rate(self, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """Returns the rate over so many steps."""
        options = {"warmup_steps": self.warmup_steps} if self.warmup_steps else {}
        if self.drops:
            options.update(drops=self.drop_steps(steps), factor=self.factor)
        return training.schedule(self.schedule, self.rate, steps=steps, power=self.power, **options)

    def drop_steps(self, steps: int) -> list[int]:
        """Returns the steps at which the rate drops."""
        return sorted({max(1, round(share * steps)) for share in self.drops})

    def _optional(self, accumulate):
        return {
            "rate_multipliers": dict(self.rate_multipliers) or None,
            "no_decay": self.no_decay,
            "accumulate": accumulate if accumulate > 1 else None,
            "ema": self.ema,
            "clip_norm": self.clip_norm,
        }


@dataclasses.dataclass(frozen=True)
class Stage:
    """One network trained in one go: everything but the data and the place of the results.

    Attributes:
        name: Of the stage, and of its folder where there are several.
        model: Function that builds the network; `functools.partial(models.unet, 2, filters=16)`, say.
        loss: A loss, or a list with one (or None) for each output; or a function that makes that from the steps.
        optimizer: Function from the steps to the optimiser (called with `accumulate` too where that is not 1): a
            `Solver`, whose rate can then be changed.
        steps: Updates of the weights.
        batch_size: Images in a batch, over all replicas.
        crop_size: Side of the crops, or (height, width); None: whole images.
        preset: Augmentation, as `kerasseg.pipeline.train_batches` takes it.
        accumulate: Batches whose gradients are averaged for each update.
        pixel_weights: Whether the batches hold the weight maps stored with the data.
        instances: Whether they hold instance ids; `targets` then has to make something of them.
        targets: Function from a batch's parts (image, mask[, weight][, instances]) to what the model is trained on:
            (image, mask[, weight]). With `instances`, the validation images go through it too, for the loss alone:
            scored are their masks.
        loss_weights: Of several outputs, how much each one's loss counts.
        start: "pretrained": from the weights that `run` is given, from random ones without; "previous": from the best
            weights of the stage before, by name.
        pretrained: What the authors start from; said to those who give no weights.
        exclude: Layers that stay fresh, by the start of their names.
        deliver: What best.keras is to hold, from the model that is trained; None: that itself.
        patience: Validations without a better score after which the stage ends; None: never before its steps.
        recalculate: Batches over which the statistics of batch normalisation are averaged anew in best.keras, when
            all is done; 0: it keeps the moving averages.
        recalculate_batch_size: Images in those; None: `batch_size`.
        validate_every: Steps between validations, unless `run` is told; None: a 20th of the steps.
        notes: What to know before starting, a line each.
    """

    name: str
    model: Callable[[], keras.Model]
    loss: keras.losses.Loss | Sequence | Callable[[int], Any]
    optimizer: Callable[..., keras.optimizers.Optimizer]
    steps: int
    batch_size: int
    crop_size: int | tuple[int, int] | None
    preset: str | Augmentation | Callable
    _: dataclasses.KW_ONLY
    accumulate: int = 1
    pixel_weights: bool = False
    instances: bool = False
    targets: Callable[..., tuple[tf.Tensor, ...]] | None = None
    loss_weights: Sequence[float] | None = None
    start: str = "pretrained"
    pretrained: str = ""
    exclude: tuple[str, ...] = ()
    deliver: Callable[[keras.Model], keras.Model] | None = None
    patience: int | None = None
    recalculate: int = 0
    recalculate_batch_size: int | None = None
    validate_every: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, received {getattr(self, name)}")
        if self.start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, received {self.start!r}")
        if self.instances and self.targets is None:
            raise ValueError("instances=True needs targets, a function that makes masks of the instance ids")

    def make_loss(self):
        """Returns the loss, or the list of losses, for this stage's steps."""
        if isinstance(self.loss, keras.losses.Loss) or not callable(self.loss):
            return self.loss
        return self.loss(self.steps)

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns the optimiser for this stage's steps."""
        return self.optimizer(self.steps, **({"accumulate": self.accumulate} if self.accumulate > 1 else {}))

    def describe(self) -> dict:
        """Returns plain values that tell this stage from any other, as run.json holds them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values.update(loss=self.make_loss(), steps=self.steps)
        return {name: plain(value) for name, value in values.items() if name not in ("name", "notes")}


def plain(value):
    """Returns a value of a stage in the terms of JSON: functions by name, partial ones with their arguments."""
    if isinstance(value, functools.partial):
        arguments = [*map(repr, value.args), *(f"{name}={part!r}" for name, part in value.keywords.items())]
        return f"{plain(value.func)}({', '.join(arguments)})"
    if isinstance(value, keras.losses.Loss):
        # Keras numbers the names of losses that have none of their own.
        config = {name: plain(part) for name, part in value.get_config().items() if part is not None and name != "name"}
        return {"loss": type(value).__name__, **config}
    if isinstance(value, (Augmentation, Solver)):
        # What is as it is by default says nothing.
        parts = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {field.name: plain(part) for field, part in parts if part != _default(field)}
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if dataclasses.is_dataclass(value):
        return repr(value)
    return getattr(value, "__name__", type(value).__name__) if callable(value) else value


def _default(field):
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
