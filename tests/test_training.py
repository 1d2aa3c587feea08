"""Schedules, optimisers, run folder, validation and the loop, on data made up here."""

import csv
import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import training
from kerasseg.layers import LegalInputSize, MergeClasses, Normalize
from kerasseg.losses import CrossEntropy
from kerasseg.metrics import MeanIoU, confusion_matrix, scores
from kerasseg.spec import DataError

pytestmark = pytest.mark.usefixtures("undrawn")

STEPS, EVERY = 10, 4
# Keras 2 keeps what dropout draws from to itself: a resumed run draws anew.
DROPOUT = 0.3 if hasattr(keras, "ops") else 0.0


def bright_and_dark(number=6, side=12, seed=0):
    """Images whose left or right part is bright; class 1 where bright, the first row ignored."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((number, side, side), np.int32)
    for index, edge in enumerate(rng.integers(3, side - 3, number)):
        mask[index, :, edge:] = 1
    image = (mask[..., None] * 120 + rng.uniform(0, 100, (number, side, side, 3))).astype(np.float32)
    mask[:, 0] = 255
    return image, mask


def batches():
    return tf.data.Dataset.from_tensor_slices(bright_and_dark()).batch(2).repeat()


def images():
    return tf.data.Dataset.from_tensor_slices(bright_and_dark(seed=1)).batch(1)


def small_model(optimizer="sgd", rate=0.05, steps=STEPS, **options):
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(Normalize(scale=255.0)(image))
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.Dropout(DROPOUT)(x)
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(x))
    schedule = training.schedule("poly", rate, steps=steps)
    training.compile(model, training.optimizer(optimizer, schedule, **options), CrossEntropy())
    return model


def train(directory, model=None, steps=STEPS, data=None, val_data=images, **options):
    model = small_model() if model is None else model
    with training.RunFolder(directory).open({"name": "test"}) as run:
        options = {"validate_every": EVERY, "val_data": val_data and val_data(), "progress": False, **options}
        state = training.fit(model, batches() if data is None else data, run, steps=steps, **options)
    return model, state, run


def test_one_device_needs_no_mirrors():
    assert training.strategy() is training.strategy()
    assert training.strategy().num_replicas_in_sync == 1


# The loop and its folder


def test_a_run_learns_and_leaves_a_complete_folder(tmp_path, drawn):
    model, state, run = train(tmp_path / "run", small_model(rate=0.3, steps=40), steps=40)
    assert [row["step"] for row in state.history] == list(range(4, 41, 4))
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert state.best["val_mean_iou"] > 0.7

    best = keras.models.load_model(run.best, compile=False)
    image, mask = bright_and_dark(seed=1)
    counts = confusion_matrix(mask, best.predict(image, verbose=0).argmax(-1), 2)
    assert scores(counts)["mean_iou"] == pytest.approx(state.best["val_mean_iou"], abs=1e-9)

    last = keras.models.load_model(run.last, compile=False)
    for ours, expected in zip(last.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    with open(run.log, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_mean_iou"]) for row in rows] == [row["val_mean_iou"] for row in state.history]
    described = json.loads(run.run_file.read_text())
    assert described["options"] == {"name": "test"}
    assert described["scores"]["best_mean_iou"] == state.best["val_mean_iou"]
    assert described["scores"]["step"] == 40
    assert {"kerasseg", "tensorflow", "python"} < set(described["versions"])
    assert list(run.tensorboard.rglob("events.*"))
    assert not list(run.directory.rglob("*partial*"))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_ends_as_one_that_was_never_broken_off(tmp_path, optimizer):
    """With dropout, momentum, a schedule and batch normalisation: all of it comes back, to the bit."""
    whole, expected, _ = train(tmp_path / "whole", small_model(optimizer))

    _, state, _ = train(tmp_path / "broken", small_model(optimizer), steps=2 * EVERY)
    assert state.step == 2 * EVERY
    again, state, _ = train(tmp_path / "broken", small_model(optimizer))
    for ours, theirs in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for row in (*state.history, *expected.history):
        row.pop("seconds")
    assert state.history == expected.history


def test_accumulated_batches_make_one_step(tmp_path):
    """Steps count updates, batches are twice as many; broken off and resumed, to the bit."""
    seen = []

    def counted(step):
        seen.append(step)
        return batches().skip(2 * step)

    options = {"accumulate": 2, "ema": 0.9, "clip_norm": 1.0}
    whole, expected, run = train(tmp_path / "whole", small_model(**options))
    assert [row["step"] for row in expected.history] == [4, 8, 10]
    assert int(tf.convert_to_tensor(whole.optimizer.iterations)) == STEPS
    assert expected.history[-1]["learning_rate"] == 0  # the schedule counts updates too

    train(tmp_path / "broken", small_model(**options), steps=EVERY)
    again, state, broken = train(tmp_path / "broken", small_model(**options), data=counted)
    assert seen == [EVERY]
    for ours, theirs in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [row["val_mean_iou"] for row in state.history] == [row["val_mean_iou"] for row in expected.history]
    best = [keras.models.load_model(path, compile=False).get_weights() for path in (run.best, broken.best)]
    for ours, theirs in zip(*best, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_averages_are_validated_and_delivered(tmp_path):
    """last.keras holds the weights that are trained, best.keras their averages; the optimiser trains on as without."""
    plain, _, _ = train(tmp_path / "plain", val_data=None)
    model, state, run = train(tmp_path / "run", small_model(ema=0.9, rate=0.3, steps=EVERY), steps=EVERY)
    trained = model.get_weights()
    for ours, theirs in zip(keras.models.load_model(run.last).get_weights(), trained, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    best = keras.models.load_model(run.best)
    assert not np.allclose(best.get_weights()[0], trained[0], atol=1e-4)
    with model.optimizer.averaged():
        for ours, theirs in zip(best.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    image, mask = bright_and_dark(seed=1)
    counts = confusion_matrix(mask, best.predict(image, verbose=0).argmax(-1), 2)
    assert state.best["val_mean_iou"] == pytest.approx(scores(counts)["mean_iou"], abs=1e-9)

    averaged, _, _ = train(tmp_path / "averaged", small_model(ema=0.9), val_data=None)
    for ours, theirs in zip(averaged.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_patience_ends_a_run_and_keeps_it_ended(tmp_path, capsys, monkeypatch):
    scores = iter([0.5, 0.6, 0.6, 0.4, 0.59, 0.1])
    real = training.Validation.__call__
    monkeypatch.setattr(training.Validation, "__call__", lambda self: {**real(self), "val_mean_iou": next(scores)})
    _, state, _ = train(tmp_path, steps=40, patience=2, progress=True)
    assert [row["val_mean_iou"] for row in state.history] == [0.5, 0.6, 0.6, 0.4]
    assert (state.step, state.best["step"], state.without_better) == (16, 8, 2)
    assert "stops at step 16: no better mIoU in 2 validations than 0.6000 at step 8" in capsys.readouterr().err
    for patience, step in ((2, 16), (4, 24)):  # given more of it, the run goes on
        _, state, _ = train(tmp_path, steps=40, patience=patience)
        assert state.step == step
    with pytest.raises(ValueError, match="takes val_data; received 2 and None"):
        train(tmp_path / "other", patience=2, val_data=None)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_resumes_too(tmp_path, policy):
    def model():
        keras.mixed_precision.set_global_policy(policy)
        try:
            return small_model(accumulate=2)
        finally:
            keras.mixed_precision.set_global_policy("float32")

    whole, expected, run = train(tmp_path / "whole", model(), steps=EVERY + 2)
    assert whole.dtype_policy.name == policy
    assert expected.history[-1]["learning_rate"] == pytest.approx(0.05 * 0.4**0.9)  # of 10 steps, 6 are done
    train(tmp_path / "broken", model(), steps=EVERY)
    again, state, _ = train(tmp_path / "broken", model(), steps=EVERY + 2)
    for ours, theirs in zip(again.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert state.history[-1]["loss"] == expected.history[-1]["loss"]
    endless = tf.data.Dataset.from_tensors((*bright_and_dark(), np.full(6, np.nan, np.float32))).repeat()
    with pytest.raises(DataError, match="the loss is nan"):
        train(tmp_path / "broken", model(), data=endless)


def test_a_function_of_the_step_gives_the_batches(tmp_path):
    asked = []

    def from_step(step):
        asked.append(step)
        return batches().skip(step)

    train(tmp_path, steps=EVERY, data=from_step)
    _, state, _ = train(tmp_path, data=from_step)
    assert asked == [0, EVERY]
    assert state.step == STEPS


def test_without_validation_only_the_last_checkpoint_is_kept(tmp_path):
    _, state, run = train(tmp_path, val_data=None)
    assert state.best is None
    assert run.last.exists()
    assert not run.best.exists()


def test_progress_lines_in_a_log_file(tmp_path, capsys):
    train(tmp_path, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["4/10", "8/10", "10/10"]
    assert all("val mIoU 0." in line and line.endswith("left") for line in lines)


def test_another_run_in_the_folder_is_refused(tmp_path):
    train(tmp_path, steps=EVERY)
    with (
        pytest.raises(DataError, match="other options \\(name was 'test', is 'other'; rate was None, is 1\\)"),
        training.RunFolder(tmp_path).open({"name": "other", "rate": 1}),
    ):
        pass
    with (
        pytest.raises(DataError, match="data set has been converted anew"),
        training.RunFolder(tmp_path).open({"name": "test"}, {"classes": 3}),
    ):
        pass


def test_a_run_without_a_checkpoint_may_change_its_options(tmp_path):
    for name in ("first", "second"):
        with training.RunFolder(tmp_path).open({"name": name}) as run:
            assert json.loads(run.run_file.read_text())["options"] == {"name": name}


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds no run"), training.RunFolder(tmp_path).open({}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    pytest.importorskip("fcntl")
    with (
        training.RunFolder(tmp_path).open({}),
        pytest.raises(DataError, match="another process is training in"),
        training.RunFolder(tmp_path).open({}),
    ):
        pass
    with training.RunFolder(tmp_path).open({}):
        pass


def test_checkpoints_are_ordinary_keras_files_with_the_state_inside(tmp_path):
    _, state, run = train(tmp_path, steps=EVERY)
    with zipfile.ZipFile(run.last) as archive:
        assert json.loads(archive.read("training.json"))["step"] == EVERY
    assert keras.models.load_model(run.last).optimizer.weight_decay == 0


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    _, _, run = train(tmp_path, steps=EVERY)
    before = run.last.read_bytes()
    image, mask = bright_and_dark()
    endless = tf.data.Dataset.from_tensors((image, mask, np.full(6, np.nan, np.float32))).repeat()
    with pytest.raises(DataError, match=r"the loss is nan after step 5.*learning rate"):
        train(tmp_path, data=endless)
    assert run.last.read_bytes() == before


def test_labels_that_the_model_does_not_have_are_named(tmp_path):
    image, mask = bright_and_dark()
    endless = tf.data.Dataset.from_tensors((image, mask + 1)).repeat()
    with pytest.raises(DataError, match=r"expected labels 0\.\.1 in the mask, or 255"):
        train(tmp_path, data=endless)


# Validation


def test_validation_scores_images_of_any_size_as_one_set():
    model = small_model()
    sizes = ((7, 9), (12, 5), (20, 20))
    rng = np.random.default_rng(0)
    pairs = [(rng.uniform(0, 255, (1, *s, 3)).astype(np.float32), rng.integers(0, 2, (1, *s))) for s in sizes]

    def elements():
        yield from ((image, mask.astype(np.int32)) for image, mask in pairs)

    signature = tf.TensorSpec([1, None, None, 3]), tf.TensorSpec([1, None, None], tf.int32)
    result = training.Validation(model, tf.data.Dataset.from_generator(elements, output_signature=signature))()
    counts = sum(confusion_matrix(mask, model(image).numpy().argmax(-1), 2) for image, mask in pairs)
    assert result["val_mean_iou"] == pytest.approx(scores(counts)["mean_iou"], abs=1e-12)
    losses = [float(CrossEntropy()(mask, model(image))) for image, mask in pairs]
    assert result["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_validation_mirrors_images_for_a_model_with_valid_padding():
    """Borders of 2 pixels a side, sizes 4k + 1: every mask pixel is scored, from a mirrored image."""
    image = keras.Input((None, None, 1))
    x = LegalInputSize(4, 1, 5)(image)
    model = keras.Model(image, keras.layers.Conv2D(2, 5)(x))
    training.compile(model, training.optimizer("sgd", 0.1), CrossEntropy())
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 1, (1, 8, 13, 1)).astype(np.float32)
    mask = rng.integers(0, 2, (1, 8, 13)).astype(np.int32)
    result = training.Validation(model, tf.data.Dataset.from_tensors((picture, mask)))()
    mirrored = np.pad(picture, ((0, 0), (2, 3), (2, 2), (0, 0)), mode="reflect")
    assert mirrored.shape[1:3] == (13, 17)
    logits = model(mirrored).numpy()[:, :8, :13]
    expected = scores(confusion_matrix(mask, logits.argmax(-1), 2))["mean_iou"]
    assert result["val_mean_iou"] == pytest.approx(expected, abs=1e-12)


def test_several_outputs_learn_from_one_mask(tmp_path, capsys):
    """Each has the loss; the last is scored, and its best state kept."""
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(Normalize(scale=255.0)(image))
    heads = [keras.layers.Conv2D(2, 1, name=name)(x) for name in ("one", "two")]
    model = keras.Model(image, heads)
    training.compile(model, training.optimizer("sgd", 0.05), CrossEntropy())
    before = [layer.numpy() for layer in model.trainable_weights]
    weighted = batches().map(lambda image, mask: (image, mask, tf.ones_like(mask, tf.float32)))
    _, state, run = train(tmp_path / "run", model, data=weighted, progress=True)
    assert state.step == STEPS
    assert state.best["val_mean_iou"] > 0
    assert "val mIoU" in capsys.readouterr().err
    assert not any(np.array_equal(w.numpy(), old) for w, old in zip(model.trainable_weights, before, strict=True))
    loss, score = CrossEntropy(), MeanIoU(2)
    expected = []
    for picture, mask in images():
        logits = model(picture, training=False)
        expected.append(sum(float(loss(mask, x)) for x in logits))
        score.update_state(mask, logits[-1])
    result = training.Validation(model, images())()
    assert result["val_loss"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert result["val_mean_iou"] == pytest.approx(float(score.result()))
    assert state.history[-1]["val_mean_iou"] == pytest.approx(result["val_mean_iou"])
    assert len(keras.models.load_model(run.best).outputs) == 2


def test_what_is_delivered_is_scored_and_kept(tmp_path):
    """Three classes are learnt, of which two are one in the masks of validation and in best.keras."""
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 3, padding="same")(Normalize(scale=255.0)(image))
    model = keras.Model(image, logits)
    training.compile(model, training.optimizer("sgd", 0.05), CrossEntropy())

    def fine(mask):
        return tf.where(mask == 255, 255, mask + mask * tf.range(tf.shape(mask)[2]) % 2)

    def deliver(trained):
        return keras.Model(trained.input, MergeClasses([[0], [1, 2]])(trained.output))

    data = batches().map(lambda image, mask: (image, fine(mask)))
    validated = lambda: images().map(lambda image, mask: (image, mask, fine(mask)))  # noqa: E731
    _, state, run = train(tmp_path / "run", model, data=data, val_data=validated, deliver=deliver)
    delivered = keras.models.load_model(run.best)
    assert [delivered.output_shape[-1], keras.models.load_model(run.last).output_shape[-1]] == [2, 3]
    losses, counts = [], 0
    for picture, mask in images():
        losses.append(float(CrossEntropy()(fine(mask), model(picture))))
        counts += confusion_matrix(mask.numpy(), deliver(model)(picture).numpy().argmax(-1), 2, 255)
    assert state.history[-1]["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert state.history[-1]["val_mean_iou"] == pytest.approx(scores(counts)["mean_iou"])
    _, again, _ = train(tmp_path / "run", model, steps=STEPS + EVERY, data=data, val_data=validated, deliver=deliver)
    assert again.step == STEPS + EVERY


def test_curves_are_drawn(tmp_path):
    history = [{"step": s, "loss": 1 / s, "mean_iou": 0.1, "val_loss": 1.0, "val_mean_iou": s / 9} for s in (1, 2, 3)]
    path = tmp_path / "curves.png"
    training.plot_curves(training.TrainingState(3, history), path)
    assert path.read_bytes().startswith(b"\x89PNG")
