"""SGD and Adam, as the papers that trained these networks meant them."""

import math

import tensorflow as tf
from tensorflow import keras

from kerasseg.training._schedules import Schedule
from kerasseg.training._update import NO_DECAY, Update


@keras.utils.register_keras_serializable("kerasseg")
class SGD(Update, keras.optimizers.SGD):
    """Stochastic gradient descent with momentum, as in Caffe: the rate is inside the momentum.

        velocity = momentum · velocity - rate · gradient
        weight = weight + velocity        (Nesterov: weight + momentum · velocity - rate · gradient)

    Args:
        learning_rate: A number or what `schedule` gives.
        momentum: Between 0 and 1.
        nesterov: Whether the step looks ahead.
        **options: Of `optimizer`: weight_decay, decay, no_decay, rate_multipliers, accumulate, ema, clip_norm, name.
    """

    _slots = ("momentum",)

    def __init__(self, learning_rate=0.01, *, momentum: float = 0.0, nesterov: bool = False, name="sgd", **options):
        super().__init__(learning_rate, momentum=float(momentum), nesterov=nesterov, name=name, **options)

    def _step(self, weight, gradient, kept, rate, number):
        (velocity,) = kept
        # One kernel, which reads and writes each number once: written out in operations it is seven passes over memory.
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=weight.handle,
            accum=velocity.handle,
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, weight.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


@keras.utils.register_keras_serializable("kerasseg")
class Adam(Update, keras.optimizers.Adam):
    """Adam (Kingma and Ba 2015, the form before their section 2.1, which TensorFlow and Keras have).

        mean = beta_1 · mean + (1 - beta_1) · gradient
        square = beta_2 · square + (1 - beta_2) · gradient²
        weight = weight - rate · √(1 - beta_2^n) / (1 - beta_1^n) · mean / (√square + epsilon)     at the n-th update

    Args:
        learning_rate: A number or what `schedule` gives.
        beta_1, beta_2: Between 0 and 1.
        epsilon: As in Keras, 1e-7; TensorFlow 1 had 1e-8.
        **options: Of `optimizer`: weight_decay, decay, no_decay, rate_multipliers, accumulate, ema, clip_norm, name.
    """

    _slots = ("mean", "square")

    def __init__(
        self,
        learning_rate=0.001,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name="adam",
        **options,
    ):
        super().__init__(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, name=name, **options)

    def _step(self, weight, gradient, kept, rate, number):
        mean, square = kept
        mean.assign_add((gradient - mean) * (1 - self.beta_1))
        square.assign_add((tf.square(gradient) - square) * (1 - self.beta_2))
        # expm1: as 1 - beta^n, all but the last digits of a float32 cancel in the first updates.
        grown_1, grown_2 = (-tf.math.expm1(number * math.log(beta)) for beta in (self.beta_1, self.beta_2))
        corrected = rate * tf.sqrt(grown_2) / grown_1
        weight.assign_sub(corrected * mean / (tf.sqrt(square) + self.epsilon))

    def get_config(self):
        config = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return {**super().get_config(), **config}


def optimizer(
    name: str,
    learning_rate: float | Schedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    decay: str = "l2",
    no_decay: tuple[str, ...] = NO_DECAY,
    rate_multipliers: dict[str, float] | None = None,
    accumulate: int = 1,
    ema: float | None = None,
    clip_norm: float | None = None,
    **options,
) -> SGD | Adam:
    """Returns an optimiser by name.

    Patterns are regular expressions, found anywhere in a variable's path "layer/variable": r"bias$" for all biases,
    r"^logits/" for a layer.

    Args:
        name: "sgd" or "adam".
        learning_rate: A number or what `schedule` gives.
        momentum: Of SGD.
        weight_decay: Its strength.
        decay: "l2": a part of the gradient, under the momentum (what the classic papers mean): the same as the penalty
            l2/2 · Σw² in the loss, except that the reported loss stays without it. "decoupled": each update takes
            rate · weight_decay · w off the weights themselves (AdamW).
        no_decay: Patterns of the variables without decay; by default biases, and the scales and shifts of
            normalisation.
        rate_multipliers: {pattern: factor} of the learning rate, as Caffe's lr_mult; a variable that meets several has
            their product; 0 keeps it as it is. {r"bias$": 2, r"^logits/": 10} makes it 20 for the bias of logits. With
            SGD the factor is inside the momentum, with Adam it scales the step (its gradient has no size).
        accumulate: Batches to an update, which then has the mean of their gradients: so n batches of 1 act as one of n
            (except in batch normalisation). Momentum, decay, schedule and iterations go on once an update.
        ema: Share of the old in a moving average of the weights (0.999), which `fit` validates and keeps in best.keras;
            None: none.
        clip_norm: The largest norm of all gradients together, of one update; longer ones are scaled down to it.
        **options: On to the class: nesterov of SGD; beta_1, beta_2, epsilon of Adam; name.
    Raises:
        ValueError: Another name or kind of decay, or a number that makes no sense. When the model is first trained: a
            pattern that no trainable variable meets.
    """
    classes = {"sgd": SGD, "adam": Adam}
    if name not in classes:
        raise ValueError(f"optimizer must be 'sgd' or 'adam', received {name!r}")
    if name == "sgd":
        options["momentum"] = momentum
    return classes[name](
        learning_rate,
        weight_decay=weight_decay,
        decay=decay,
        no_decay=no_decay,
        rate_multipliers=rate_multipliers,
        accumulate=accumulate,
        ema=ema,
        clip_norm=clip_norm,
        **options,
    )
