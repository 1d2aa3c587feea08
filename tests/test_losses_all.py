"""Every loss against its definition (`_loss_references.py`): value, gradient, and what ignored pixels do."""

import functools

import _loss_references as reference
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import kerasseg.losses
from kerasseg import losses, training
from kerasseg.augment import border_weights
from kerasseg.metrics import confusion_matrix, scores

K = 4


def case_of(loss, value, **options):
    return functools.partial(loss, **options), value


def regions(value, **options):
    return functools.partial(reference.regions, value=value, **options)


def hard(**options):
    return functools.partial(losses.HardPixelCrossEntropy, **options), functools.partial(
        reference.hard_pixels, **options
    )


# name: (the loss, from class_weights; its definition)
CASES = {
    "cross_entropy": (losses.CrossEntropy, reference.cross_entropy),
    "focal": (losses.Focal, functools.partial(reference.focal, gamma=2)),
    "focal_flat": (
        functools.partial(losses.Focal, gamma=0.5, reduction="sum"),
        functools.partial(reference.focal, gamma=0.5, reduction="sum"),
    ),
    "hard": hard(fraction=0.3),
    "hard_sum": hard(fraction=0.5, reduction="sum"),
    "hard_or_unsure": hard(fraction=0.1, max_probability=0.6),
    "dice": (losses.Dice, regions(reference.dice_value(1))),
    "dice_images": (
        functools.partial(losses.Dice, smooth=0, per_image=True, classes="present"),
        regions(reference.dice_value(0), per_image=True, classes="present"),
    ),
    "dice_one": (functools.partial(losses.Dice, classes=[1]), regions(reference.dice_value(1), classes=[1])),
    "jaccard": (functools.partial(losses.Jaccard, smooth=0.5), regions(reference.jaccard_value(0.5))),
    "tversky": (losses.Tversky, regions(reference.tversky_value(0.3, 0.7, 1))),
    "lovasz": (losses.Lovasz, regions(reference.lovasz_value, classes="present")),
    "lovasz_all": (functools.partial(losses.Lovasz, classes="all"), regions(reference.lovasz_value)),
    "lovasz_images": (
        functools.partial(losses.Lovasz, per_image=True),
        regions(reference.lovasz_value, classes="present", per_image=True),
    ),
    "unet++": (losses.CrossEntropyDice, functools.partial(reference.cross_entropy_dice, variant="paper")),
    "unet++_code": (
        functools.partial(losses.CrossEntropyDice, "original"),
        functools.partial(reference.cross_entropy_dice, variant="original"),
    ),
}
CLASS_WEIGHTS = {K: [1.0, 0.0, 2.5, 0.1], 1: [0.5, 2.0]}
every_loss = pytest.mark.parametrize("name", CASES)


def random_case(num_logits=K, shape=(2, 4, 5), seed=0):
    """Returns mask, logits, weights; a third is ignored, all of a third image, and class 3 occurs in one image only."""
    rng = np.random.default_rng(seed)
    shape = (shape[0] + 1, *shape[1:])
    mask = rng.integers(0, max(num_logits, 2), shape)
    mask[0][mask[0] == 3] = 2
    mask[rng.uniform(size=shape) < 0.3] = 255
    mask[-1] = 255
    weights = rng.integers(0, 4, shape) / 2
    return mask, rng.normal(0, 1.5, (*shape, num_logits)).astype(np.float32), weights.astype(np.float32)


def value_and_gradient(loss, mask, logits, weights=None):
    logits = tf.convert_to_tensor(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(mask, logits, weights)
    return float(value), tf.cast(tape.gradient(value, logits), tf.float32).numpy()


@every_loss
@pytest.mark.parametrize("num_logits", [K, 1])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_by_definition(name, num_logits, weighted):
    make, definition = CASES[name]
    mask, logits, weights = random_case(num_logits)
    if not weighted:
        weights = np.ones_like(weights)
    class_weights = CLASS_WEIGHTS[num_logits] if weighted else None
    expected = functools.partial(
        definition, mask, weights=weights, class_weights=class_weights or [1.0] * max(num_logits, 2)
    )
    loss = make(class_weights=class_weights)
    value, gradient = value_and_gradient(loss, mask, logits, weights if weighted else None)
    assert value == pytest.approx(expected(logits), rel=2e-5)
    assert np.all(gradient[mask == 255] == 0)

    rng, step = np.random.default_rng(1), 1e-6
    directions = [rng.normal(size=logits.shape) for _ in range(3)]
    directions += [np.eye(logits.size)[i].reshape(logits.shape) for i in rng.choice(logits.size, 3)]
    for direction in directions:
        up, down = (expected(logits.astype(np.float64) + sign * step * direction) for sign in (1, -1))
        assert np.sum(gradient * direction) == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["focal", "hard", "dice", "lovasz"])
def test_graph_and_xla_give_what_eager_gives(name):
    mask, logits, weights = random_case()
    loss = CASES[name][0](class_weights=CLASS_WEIGHTS[K])
    expected = float(loss(mask, logits, weights))
    signature = [
        tf.TensorSpec([None, None, None], tf.int64),
        tf.TensorSpec([None, None, None, K]),
        tf.TensorSpec([None, None, None]),
    ]
    assert float(tf.function(loss, input_signature=signature)(mask, logits, weights)) == pytest.approx(expected, 1e-6)
    assert float(tf.function(loss, jit_compile=True)(mask, logits, weights)) == pytest.approx(expected, 1e-5)


@every_loss
@pytest.mark.parametrize("num_logits", [K, 1])
def test_nothing_valid_gives_zero_and_no_gradient(name, num_logits):
    _, logits, weights = random_case(num_logits)
    nothing = np.full(weights.shape, 255)
    for mask, weight in ((nothing, None), (nothing, weights), (nothing * 0, weights * 0)):
        value, gradient = value_and_gradient(CASES[name][0](), mask, logits, weight)
        assert value == 0
        assert not gradient.any()


@every_loss
@pytest.mark.parametrize("num_logits", [K, 1])
def test_extreme_logits_give_finite_values_and_gradients(name, num_logits):
    """Right and wrong without any doubt, and where probabilities are too small for a float32 to be exact."""
    mask, _, _ = random_case(num_logits)
    for size in (1e4, 95.0, 87.0, 17.0):
        for right in (True, False):
            logits = np.full((*mask.shape, num_logits), -size, np.float32)
            truth = np.where(mask == 255, 0, mask)
            if num_logits == 1:
                logits[..., 0] = np.where((truth == 1) == right, size, -size)
            else:
                np.put_along_axis(logits, ((truth + (not right)) % K)[..., None], size, -1)
            value, gradient = value_and_gradient(CASES[name][0](), mask, logits)
            assert np.isfinite(value)
            assert value >= 0
            assert np.isfinite(gradient).all()
            if right and size >= 87:
                assert value == pytest.approx(0, abs=1e-6)


@every_loss
def test_masks_larger_than_the_logits_and_other_labels(name):
    mask, logits, weights = random_case()
    loss, other = CASES[name][0](), CASES[name][0](ignore_label=7)
    expected = float(loss(mask, logits, weights))
    border = ((0, 0), (1, 2), (3, 3))
    wide, wide_weights = np.pad(mask, border), np.pad(weights, border, constant_values=3)
    assert float(loss(wide[..., None], logits, wide_weights)) == pytest.approx(expected, rel=1e-6)
    assert float(other(np.where(mask == 255, 7, mask), logits, weights)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected labels 0\.\.3 in the mask; check num_classes"):
        other(mask, logits, weights)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected labels 0\.\.1 in the mask"):
        loss(mask, logits[..., :1])
    with pytest.raises(ValueError, match="expected 2 class_weights, one a class, received 4"):
        CASES[name][0](class_weights=CLASS_WEIGHTS[K])(mask, logits[..., :1])


@every_loss
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(name, precision):
    """67 600 pixels: their sum overflows float16, and bfloat16 counts to 256."""
    rng = np.random.default_rng(3)
    logits = tf.cast(rng.normal(size=(1, 260, 260, K)), precision)
    mask = rng.integers(0, K, (1, 260, 260))
    loss = CASES[name][0]()
    value = loss(mask, logits)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(float(loss(mask, tf.cast(logits, tf.float32))), rel=1e-6)
    assert value_and_gradient(loss, mask[:, :20, :20], logits[:, :20, :20])[1].any()


@every_loss
def test_config_round_trip(name):
    loss = CASES[name][0](ignore_label=9, class_weights=np.array([1, 2, 3, 4.5]), name="x")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    mask, logits, weights = random_case()
    mask = np.where(mask == 255, 9, mask)
    assert float(again(mask, logits, weights)) == float(loss(mask, logits, weights))


def test_every_public_loss_is_among_the_cases():
    tested = {type(make()) for make, _ in CASES.values()} | {losses.Sum, losses.SampledCrossEntropy}
    bases = {losses.SegmentationLoss, losses.PixelLoss, losses.RegionLoss}
    assert {getattr(losses, name) for name in kerasseg.losses.__all__} == tested | bases


@pytest.mark.parametrize("name", ["hard", "lovasz_images", "unet++"])
def test_fit_and_a_saved_model(name, tmp_path):
    mask, _, weights = random_case(shape=(4, 6, 6))
    image = np.random.default_rng(3).normal(size=(*mask.shape, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(K, 1)])
    model.compile(keras.optimizers.SGD(0.1), CASES[name][0](), jit_compile=False)
    expected = CASES[name][1](mask, model(image).numpy(), weights, [1.0] * K)
    data = tf.data.Dataset.from_tensors((image, mask, weights))
    history = model.fit(data.repeat(10), epochs=2, steps_per_epoch=1, verbose=0, shuffle=False).history["loss"]
    assert history[0] == pytest.approx(expected, rel=2e-5)
    assert history[1] < history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(data, verbose=0) == pytest.approx(model.evaluate(data, verbose=0), rel=1e-5)


def two_headed(num_logits=K):
    image = keras.Input((None, None, 3))
    first = keras.layers.Conv2D(num_logits, 1, name="first")(image)
    return keras.Model(image, [first, keras.layers.Conv2D(num_logits, 1, name="last")(first)])


def test_a_loss_and_a_weight_for_each_output():
    mask, _, weights = random_case(shape=(3, 6, 6))
    image = np.random.default_rng(3).normal(size=(*mask.shape, 3)).astype(np.float32)
    model = two_headed()
    data = tf.data.Dataset.from_tensors((image, (mask, mask), (weights, weights)))
    ramp = losses.HardPixelCrossEntropy(0.2, ramp_steps=10)
    for loss, factors, parts in [
        ([losses.CrossEntropy(), losses.Dice()], [0.5, 2], (0.5, losses.CrossEntropy(), 2, losses.Dice())),
        ([None, losses.Dice()], None, (0, losses.Dice(), 1, losses.Dice())),
        (ramp, None, (1, losses.CrossEntropy(), 1, losses.CrossEntropy())),  # at step 0 all pixels are kept
    ]:
        training.compile(model, training.optimizer("sgd", 0.0), loss, loss_weights=factors)
        first, last = model(image)
        expected = parts[0] * float(parts[1](mask, first, weights)) + parts[2] * float(parts[3](mask, last, weights))
        history = model.fit(data, verbose=0, shuffle=False).history
        assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    for options in ({"loss": [ramp]}, {"loss": ramp, "loss_weights": [1]}):
        with pytest.raises(ValueError, match="expected 2 loss.*, one an output, received 1"):
            training.compile(model, training.optimizer("sgd", 0.0), **options)


def test_one_logit_in_training_and_validation():
    mask, _, _ = random_case(1, shape=(3, 6, 6))
    image = np.random.default_rng(3).normal(size=(*mask.shape, 3)).astype(np.float32)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs))
    training.compile(model, training.optimizer("sgd", 0.0), losses.CrossEntropyDice())
    logs = model.evaluate(image, mask, batch_size=4, verbose=0, return_dict=True)
    logits = model(image).numpy()
    assert logs["loss"] == pytest.approx(float(losses.CrossEntropyDice()(mask, logits)), rel=1e-5)
    score = scores(confusion_matrix(mask, (logits[..., 0] > 0).astype(int), 2))["mean_iou"]
    assert logs["mean_iou"] == pytest.approx(score, rel=1e-6)
    data = tf.data.Dataset.from_tensor_slices((image, mask)).batch(1)
    assert training.Validation(model, data)()["val_mean_iou"] == pytest.approx(score, rel=1e-6)


def test_relations_between_losses():
    arguments = random_case(shape=(3, 6, 7))
    pairs = [
        (losses.Focal(gamma=0), losses.CrossEntropy()),
        (losses.HardPixelCrossEntropy(1.0), losses.CrossEntropy()),
        (losses.HardPixelCrossEntropy(0.01, max_probability=1.0), losses.CrossEntropy()),
        (losses.Tversky(1, 1, smooth=0.5), losses.Jaccard(smooth=0.5)),
        (losses.Tversky(0.5, 0.5, smooth=0.5), losses.Dice(smooth=1)),
        (losses.Focal(alpha=0.25), losses.Focal(class_weights=[0.75, 0.25])),
    ]
    for one, other in pairs[:-1]:
        assert float(one(*arguments)) == pytest.approx(float(other(*arguments)), rel=1e-6)
    binary = random_case(1)
    assert float(pairs[-1][0](*binary)) == pytest.approx(float(pairs[-1][1](*binary)), rel=1e-6)


def test_one_logit_is_keras_binary_cross_entropy():
    mask, logits, _ = random_case(1)
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(mask[mask < 255][:, None], logits[mask < 255])
    assert float(losses.CrossEntropy()(mask, logits)) == pytest.approx(float(expected), rel=1e-6)


def test_hard_predictions_give_one_minus_iou():
    """The Lovász extension and the soft losses equal the set functions where probabilities are 0 and 1."""
    mask, logits, _ = random_case(shape=(2, 9, 8))
    predicted = logits.argmax(-1)
    sure = 200 * np.eye(K, dtype=np.float32)[predicted]
    result = scores(confusion_matrix(mask, predicted, K))
    assert not result["absent_classes"]
    for loss in (losses.Lovasz(), losses.Jaccard(smooth=0)):
        assert float(loss(mask, sure)) == pytest.approx(1 - result["mean_iou"], abs=1e-5)


def test_lovasz_of_many_pixels_in_one_bin():
    """40 000 pixels in 65 536 bins, and all of them in three: the value stays right to the width of a bin."""
    rng = np.random.default_rng(5)
    mask = rng.integers(0, 2, (1, 200, 200))
    smooth = rng.normal(size=(1, 200, 200, 1)).astype(np.float32)
    for logits in (smooth, np.round(smooth) * 3, smooth * 1e-6):
        inside, p = mask.ravel() == 1, reference.softmax(logits)[..., 1].ravel()
        errors = np.where(inside, 1 - p, p)
        order = np.argsort(-errors)
        right = inside.sum() - np.cumsum(inside[order])
        gain = np.diff(1 - right / (inside.sum() + np.cumsum(~inside[order])), prepend=0)
        assert float(losses.Lovasz()(mask, logits)) == pytest.approx(float(errors[order] @ gain), abs=2e-5)


def test_ties_at_the_limit_share_what_is_left():
    """Ten pixels, of which 2 are harder than the other 8; of 5 places those 8 share 3."""
    mask = np.zeros((1, 2, 5), int)
    logits = np.zeros((1, 2, 5, 2), np.float32)
    logits[0, 0, :2, 1] = 4
    value, gradient = value_and_gradient(losses.HardPixelCrossEntropy(0.5), mask, logits)
    hard, easy = np.log(1 + np.exp(4)), np.log(2)
    assert value == pytest.approx((2 * hard + 3 * easy) / 5, rel=1e-6)
    np.testing.assert_allclose(gradient[0, 0, :2, 1], 1 / (1 + np.exp(-4)) / 5, rtol=1e-5)
    np.testing.assert_allclose(gradient[0, 1, :, 1], 0.5 * 3 / 8 / 5, rtol=1e-5)


def test_the_ramp_follows_the_steps():
    mask, logits, weights = random_case(shape=(3, 8, 9))
    loss = losses.HardPixelCrossEntropy(0.2, ramp_steps=100)
    with pytest.raises(ValueError, match=r"HardPixelCrossEntropy changes .*call loss.follow\(model.optimizer.iter"):
        loss(mask, logits)
    optimizer = keras.optimizers.SGD()
    loss.follow(optimizer.iterations)
    in_graph = tf.function(loss)
    for step, fraction in ((0, 1.0), (25, 0.8), (100, 0.2), (1000, 0.2)):
        optimizer.iterations.assign(step)
        expected = reference.hard_pixels(mask, logits, weights, [1.0] * K, fraction)
        assert float(in_graph(mask, logits, weights)) == pytest.approx(expected, rel=1e-5)


class TestSampling:
    """The pixels kept are read off the gradient, and the value computed from them."""

    def draw(self, step=3, mask=None, logits=None, **options):
        loss = losses.SampledCrossEntropy(**options)
        loss.follow(tf.Variable(step))
        value, gradient = value_and_gradient(loss, mask, logits)
        return value, gradient.any(-1)

    @pytest.fixture
    def case(self):
        mask, logits, _ = random_case(shape=(3, 50, 61))
        return {"mask": mask, "logits": logits}

    @pytest.mark.parametrize("reduction", ["valid_mean", "sum"])
    @pytest.mark.parametrize("rescale", [True, False])
    def test_value_of_the_pixels_kept(self, case, reduction, rescale):
        value, kept = self.draw(**case, keep=0.3, reduction=reduction, rescale=rescale)
        valid = case["mask"] != 255
        assert not kept[~valid].any()
        assert kept[valid].mean() == pytest.approx(0.3, abs=0.02)
        mask = np.where(kept, case["mask"], 255)
        ones = np.ones(mask.shape)
        expected = reference.cross_entropy(mask, case["logits"], ones, [1.0] * K, reduction)
        assert value == pytest.approx(expected / (0.3 if rescale and reduction == "sum" else 1), rel=1e-5)

    def test_cells_are_kept_whole(self, case):
        case["mask"] = np.where(case["mask"] == 255, 0, case["mask"])
        _, kept = self.draw(**case, cell=8)
        kept = np.pad(kept, ((0, 0), (0, 6), (0, 3)), mode="edge").reshape(4, 7, 8, 8, 8).swapaxes(2, 3)
        cells = kept.reshape(4, 7, 8, 64)
        assert np.all(cells.all(-1) == cells.any(-1))
        assert 0.3 < cells[..., 0].mean() < 0.7

    def test_draws_depend_on_seed_and_step_alone(self, case):
        _, kept = self.draw(**case)
        np.testing.assert_array_equal(self.draw(**case)[1], kept)
        for options in ({"step": 4}, {"seed": 1}):
            other = self.draw(**{**case, **options})[1]
            assert 0.4 < (other == kept)[case["mask"] != 255].mean() < 0.6

    def test_a_step_is_needed_and_the_configuration_returns(self, case):
        loss = losses.SampledCrossEntropy(0.25, cell=32, seed=5, rescale=False, reduction="sum")
        with pytest.raises(ValueError, match="was not told where to read them"):
            loss(**{"y_true": case["mask"], "y_pred": case["logits"]})
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()


def test_sums_of_losses():
    arguments = random_case()
    parts = [losses.CrossEntropy(), losses.Sum([losses.Lovasz(), losses.Dice()])]
    total = losses.Sum(parts, [0.5, 2])
    expected = 0.5 * float(parts[0](*arguments)) + 2 * float(losses.Lovasz()(*arguments))
    expected += 2 * float(losses.Dice()(*arguments))
    assert float(total(*arguments)) == pytest.approx(expected, rel=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(total))
    assert again.get_config() == total.get_config()
    assert float(again(*arguments)) == float(total(*arguments))

    ramp = losses.HardPixelCrossEntropy(0.5, ramp_steps=10)
    total = losses.Sum([losses.Sum([ramp])])
    total.follow(tf.Variable(10))
    assert float(total(*arguments)) == float(losses.HardPixelCrossEntropy(0.5)(*arguments))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Focal(gamma=-1), "gamma must be a finite number of at least 0, received -1"),
        (lambda: losses.Focal(alpha=2), "alpha must be a number from 0 to 1"),
        (lambda: losses.HardPixelCrossEntropy(0), "fraction must be a number above 0"),
        (lambda: losses.HardPixelCrossEntropy(ramp_steps=-1), "ramp_steps must be at least 0"),
        (lambda: losses.HardPixelCrossEntropy(max_probability=0), "max_probability must be"),
        (lambda: losses.SampledCrossEntropy(1.5), "keep must be a probability"),
        (lambda: losses.SampledCrossEntropy(cell=0), "cell must be a side"),
        (lambda: losses.Dice(smooth=-1), "smooth must be a finite number"),
        (lambda: losses.Dice(classes="some"), "classes must be 'all', 'present' or class ids, received 'some'"),
        (lambda: losses.Dice(classes=[1, 1]), "different class ids"),
        (lambda: losses.Tversky(alpha=-0.1), "alpha and beta must be"),
        (lambda: losses.CrossEntropyDice("code"), "variant must be 'paper' or 'original', received 'code'"),
        (lambda: losses.Sum([]), "expected losses and a weight for each"),
        (lambda: losses.Sum([losses.Dice()], [1, 2]), "a weight for each, received 1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_fit_together_is_named():
    mask, logits, _ = random_case()
    with pytest.raises(ValueError, match=r"expected class ids 0\.\.3, received classes \[1, 4\]"):
        losses.Dice(classes=[1, 4])(mask, logits)
    with pytest.raises(ValueError, match="alpha is for two classes, received 4: give class_weights"):
        losses.Focal(alpha=0.25)(mask, logits)
    with pytest.raises(TypeError, match=r"expected losses of kerasseg\.losses"):
        losses.Sum([keras.losses.MeanSquaredError()])


@pytest.mark.parametrize("reduction", ["sum", "valid_mean"])
def test_unets_weighted_cross_entropy(reduction):
    """Equation 1 of the paper, Σ w(x) · -log p(x), with the weight map of two cells close to each other."""
    instances = np.zeros((1, 12, 14), int)
    instances[0, 2:9, 1:6], instances[0, 3:10, 8:13] = 1, 2
    mask = np.where(instances > 0, 1, 0)
    mask[0, -1] = 255
    weights = border_weights(instances[0], mask=mask[0])[None]
    assert weights[0, 5, 6] > 2 * weights[0, 0, 0]
    logits = np.random.default_rng(0).normal(size=(1, 12, 14, 2)).astype(np.float32)
    p = reference.softmax(logits)
    total = sum(weights[i] * -np.log(p[i][mask[i]]) for i in np.ndindex(mask.shape) if mask[i] != 255)
    expected = total if reduction == "sum" else total / (mask != 255).sum()
    assert float(losses.CrossEntropy(reduction=reduction)(mask, logits, weights)) == pytest.approx(expected, rel=1e-5)
