"""The way from gradients to weights: what is the same for all optimisers."""

import contextlib
import functools
import math
import re
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow import keras

NO_DECAY = (r"(^|/)(bias|gamma|beta)$",)
"""Variables that weight decay leaves out unless told otherwise: biases, scales and shifts of normalisation."""


class Update:
    """One update of the weights, in the order of Caffe's solver.

    1. The gradients are summed over the replicas. (The loss of each is already its share of the mean.)
    2. They are summed over `accumulate` batches and divided by their number; until then nothing else happens.
    3. All of them together are scaled down to the norm `clip_norm`.
    4. "l2": weight_decay · w is added to each.
    5. The weights make the optimiser's step, with rate · multiplier.
       "decoupled": they lose rate · multiplier · weight_decay · w besides.
    6. Their averages follow.

    A subclass comes before one of Keras's optimisers, which lends it its iterations, its learning rate and its saving,
    and has `_slots`, the names of the variables that it keeps for each weight, and `_step`.

    Args:
        learning_rate: A number or what `schedule` gives.
        weight_decay: Its strength.
        decay: "l2" or "decoupled".
        no_decay: Patterns (regular expressions, found anywhere in "layer/variable") of the variables without decay.
        rate_multipliers: {pattern: factor of the rate} ("lr_mult" of Caffe); where several meet a variable, their
            product counts; 0: it stays as it is.
        accumulate: Batches to an update.
        ema: Share of the old in the moving average of the weights, 0.999 for one; None: no average. After the n-th
            update it is min(ema, (n - 1) / (n + 8)), so that short trainings are not averaged with their beginnings
            (the rule of TensorFlow 1's ExponentialMovingAverage with `num_updates`, except that the weights before the
            first update have no share).
        clip_norm: Largest norm that all gradients together may have; None: any.
    Raises:
        ValueError: A number that makes no sense; at `build`, a pattern that no variable meets.
    """

    _slots: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate,
        *,
        weight_decay: float = 0.0,
        decay: str = "l2",
        no_decay: Sequence[str] = NO_DECAY,
        rate_multipliers: Mapping[str, float] | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        clip_norm: float | None = None,
        **options,
    ):
        if decay not in ("l2", "decoupled"):
            raise ValueError(f"decay must be 'l2' or 'decoupled', received {decay!r}")
        if not isinstance(accumulate, int) or accumulate < 1:
            raise ValueError(f"accumulate must be a number of batches, received {accumulate!r}")
        if ema is not None and not 0 < ema < 1:
            raise ValueError(f"ema must lie between 0 and 1, received {ema!r}")
        if clip_norm is not None and clip_norm <= 0:
            raise ValueError(f"clip_norm must be positive, received {clip_norm!r}")
        learning_rate = learning_rate if callable(learning_rate) else float(learning_rate)
        super().__init__(learning_rate, **options)
        self._schedule = learning_rate if callable(learning_rate) else None
        self.weight_decay, self.decay, self.no_decay = float(weight_decay), decay, tuple(no_decay)
        self.rate_multipliers = dict(rate_multipliers or {})
        self.accumulate, self.ema, self.clip_norm = accumulate, ema, clip_norm
        self.skip_non_finite = False
        """Set under loss scaling: whether, with several replicas, a batch changes nothing if any of its gradients is
        infinite. (Keras 3's LossScaleOptimizer looks at the first replica's alone, before they are summed.)"""
        self._ready = False

    def build(self, variables):
        """Makes the variables that belong to the weights."""
        if self._ready:
            return
        paths = [path_of(variable) for variable in variables]
        self._factors = _factors(paths, self.rate_multipliers)
        self._decays = _decays(paths, self.weight_decay, self.no_decay)
        # Not the subclass's build: its variables have other names, and differ among the versions of Keras.
        keras.optimizers.Optimizer.build(self, variables)
        self._kept = [[self.add_variable_from_reference(v, name) for v in variables] for name in self._slots]
        self._averages, self._sums = [], []
        if self.ema is not None:
            self._averages = [self.add_variable_from_reference(v, "average") for v in variables]
            for average, variable in zip(self._averages, variables, strict=True):
                average.assign(tf.convert_to_tensor(variable))
        if self.accumulate > 1:
            self._sums = [self.add_variable_from_reference(v, "sum") for v in variables]
            self._batches = self.add_variable(shape=(), dtype="int64", name="batches")
        weights = [raw(variable) for variable in variables]
        self._weights = lambda: weights  # a list would be taken for variables of the optimiser's own
        self.built = self._built = self._ready = True  # the first as Keras 3 calls it, the second as Keras 2 does

    def rate(self) -> tf.Tensor:
        """Returns the learning rate of the next update, before multipliers."""
        if self._schedule is not None:
            return self._schedule(tf.convert_to_tensor(self.iterations))
        return tf.convert_to_tensor(self.learning_rate)

    def apply(self, grads, trainable_variables=None):
        """Takes the gradients of one batch (Keras 3 calls this under loss scaling)."""
        self.apply_gradients(zip(grads, trainable_variables or self._weights(), strict=True))

    def apply_gradients(self, grads_and_vars, name=None, skip_gradients_aggregation=False, **_):
        """Takes the gradients of one batch; after `accumulate` of them the weights change."""
        grads_and_vars = list(grads_and_vars)
        with tf.init_scope():
            self.build([variable for _, variable in grads_and_vars])
        pairs = [(tf.convert_to_tensor(g), self._place(v)) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ValueError("no variable has a gradient: the loss does not depend on the weights")
        gradients, places = map(list, zip(*pairs, strict=True))
        replica = tf.distribute.get_replica_context()
        if not skip_gradients_aggregation:
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        counts = due = tf.constant(True)  # whether this batch counts; whether the weights change after it
        batches = tf.constant(1, tf.int64)
        skips = self.skip_non_finite and replica.num_replicas_in_sync > 1
        if skips:
            counts = due = tf.math.is_finite(tf.linalg.global_norm(gradients))
            gradients = [tf.where(counts, gradient, tf.zeros_like(gradient)) for gradient in gradients]
        sums = gradients
        if self.accumulate > 1:
            sums = [g + tf.convert_to_tensor(self._sums[i]) for g, i in zip(gradients, places, strict=True)]
            batches = tf.convert_to_tensor(self._batches) + tf.cast(counts, tf.int64)
            due = counts & tf.equal(batches, self.accumulate)
            gradients = [total / self.accumulate for total in sums]
        if self.clip_norm is not None:
            norm = tf.linalg.global_norm([g for g, i in zip(gradients, places, strict=True) if self._factors[i]])
            gradients = [gradient * (self.clip_norm / tf.maximum(norm, self.clip_norm)) for gradient in gradients]
        number = tf.convert_to_tensor(self.iterations) + 1
        # Every replica has come to the same values. Now their copies of the variables change, all together.
        always = self.accumulate == 1 and not skips
        change_all = functools.partial(self._change_all, places, always)
        replica.merge_call(change_all, args=(sums, gradients, batches, due, self.rate(), number))
        return self.iterations

    def _change_all(self, places, always, strategy, sums, gradients, batches, due, rate, number):
        def change(variable, function, *args):
            strategy.extended.update(raw(variable), function, args=args, group=False)

        def change_if_due(variable, function, *args):
            change(variable, *((function, *args) if always else (_if_due(function), due, *args)))

        weights = self._weights()
        for i, total, gradient in zip(places, sums, gradients, strict=True):
            if self.accumulate > 1:
                change(self._sums[i], _assign_or_empty, due, total)
            if self._factors[i]:
                kept = [raw(slot[i]) for slot in self._kept]
                change_if_due(weights[i], self._decay_and_step(i), gradient, kept, rate, number)
        for average, weight in zip(self._averages, weights, strict=False):
            change_if_due(average, self._follow, weight, number)
        if self.accumulate > 1:
            change(self._batches, _assign_or_empty, due, batches)
        change_if_due(self.iterations, lambda variable: variable.assign_add(1))

    def _decay_and_step(self, i):
        """Returns what changes the weights in place i."""

        def function(weight, gradient, kept, rate, number):
            rate, decay = tf.cast(rate, weight.dtype) * self._factors[i], self._decays[i]
            if decay and self.decay == "l2":
                gradient += decay * weight
            elif decay:
                weight.assign_sub(rate * decay * weight)
            self._step(weight, gradient, kept, rate, tf.cast(number, weight.dtype))

        return function

    def _follow(self, average, weight, number):
        number = tf.cast(number, average.dtype)
        old = tf.minimum(tf.cast(self.ema, average.dtype), (number - 1) / (number + 8))
        average.assign(old * average + (1 - old) * weight)

    def _place(self, variable):
        """Returns the variable's place in the order in which `build` has seen them."""
        places = [i for i, weight in enumerate(self._weights()) if weight is raw(variable)]
        if not places:
            raise ValueError(f"{path_of(variable)} was not there when the optimiser was built; compile the model again")
        return places[0]

    @contextlib.contextmanager
    def averaged(self):
        """The weights are their averages, until the block ends; without `ema`, nothing changes."""
        if self.ema is None or not self._ready:
            yield
            return
        weights = self._weights()
        trained = [weight.numpy() for weight in weights]
        for weight, average in zip(weights, self._averages, strict=True):
            weight.assign(tf.convert_to_tensor(average))
        try:
            yield
        finally:
            for weight, value in zip(weights, trained, strict=True):
                weight.assign(value)

    def get_config(self):
        keras_config = super().get_config()
        own = ("weight_decay", "decay", "no_decay", "rate_multipliers", "accumulate", "ema", "clip_norm")
        return {
            **{name: keras_config[name] for name in ("name", "learning_rate")},
            **{name: getattr(self, name) for name in own},
            "no_decay": list(self.no_decay),
            "rate_multipliers": dict(self.rate_multipliers),
        }


def _if_due(function):
    def conditional(variable, due, *args):
        def true():
            function(variable, *args)
            return due

        tf.cond(due, true, lambda: due)

    return conditional


def _assign_or_empty(variable, due, value):
    variable.assign(tf.where(due, tf.zeros_like(value), value))


def update_of(optimizer: keras.optimizers.Optimizer) -> Update | None:
    """Returns the optimiser of ours, which may be within a LossScaleOptimizer; None for another."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return optimizer if isinstance(optimizer, Update) else None


def accumulated(model: keras.Model) -> int:
    """Returns the batches to an update of a compiled model."""
    update = update_of(model.optimizer)
    return 1 if update is None else update.accumulate


def has_averages(model: keras.Model) -> bool:
    """Whether a compiled model's optimiser keeps moving averages of the weights."""
    update = update_of(model.optimizer)
    return update is not None and update.ema is not None


def averaged(model: keras.Model):
    """Context in which a compiled model's weights are their moving averages, where its optimiser keeps such."""
    update = update_of(model.optimizer)
    return contextlib.nullcontext() if update is None else update.averaged()


def raw(variable) -> tf.Variable:
    """Returns TensorFlow's variable, which Keras 3 wraps into one of its own."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def path_of(variable) -> str:
    """Returns "layer/variable", under every Keras."""
    return getattr(variable, "path", variable.name).split(":")[0]


def _factors(paths, multipliers):
    _refuse_idle(multipliers, paths, "rate_multipliers")
    met = [[f for pattern, f in multipliers.items() if re.search(pattern, path)] for path in paths]
    return tuple(float(math.prod(factors)) for factors in met)


def _decays(paths, weight_decay, no_decay):
    _refuse_idle([pattern for pattern in no_decay if pattern not in NO_DECAY], paths, "no_decay")
    return tuple(0.0 if any(re.search(pattern, path) for pattern in no_decay) else weight_decay for path in paths)


def _refuse_idle(patterns, paths, name):
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            known = ", ".join(paths[:6]) + (", ..." if len(paths) > 6 else "")
            raise ValueError(f"{name}: no trainable variable is like {pattern!r}; there are {known}")
