"""Optimisers, against the same updates written out in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import training
from kerasseg.losses import CrossEntropy

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.05
SHAPES = {"one/kernel": (3, 2), "one/bias": (2,), "norm/gamma": (2,), "norm/beta": (2,), "two/kernel": (2, 4)}


class Weights(keras.layers.Layer):
    def __init__(self, shapes, name):
        super().__init__(name=name)
        for kind, shape in shapes.items():
            self.add_weight(name=kind, shape=shape, initializer="random_normal")


def weights_and_gradients(steps=4, scale=1.0):
    """Returns variables by path with their start, and gradients for each step."""
    keras.utils.set_random_seed(1)
    variables = {}
    for layer in ("one", "norm", "two"):
        kinds = {path.split("/")[1]: shape for path, shape in SHAPES.items() if path.startswith(layer + "/")}
        with tf.name_scope(layer):  # Keras 2 does so when a layer is built in a model
            built = Weights(kinds, layer)
        variables.update({f"{layer}/{kind}": v for kind, v in zip(kinds, built.trainable_variables, strict=True)})
    rng = np.random.default_rng(0)
    gradients = [
        {path: (scale * rng.normal(size=shape)).astype(np.float32) for path, shape in SHAPES.items()}
        for _ in range(steps)
    ]
    return variables, gradients


def train(optimizer, variables, gradients):
    for step in gradients:
        optimizer.apply_gradients([(tf.constant(step[path]), variables[path]) for path in variables])
    return {path: variable.numpy() for path, variable in variables.items()}


def numpy_of(variables):
    return {path: variable.numpy().astype(np.float64) for path, variable in variables.items()}


def caffe_sgd(w, gradients, rates, decays=None, lr_mult=None, nesterov=False):
    """SGDSolver::ComputeUpdateValue of Caffe for each variable and step; NesterovSolver's in its own words."""
    decays, lr_mult = decays or {}, lr_mult or {}
    history = {path: np.zeros_like(value) for path, value in w.items()}
    for step, rate in zip(gradients, rates, strict=True):
        for path in w:
            local_rate = rate * lr_mult.get(path, 1)
            diff = step[path] + decays.get(path, 0) * w[path]
            before = history[path]
            history[path] = local_rate * diff + MOMENTUM * before
            update = (1 + MOMENTUM) * history[path] - MOMENTUM * before if nesterov else history[path]
            w[path] = w[path] - update
    return w


def adam(w, gradients, rate, lr_mult=None, decay=0.0, decayed=()):
    """Kingma and Ba's Algorithm 1 in the efficient form; decoupled decay."""
    mean = {path: np.zeros_like(v) for path, v in w.items()}
    square = {path: np.zeros_like(v) for path, v in w.items()}
    for n, step in enumerate(gradients, 1):
        for path in w:
            local = rate * (lr_mult or {}).get(path, 1)
            mean[path] = 0.9 * mean[path] + 0.1 * step[path]
            square[path] = 0.999 * square[path] + 0.001 * step[path] ** 2
            corrected = local * np.sqrt(1 - 0.999**n) / (1 - 0.9**n)
            change = corrected * mean[path] / (np.sqrt(square[path]) + 1e-7)
            w[path] = w[path] - change - (local * decay * w[path] if path in decayed else 0)
    return w


def assert_equal(ours, expected, atol=2e-6):
    assert ours.keys() == expected.keys()
    for path in ours:
        np.testing.assert_allclose(ours[path], expected[path], atol=atol, err_msg=path)


KERNELS = ("one/kernel", "two/kernel")


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_caffes(nesterov):
    variables, gradients = weights_and_gradients()
    expected = caffe_sgd(
        numpy_of(variables),
        gradients,
        [RATE] * 4,
        decays=dict.fromkeys(KERNELS, DECAY),
        lr_mult={"one/bias": 2, "two/kernel": 10, "norm/gamma": 0},
        nesterov=nesterov,
    )
    multipliers = {"bias$": 2, "^two/": 10, "gamma": 0}
    ours = training.optimizer("sgd", RATE, weight_decay=DECAY, rate_multipliers=multipliers, nesterov=nesterov)
    assert_equal(train(ours, variables, gradients), expected)


def test_the_rate_is_inside_the_momentum():
    variables, gradients = weights_and_gradients()
    rate = training.schedule("step", RATE, steps=4, drops=2)
    expected = caffe_sgd(numpy_of(variables), gradients, [RATE, RATE, RATE / 10, RATE / 10])
    assert_equal(train(training.optimizer("sgd", rate), variables, gradients), expected)


def test_sgd_is_that_of_keras():
    ours, gradients = weights_and_gradients()
    theirs, _ = weights_and_gradients()
    a = train(training.optimizer("sgd", RATE, nesterov=True), ours, gradients)
    assert_equal(a, train(keras.optimizers.SGD(RATE, MOMENTUM, nesterov=True), theirs, gradients), 1e-7)


def test_adam_by_the_paper_and_by_keras():
    ours, gradients = weights_and_gradients()
    theirs, _ = weights_and_gradients()
    expected = adam(numpy_of(ours), gradients, RATE)
    a = train(training.optimizer("adam", RATE), ours, gradients)
    assert_equal(a, expected)
    assert_equal(a, train(keras.optimizers.Adam(RATE), theirs, gradients), 1e-5)


def test_multipliers_scale_the_step_of_adam():
    variables, gradients = weights_and_gradients()
    lr_mult = {"one/bias": 20, "one/kernel": 10, "two/kernel": 0, "norm/gamma": 1, "norm/beta": 1}
    expected = adam(numpy_of(variables), gradients, 0.01, lr_mult, DECAY, KERNELS)
    multipliers = {"^one/": 10, "bias": 2, "^two/kernel$": 0}  # two patterns meet one/bias
    ours = training.optimizer("adam", 0.01, weight_decay=DECAY, decay="decoupled", rate_multipliers=multipliers)
    assert_equal(train(ours, variables, gradients), expected, 1e-5)


def test_decoupled_decay_of_sgd_stays_out_of_the_momentum():
    variables, gradients = weights_and_gradients()
    w = numpy_of(variables)
    velocity = dict.fromkeys(w, 0.0)
    for step in gradients:
        for path in w:
            velocity[path] = MOMENTUM * velocity[path] - RATE * step[path]
            w[path] = w[path] + velocity[path] - (RATE * DECAY * w[path] if path in KERNELS else 0)
    ours = training.optimizer("sgd", RATE, weight_decay=DECAY, decay="decoupled")
    assert_equal(train(ours, variables, gradients), w)


def test_l2_is_a_part_of_the_gradient_of_adam():
    variables, gradients = weights_and_gradients(steps=1)
    w = numpy_of(variables)
    decayed = [{path: g + (DECAY * w[path] if path in KERNELS else 0) for path, g in gradients[0].items()}]
    expected = adam(w, decayed, RATE)
    assert_equal(train(training.optimizer("adam", RATE, weight_decay=DECAY), variables, gradients), expected)


def test_decay_leaves_out_what_it_is_told():
    variables, gradients = weights_and_gradients()
    decays = dict.fromkeys(("two/kernel", "norm/gamma"), DECAY)
    expected = caffe_sgd(numpy_of(variables), gradients, [RATE] * 4, decays)
    ours = training.optimizer("sgd", RATE, weight_decay=DECAY, no_decay=("^one/", "beta"))
    assert_equal(train(ours, variables, gradients), expected)
    variables, gradients = weights_and_gradients()
    expected = caffe_sgd(numpy_of(variables), gradients, [RATE] * 4, dict.fromkeys(SHAPES, DECAY))
    ours = training.optimizer("sgd", RATE, weight_decay=DECAY, no_decay=())
    assert_equal(train(ours, variables, gradients), expected)


@pytest.mark.parametrize("argument", ["rate_multipliers", "no_decay"])
def test_a_pattern_without_a_variable_is_refused(argument):
    variables, gradients = weights_and_gradients()
    optimizer = training.optimizer("sgd", RATE, **{argument: {"^logit/": 10.0}})
    with pytest.raises(ValueError, match=rf"{argument}: no trainable variable is like '\^logit/'; .*one/kernel"):
        train(optimizer, variables, gradients)


def test_clipping_is_by_the_norm_of_all_gradients():
    variables, gradients = weights_and_gradients(steps=3)
    gradients[1] = {path: 1e-3 * g for path, g in gradients[1].items()}  # short: stays as it is
    clipped = []
    for step in gradients:
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in step.values()))
        clipped.append({path: g * min(1, 2 / norm) for path, g in step.items()})
    assert any((a["one/bias"] != b["one/bias"]).all() for a, b in zip(clipped, gradients, strict=True))
    expected = caffe_sgd(numpy_of(variables), clipped, [RATE] * 3, dict.fromkeys(KERNELS, DECAY))
    ours = training.optimizer("sgd", RATE, weight_decay=DECAY, clip_norm=2.0)
    assert_equal(train(ours, variables, gradients), expected)


def test_averages_follow_the_weights():
    variables, gradients = weights_and_gradients(steps=30)
    optimizer = training.optimizer("sgd", 0.01, ema=0.7)
    expected = None
    for n, step in enumerate(gradients, 1):
        train(optimizer, variables, [step])
        old = min(0.7, (n - 1) / (n + 8))
        now = numpy_of(variables)
        expected = now if expected is None else {k: old * expected[k] + (1 - old) * now[k] for k in now}
    trained = {path: variable.numpy() for path, variable in variables.items()}
    with optimizer.averaged():
        assert_equal({path: variable.numpy() for path, variable in variables.items()}, expected)
    for path, variable in variables.items():
        np.testing.assert_array_equal(variable.numpy(), trained[path])


def test_variables_without_a_gradient_stay_as_they_are():
    variables, gradients = weights_and_gradients(steps=1)
    before = variables["two/kernel"].numpy()
    pairs = [(None if path == "two/kernel" else tf.constant(g), variables[path]) for path, g in gradients[0].items()]
    optimizer = training.optimizer("sgd", RATE, weight_decay=DECAY, accumulate=2)
    for _ in range(2):
        optimizer.apply_gradients(pairs)
    np.testing.assert_array_equal(variables["two/kernel"].numpy(), before)
    with pytest.raises(ValueError, match="no variable has a gradient"):
        optimizer.apply_gradients([(None, variable) for variable in variables.values()])


def test_optimizers_round_trip_through_their_config():
    options = {"weight_decay": 0.01, "decay": "decoupled", "no_decay": ("x",), "rate_multipliers": {"^a/": 2.0}}
    options |= {"accumulate": 3, "ema": 0.9, "clip_norm": 5.0}
    for ours in (
        training.SGD(0.1, momentum=0.5, nesterov=True, **options),
        training.Adam(training.schedule("cosine", 0.1, steps=5), beta_2=0.99, epsilon=1e-8, **options),
    ):
        again = keras.optimizers.deserialize(keras.optimizers.serialize(ours))
        assert type(again) is type(ours)
        assert again.get_config() == ours.get_config()
        for name, value in options.items():
            assert getattr(again, name) == value


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "lion"}, "'sgd' or 'adam', received 'lion'"),
        ({"decay": "both"}, "'l2' or 'decoupled', received 'both'"),
        ({"accumulate": 0}, "accumulate must be a number of batches, received 0"),
        ({"ema": 1.0}, "ema must lie between 0 and 1, received 1.0"),
        ({"clip_norm": 0}, "clip_norm must be positive, received 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        training.optimizer(**{"name": "sgd", "learning_rate": 0.1, **options})


# Accumulation, in a model


def dense_batches(parts, steps=3, batch=8):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(steps * batch, 4, 4, 3)).astype(np.float32)
    mask = rng.integers(0, 2, (steps * batch, 4, 4)).astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((image, mask)).batch(batch // parts)


def fitted(accumulate, name, dtype="float32", **options):
    keras.utils.set_random_seed(1)
    keras.mixed_precision.set_global_policy(dtype)
    try:
        image = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, padding="same", activation="tanh", name="one")(image)
        model = keras.Model(image, keras.layers.Conv2D(2, 1, name="two", dtype="float32")(x))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    rate = training.schedule("poly", 0.1 if name == "sgd" else 0.01, steps=10)
    options = {"weight_decay": 0.01, "rate_multipliers": {"bias": 2}, "clip_norm": 0.2, "ema": 0.9, **options}
    training.compile(model, training.optimizer(name, rate, accumulate=accumulate, **options), CrossEntropy())
    model.fit(dense_batches(accumulate), verbose=0, shuffle=False)
    return model


@pytest.mark.parametrize("name", ["sgd", pytest.param("adam", marks=pytest.mark.slow)])
def test_four_accumulated_batches_are_one_four_times_as_large(name):
    one, four = fitted(1, name), fitted(4, name)
    assert int(one.optimizer.iterations) == int(four.optimizer.iterations) == 3
    for a, b in zip(four.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with one.optimizer.averaged(), four.optimizer.averaged():
        for a, b in zip(four.get_weights(), one.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_nothing_changes_between_updates():
    variables, gradients = weights_and_gradients(steps=3)
    before = numpy_of(variables)
    optimizer = training.optimizer("sgd", RATE, weight_decay=DECAY, accumulate=4, ema=0.9)
    assert_equal(train(optimizer, variables, gradients), before, 0)
    assert int(optimizer.iterations) == 0
    train(optimizer, variables, gradients[:1])
    assert int(optimizer.iterations) == 1
    with optimizer.averaged():
        assert (variables["one/kernel"].numpy() != before["one/kernel"]).all()
