"""Learning rates and optimisers."""

import tensorflow as tf
from tensorflow import keras


def schedule(
    name: str, learning_rate: float, *, steps: int, power: float = 0.9
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns a learning rate by name.

    Args:
        name: "constant"; "poly": rate · (1 - step / steps)^power (DeepLab); or "cosine": half a wave from rate to 0.
        learning_rate: At step 0.
        steps: Length of the whole training; the rate is 0 from there on.
        power: Of "poly".
    Raises:
        ValueError: Another name, or a rate or a length that is not positive.
    """
    if learning_rate <= 0 or steps <= 0:
        raise ValueError(f"learning_rate and steps must be positive, received {learning_rate} and {steps}")
    if name == "constant":
        return float(learning_rate)
    if name == "poly":
        return keras.optimizers.schedules.PolynomialDecay(learning_rate, steps, end_learning_rate=0.0, power=power)
    if name == "cosine":
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    raise ValueError(f"schedule must be 'constant', 'poly' or 'cosine', received {name!r}")


class _L2:
    """Adds `l2` · variable to the gradient of every variable of rank 2 or more, after replicas have added theirs up."""

    def __init__(self, *args, l2: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, *args):  # Keras 3 passes the rate as well, Keras 2 does not
        if self.l2 and len(variable.shape) > 1:
            gradient = tf.convert_to_tensor(gradient) + self.l2 * tf.convert_to_tensor(variable)
        return super().update_step(gradient, variable, *args)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.utils.register_keras_serializable("kerasseg")
class SGD(_L2, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with `l2`: weight decay as classic SGD has it, part of the gradient, under the momentum.

    The same as the penalty l2/2 · Σw² in the loss, except that the reported loss stays without it. Biases and the
    scales and shifts of normalisation (variables of rank 1) have none.
    """


@keras.utils.register_keras_serializable("kerasseg")
class Adam(_L2, keras.optimizers.Adam):
    """`keras.optimizers.Adam` with `l2` as `kerasseg.training.SGD` has it."""


def optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    decay: str = "l2",
    **options,
) -> keras.optimizers.Optimizer:
    """Returns an optimiser by name.

    Args:
        name: "sgd" or "adam".
        learning_rate: A number or what `schedule` gives.
        momentum: Of SGD.
        weight_decay: Its strength; kernels only, not biases, scales or shifts.
        decay: "l2": a part of the gradient (what the classic papers mean); "decoupled": each step takes
            rate · weight_decay · w off the weights themselves (AdamW).
        **options: On to the Keras class (`clipnorm`, `epsilon`, ...).
    Raises:
        ValueError: Another name or kind of decay.
    """
    classes = {"sgd": SGD, "adam": Adam}
    if name not in classes:
        raise ValueError(f"optimizer must be 'sgd' or 'adam', received {name!r}")
    if decay not in ("l2", "decoupled"):
        raise ValueError(f"decay must be 'l2' or 'decoupled', received {decay!r}")
    if name == "sgd":
        options["momentum"] = momentum
    if decay == "l2":
        return classes[name](learning_rate, l2=weight_decay, **options)
    result = classes[name](learning_rate, weight_decay=weight_decay or None, **options)
    result.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return result


def current_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step."""
    rate = optimizer.learning_rate
    return float(tf.convert_to_tensor(rate(optimizer.iterations) if callable(rate) else rate))
