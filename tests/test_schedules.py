"""Learning rates, against their formulas written out."""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg import training

RATE, STEPS, FLOOR = 0.5, 100, 0.1


@pytest.mark.parametrize("step", [0, 1, 37, 50, 99, 100, 120])
def test_poly_and_cosine_by_formula(step):
    done = min(step / STEPS, 1)
    poly = training.schedule("poly", RATE, steps=STEPS, floor=FLOOR, power=2)
    assert float(poly(step)) == pytest.approx(FLOOR + (RATE - FLOOR) * (1 - done) ** 2, abs=1e-7)
    cosine = training.schedule("cosine", RATE, steps=STEPS, floor=FLOOR)
    assert float(cosine(step)) == pytest.approx(FLOOR + (RATE - FLOOR) * (1 + np.cos(np.pi * done)) / 2, abs=1e-7)
    usual = training.schedule("poly", RATE, steps=STEPS)
    assert float(usual(step)) == pytest.approx(RATE * (1 - done) ** 0.9, abs=1e-7)


def test_poly_and_cosine_are_those_of_keras():
    ours = [training.schedule(name, RATE, steps=STEPS, floor=FLOOR) for name in ("poly", "cosine")]
    theirs = [
        keras.optimizers.schedules.PolynomialDecay(RATE, STEPS, FLOOR, 0.9),
        keras.optimizers.schedules.CosineDecay(RATE, STEPS, FLOOR / RATE),
    ]
    for step in range(0, 130, 13):
        for a, b in zip(ours, theirs, strict=True):
            assert float(a(step)) == pytest.approx(float(b(step)), abs=1e-7)


def test_constant_is_a_number():
    assert training.schedule("constant", RATE, steps=STEPS) == RATE
    assert type(training.schedule("constant", 1, steps=STEPS)) is float


def test_step_drops_as_caffe_does():
    """`step`: rate · gamma^floor(iter / stepsize); `multistep`: once more at each stepvalue (iter >= stepvalue)."""
    every = training.schedule("step", RATE, steps=STEPS, drops=30, factor=0.2)
    given = training.schedule("step", RATE, steps=STEPS, drops=[10, 60], factor=0.2, floor=0.05)
    mapped = training.schedule("step", RATE, steps=STEPS, drops={10: 0.5, 60: 0.1})
    for step in (0, 9, 10, 11, 29, 30, 59, 60, 61, 90, 119):
        assert float(every(step)) == pytest.approx(RATE * 0.2 ** (step // 30), rel=1e-6)
        assert float(mapped(step)) == pytest.approx(RATE * (0.5 if step >= 10 else 1) * (0.1 if step >= 60 else 1))
        assert float(given(step)) == pytest.approx(max(RATE * 0.2 ** ((step >= 10) + (step >= 60)), 0.05), rel=1e-6)


def test_warm_up_leads_into_the_schedule_where_it_stands():
    warm = training.schedule("poly", RATE, steps=STEPS, warmup_steps=20, warmup_rate=0.01)
    slow = training.schedule("poly", RATE, steps=STEPS, warmup_steps=20, warmup_rate=0.01, warmup="constant")
    constant = training.schedule("constant", RATE, steps=STEPS, warmup_steps=20)
    plain = training.schedule("poly", RATE, steps=STEPS)
    for step in (0, 7, 19):
        assert float(warm(step)) == pytest.approx(0.01 + (float(plain(20)) - 0.01) * step / 20, rel=1e-6)
        assert float(slow(step)) == pytest.approx(0.01)
        assert float(constant(step)) == pytest.approx(RATE * step / 20)
    for step in (20, 50, 100):
        assert float(warm(step)) == float(slow(step)) == float(plain(step))
        assert float(constant(step)) == RATE


@pytest.mark.parametrize(
    "options",
    [
        {"name": "step", "drops": [5, 7], "factor": 0.5},
        {"name": "step", "drops": 5},
        {"name": "step", "drops": {3: 0.5, 7: 0.1}},
        {"name": "cosine", "floor": 0.1, "warmup_steps": 4, "warmup_rate": 0.2, "warmup": "constant"},
    ],
)
def test_schedules_are_saved_within_their_optimiser(options):
    rate = training.schedule(learning_rate=RATE, steps=STEPS, **options)
    ours = training.optimizer("sgd", rate)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(ours))
    assert again.get_config()["learning_rate"] == ours.get_config()["learning_rate"]
    again.iterations.assign(6)
    assert float(again.rate()) == float(rate(6))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": "exponential"}, "'constant', 'poly', 'cosine' or 'step', received 'exponential'"),
        ({"learning_rate": 0}, "must be positive, received 0 and 100"),
        ({"steps": 0}, "must be positive, received 0.5 and 0"),
        ({"power": 0}, "power and factor must be positive, received 0"),
        ({"floor": 0.6}, "floor must lie between 0 and learning_rate .0.5., received 0.6"),
        ({"drops": 3}, "only it takes them; received 'poly' and 3"),
        ({"name": "step"}, "only it takes them; received 'step' and None"),
        ({"name": "step", "drops": [7, 5]}, "growing ones, received ..7, 0.1., .5, 0.1.."),
        ({"name": "step", "drops": 0}, "growing ones, received 0"),
        ({"name": "step", "drops": {5: 0.0}}, "must be positive, received ..5, 0.0.."),
        ({"warmup": "slow"}, "'linear' or 'constant', received 'slow'"),
        ({"warmup_steps": -1}, "must not be below 0, received -1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, expected):
    with pytest.raises(ValueError, match=expected):
        training.schedule(**{"name": "poly", "learning_rate": RATE, "steps": STEPS, **options})
