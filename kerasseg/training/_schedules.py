"""Learning rates as functions of the step."""

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow import keras

NAMES = ("constant", "poly", "cosine", "step")
WARMUPS = ("linear", "constant")


@keras.utils.register_keras_serializable("kerasseg")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate over the updates of the weights; the arguments are those of `schedule`.

    Saved with its optimiser, and so resumed. Call: an update's number, from 0; returns its rate, float32.
    """

    def __init__(
        self,
        name: str,
        learning_rate: float,
        steps: int,
        power: float = 0.9,
        floor: float = 0.0,
        drops: int | Sequence[int] | Mapping[int, float] | None = None,
        factor: float = 0.1,
        warmup_steps: int = 0,
        warmup_rate: float = 0.0,
        warmup: str = "linear",
    ):
        if isinstance(drops, Mapping):
            drops = [list(pair) for pair in drops.items()]
        elif isinstance(drops, (list, tuple)):
            drops = [list(drop) if isinstance(drop, (list, tuple)) else [drop, factor] for drop in drops]
        _check(name, learning_rate, steps, power, floor, drops, factor, warmup_steps, warmup_rate, warmup)
        self.name, self.learning_rate, self.steps, self.power, self.floor = name, learning_rate, steps, power, floor
        self.drops, self.factor = drops, factor
        self.warmup_steps, self.warmup_rate, self.warmup = warmup_steps, warmup_rate, warmup

    def __call__(self, step):
        step = tf.cast(step, tf.float32)
        rate = self._rate(step)
        if not self.warmup_steps:
            return rate
        warm = tf.constant(self.warmup_rate, tf.float32)
        if self.warmup == "linear":
            full = self._rate(tf.constant(self.warmup_steps, tf.float32))
            warm += (full - warm) * step / self.warmup_steps
        return tf.where(step < self.warmup_steps, warm, rate)

    def _rate(self, step):
        """Returns the rate without warm-up."""
        left = 1 - tf.minimum(step / self.steps, 1.0)  # 1 at the first step, 0 from the last on
        if self.name == "poly":
            return self.floor + (self.learning_rate - self.floor) * left**self.power
        if self.name == "cosine":
            return self.floor + (self.learning_rate - self.floor) * (1 - tf.cos(math.pi * left)) / 2
        if self.name == "step":
            if isinstance(self.drops, int):
                factor = self.factor ** (step // self.drops)
            else:
                at, factors = tf.unstack(tf.constant(self.drops, tf.float32), axis=1)
                factor = tf.reduce_prod(tf.where(step >= at, factors, 1.0))
            return tf.maximum(self.learning_rate * factor, self.floor)
        return tf.constant(self.learning_rate, tf.float32)

    def get_config(self):
        return dict(vars(self))


def _check(name, learning_rate, steps, power, floor, drops, factor, warmup_steps, warmup_rate, warmup):
    if name not in NAMES:
        raise ValueError(f"schedule must be 'constant', 'poly', 'cosine' or 'step', received {name!r}")
    if learning_rate <= 0 or steps <= 0:
        raise ValueError(f"learning_rate and steps must be positive, received {learning_rate} and {steps}")
    if power <= 0 or factor <= 0:
        raise ValueError(f"power and factor must be positive, received {power} and {factor}")
    if not 0 <= floor <= learning_rate:
        raise ValueError(f"floor must lie between 0 and learning_rate ({learning_rate}), received {floor}")
    if (drops is not None) != (name == "step"):
        raise ValueError(f"drops says where 'step' drops, and only it takes them; received {name!r} and {drops!r}")
    at = [1 if drops is None else drops] if not isinstance(drops, list) else [step for step, _ in drops]
    if not at or not all(isinstance(step, int) and step > 0 for step in at) or sorted(set(at)) != at:
        raise ValueError(f"drops must be a number of steps or growing ones, received {drops!r}")
    if isinstance(drops, list) and not all(by > 0 for _, by in drops):
        raise ValueError(f"what a drop multiplies the rate by must be positive, received {drops!r}")
    if warmup not in WARMUPS:
        raise ValueError(f"warmup must be 'linear' or 'constant', received {warmup!r}")
    if warmup_steps < 0 or warmup_rate < 0:
        raise ValueError(f"warmup_steps and warmup_rate must not be below 0, received {warmup_steps} and {warmup_rate}")


def schedule(
    name: str,
    learning_rate: float,
    *,
    steps: int,
    power: float = 0.9,
    floor: float = 0.0,
    drops: int | Sequence[int] | Mapping[int, float] | None = None,
    factor: float = 0.1,
    warmup_steps: int = 0,
    warmup_rate: float = 0.0,
    warmup: str = "linear",
) -> float | Schedule:
    """Returns a learning rate by name.

    Steps are updates of the weights: with gradients accumulated over n batches, one for n batches.

    Args:
        name: "constant"; "poly": floor + (rate - floor) · (1 - step / steps)^power (DeepLab); "cosine": half a wave
            from rate to floor; or "step": rate · factor for each drop so far, as Caffe has it.
        learning_rate: At step 0.
        steps: Length of the whole training; "poly" and "cosine" stay at their floor from there on.
        power: Of "poly".
        floor: What "poly" and "cosine" end at, and the least that "step" drops to.
        drops: Of "step": a number, after every so many steps; or the steps themselves, in order; or {step: what the
            rate is multiplied by}. The rate is the lower one from that step on.
        factor: Of "step": what each drop multiplies the rate by, where `drops` does not say.
        warmup_steps: The first so many steps have another rate. The schedule is not moved by them: it goes on as if it
            had run from step 0, as in TensorFlow's DeepLab.
        warmup_rate: That of step 0.
        warmup: "linear": up from warmup_rate to what the schedule has at step warmup_steps; or "constant": warmup_rate
            throughout (the "slow start" of TensorFlow's DeepLab, `slow_start_learning_rate`).
    Returns:
        A float where the rate never changes, else a schedule, which is saved with its optimiser.
    Raises:
        ValueError: Another name, or a number that makes no sense.
    """
    result = Schedule(name, learning_rate, steps, power, floor, drops, factor, warmup_steps, warmup_rate, warmup)
    return float(learning_rate) if name == "constant" and not warmup_steps else result


def current_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if hasattr(optimizer, "rate"):
        return float(optimizer.rate())
    return float(tf.convert_to_tensor(optimizer.learning_rate))
