"""Stages trained in turn: what is left on disk, and going on after being killed. On a small data set written here."""

import csv
import fcntl
import functools
import json

import cv2
import numpy as np
import pytest
from tensorflow import keras

from kerasseg import models, recipes, records, spec, training
from kerasseg.losses import CrossEntropy
from kerasseg.training import _fit


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Grey images of 20 x 24, class 1 where bright; 7 to train on, 3 for validation."""
    directory = tmp_path_factory.mktemp("data") / "bright"
    rng = np.random.default_rng(0)

    def example(key):
        mask = (cv2.resize(rng.uniform(size=(4, 4)), (24, 20)) > 0.5).astype(np.uint8)
        image = (mask * 120 + rng.integers(0, 100, mask.shape)).astype(np.uint8)
        return records.Example(key, image[..., None], mask)

    described = spec.DatasetSpec("bright", ("dark", "bright"), channels=1)
    splits = {name: [example(f"{name}{i}") for i in range(n)] for name, n in (("train", 7), ("val", 3))}
    records.write(directory, described, splits, num_shards=2, progress=False)
    return directory


def stage(name, *, batch_norm=False, **options):
    shape = {"input_shape": (None, None, 1), "filters": 4, "depth": 1, "padding": "same"}
    build = functools.partial(models.unet, 2, **shape, dropout=0.0, batch_norm=batch_norm)
    solver = recipes.Solver("adam", 0.01)
    return recipes.Stage(name, build, CrossEntropy(), solver, 6, 2, 16, "cells", **options)


def two_stages():
    return [stage("plain"), stage("normed", batch_norm=True, start="previous", recalculate=2)]


class Killed(_fit.Progress):
    """Breaks training off at the step that is counted down to."""

    left = None

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        Killed.left -= 1
        if Killed.left == 0:
            raise KeyboardInterrupt


def rows(folder):
    with open(folder / "log.csv", encoding="utf-8", newline="") as file:
        return [{name: v for name, v in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Two stages in one go."""
    output = tmp_path_factory.mktemp("whole") / "run"
    said = []
    state = recipes.run(two_stages(), data, output, validate_every=2, progress=False, say=said.append)
    return output, state, said


def test_leaves_a_folder_for_each_stage_and_the_whole(whole):
    output, state, said = whole
    for folder in (output, output / "plain", output / "normed"):
        for name in ("best.keras", "log.csv", "curves.png", "run.json"):
            assert (folder / name).stat().st_size > 0
    assert (output / "best.keras").read_bytes() == (output / "normed" / "best.keras").read_bytes()
    assert [int(row["step"]) for row in rows(output)] == [2, 4, 6, 8, 10, 12]
    assert [row["stage"] for row in rows(output)] == ["plain"] * 3 + ["normed"] * 3
    described = json.loads((output / "run.json").read_text())
    assert [(each["name"], each["step"]) for each in described["scores"]["stages"]] == [("plain", 6), ("normed", 6)]
    deep = max(float(row["val_mean_iou"]) for row in rows(output)[3:])
    assert described["scores"]["best_mean_iou"] == state.best["val_mean_iou"] == deep
    assert spec.DatasetSpec.from_dict(described["dataset"]).class_names == ("dark", "bright")
    assert json.loads((output / "normed" / "run.json").read_text())["scores"]["recalculated_mean_iou"] > 0
    assert said[-1].startswith("batch normalisation recalculated over 2 batches of 2: mean IoU ")
    assert said[0] == "stage 1 of 2: plain, 6 steps"
    assert said[3].startswith(f"weights of {output / 'plain' / 'best.keras'}: 16 variables loaded")


def test_recalculated_statistics_are_those_of_the_training_batches(data, whole):
    """Mean of the first normalisation's input over the two batches, with the weights of best.keras."""
    model = keras.models.load_model(whole[0] / "best.keras", compile=False)
    norm = model.get_layer("down1_conv1_norm")
    before = keras.Model(model.input, model.get_layer("down1_conv1").output)
    shown = [
        before(image, training=False).numpy() for image, _ in recipes.batches(two_stages()[1], data, seed=2).take(2)
    ]
    np.testing.assert_allclose(norm.moving_mean, np.mean(shown, axis=(0, 1, 2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 9])
def test_killed_in_any_stage_it_goes_on_to_the_same_end(data, tmp_path, monkeypatch, whole, steps):
    """At the third step of the first stage, and of the second."""
    output, expected = tmp_path / "run", whole[0]
    arguments = {"validate_every": 2, "say": lambda line: None}
    with monkeypatch.context() as patch:
        patch.setattr(Killed, "left", steps)
        patch.setattr(_fit, "Progress", Killed)
        with pytest.raises(KeyboardInterrupt):
            recipes.run(two_stages(), data, output, **arguments)
    assert not (output / "best.keras").exists()
    said = []
    recipes.run(two_stages(), data, output, **{**arguments, "say": said.append})
    assert rows(output) == rows(expected)
    for stage_name in ("plain", "normed"):
        pairs = [
            keras.models.load_model(folder / stage_name / "last.keras", compile=False).get_weights()
            for folder in (output, expected)
        ]
        for ours, theirs in zip(*pairs, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert any("starts from random weights" in line for line in said) == (steps < 3)


def test_a_finished_run_trains_nothing_and_other_options_are_refused(data, whole, monkeypatch):
    output, state, _ = whole
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.keras")}
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", None)
        again = recipes.run(two_stages(), data, output, validate_every=2, progress=False, say=lambda line: None)
    assert again.best == state.best
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.keras")} == before
    with pytest.raises(spec.DataError, match=r"other options \(seed was 1, is 2\)"):
        recipes.run(two_stages(), data, output, validate_every=2, seed=2)
    changed = recipes.change(two_stages(), learning_rate=0.02)
    with pytest.raises(spec.DataError, match="other options .*optimizer was .*0.01.*, is .*0.02"):
        recipes.run(changed, data, output, validate_every=2, say=lambda line: None)


def test_two_processes_cannot_run_in_one_output(data, whole):
    with open(whole[0] / ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(spec.DataError, match="another process is training in"):
            recipes.run(two_stages(), data, whole[0], validate_every=2)


def test_targets_and_weights_reach_the_model(data):
    """`targets` may turn the classes about; with one output or several the model gets what it returns."""
    plain = stage("plain")
    turned = stage("turned", targets=lambda image, mask: (image, 1 - mask))
    for ours, theirs in zip(recipes.batches(turned, data).take(2), recipes.batches(plain, data).take(2), strict=True):
        np.testing.assert_array_equal(ours[1], 1 - np.int32(theirs[1]))
    with pytest.raises(ValueError, match="instances=True needs targets"):
        stage("wrong", instances=True)


def test_steps_are_divided_in_proportion():
    stages = [stage(name) for name in "abc"]
    stages = [recipes.change([each], steps=steps)[0] for each, steps in zip(stages, (100, 100, 300), strict=True)]
    for steps, expected in ((50, [10, 10, 30]), (500, [100, 100, 300]), (3, [1, 1, 1]), (7, [1, 2, 4])):
        assert [each.steps for each in recipes.change(stages, steps=steps)] == expected
    with pytest.raises(ValueError, match="3 stages need at least as many steps, received 2"):
        recipes.change(stages, steps=2)


def test_changes_keep_what_is_not_named():
    stages = two_stages()
    first, second = recipes.change(stages, learning_rate=0.1, batch_size=3, crop_size=None, clip_norm=1.0)
    assert (first.optimizer.rate, second.optimizer.rate) == pytest.approx((0.1, 0.1))
    assert (first.batch_size, first.crop_size, first.steps) == (3, None, 6)
    assert first.optimizer.clip_norm == 1.0
    with pytest.raises(ValueError, match="expected some of batch_size, .*received \\['wild'\\]"):
        recipes.change(stages, wild=1)


def test_the_table_tells_what_matters():
    text = recipes.table(two_stages())
    for part in ("1. plain", "2. normed", "starts from the stage before", "adam", "0.01, constant", "16 x 16, cells"):
        assert part in text
