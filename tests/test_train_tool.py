"""tools/train.py on a small data set written here."""

import json

import cv2
import numpy as np
import pytest
import train
from tensorflow import keras

from kerasseg import models, pipeline, recipes, records, spec
from kerasseg.metrics import confusion_matrix, scores
from kerasseg.training import _fit

TINY = ["--model", "unet", "--model-option", "filters=4", "depth=1", "padding=same", "batch_norm=True", "dropout=0.2"]
SHORT = ["--steps", "10", "--validate-every", "4", "--batch-size", "4", "--crop-size", "16", "--preset", "cells"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Grey images of 20 x 24, class 1 where bright; 7 to train on (not a multiple of the batch), 3 for validation."""
    directory = tmp_path_factory.mktemp("data") / "bright"
    rng = np.random.default_rng(0)

    def example(key):
        mask = (cv2.resize(rng.uniform(size=(4, 4)), (24, 20)) > 0.5).astype(np.uint8)
        image = (mask * 120 + rng.integers(0, 100, mask.shape)).astype(np.uint8)
        mask[0] = 255
        return records.Example(key, image[..., None], mask)

    described = spec.DatasetSpec("bright", ("dark", "bright"), channels=1)
    splits = {name: [example(f"{name}{i}") for i in range(n)] for name, n in (("train", 7), ("val", 3))}
    records.write(directory, described, splits, num_shards=2, progress=False)
    return directory


def run(data, output, *more):
    train.main([*TINY, *SHORT, "--data", str(data), "--output", str(output), *map(str, more)])
    return keras.models.load_model(output / "best.keras", compile=False)


def refused(capsys, *arguments):
    """Returns the one line that a fault of the user's ends with."""
    with pytest.raises(SystemExit) as error:
        train._cli.run(train.main, [str(argument) for argument in arguments])
    assert error.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_trains_and_leaves_everything_that_is_promised(data, tmp_path, capsys):
    model = run(data, tmp_path / "run", "--learning-rate", 0.05, "--class-weights", "sqrt-median")
    out = capsys.readouterr()
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    best = described["scores"]["best_mean_iou"]
    assert f"best mean IoU on val: {best:.4f} at step" in out.out
    assert "step 10/10" in out.err
    for name in ("best.keras", "last.keras", "log.csv", "curves.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    assert described["options"]["batch_size"] == 4
    assert described["options"]["schedule"] == "poly"
    assert spec.DatasetSpec.from_dict(described["dataset"]).class_names == ("dark", "bright")

    counts = 0
    for image, mask in pipeline.eval_images(data, "val"):
        counts = counts + confusion_matrix(mask.numpy(), model(image, training=False).numpy().argmax(-1), 2)
    assert scores(counts)["mean_iou"] == pytest.approx(best, abs=1e-9)


def test_resumes_by_itself_to_the_same_end(data, tmp_path, monkeypatch):
    """Broken off between two checkpoints; the seven images do not divide into batches."""
    run(data, tmp_path / "whole")

    class KilledAtStep6(_fit.Progress):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            self.steps += 1
            if self.steps == 6:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_fit, "Progress", KilledAtStep6)
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path / "broken")
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["scores"]["step"] == 4

    run(data, tmp_path / "broken")
    whole, broken = (keras.models.load_model(tmp_path / n / "last.keras", compile=False) for n in ("whole", "broken"))
    for ours, expected in zip(broken.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)

    def log(name):
        return [line.rpartition(",")[0] for line in (tmp_path / name / "log.csv").read_text().splitlines()]

    assert log("broken") == log("whole")


def test_a_finished_run_says_so_again_and_other_options_are_refused(data, tmp_path, capsys):
    run(data, tmp_path / "run", "--steps", 2)
    before = (tmp_path / "run" / "last.keras").read_bytes()
    run(data, tmp_path / "run", "--steps", 2)
    assert capsys.readouterr().out.count("best mean IoU on val") == 2
    assert (tmp_path / "run" / "last.keras").read_bytes() == before
    line = refused(capsys, *TINY, *SHORT, "--data", data, "--output", tmp_path / "run", "--steps", 3)
    assert "other options (steps was 2, is 3)" in line


def test_batches_from_any_step_are_those_of_an_uninterrupted_run(data):
    """Seven images and batches of four: only every fourth epoch begins with a batch."""
    stage = recipes.Stage("unet", None, None, None, steps=16, batch_size=4, crop_size=16, preset="cells")
    whole = list(recipes.batches(stage, data).take(16).as_numpy_iterator())
    for step in (1, 6, 7, 8, 15):
        later = next(recipes.batches(stage, data, first=step).as_numpy_iterator())
        for ours, expected in zip(later, whole[step], strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_starts_from_the_weights_of_another_model(data, tmp_path, capsys):
    tiny = {"filters": 4, "depth": 1, "padding": "same", "batch_norm": True, "input_shape": (None, None, 1)}
    source = models.unet(5, **tiny)
    source.save(tmp_path / "source.keras")
    init = ["--init", tmp_path / "source.keras", "--steps", 1, "--learning-rate", 1e-9]
    line = refused(capsys, *TINY, *SHORT, "--data", data, "--output", tmp_path / "run", *init)
    assert "logits/kernel has shape (1, 1, 4, 2)" in line
    assert "--init-exclude logits" in line
    model = run(data, tmp_path / "run", *init, "--init-exclude", "logits")
    np.testing.assert_allclose(
        model.get_layer("bottom_conv1").get_weights()[0], source.get_layer("bottom_conv1").get_weights()[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "nowhere"], "nowhere/dataset.json is missing"),
        (["--val-split", "test"], "has no split 'test'; it has: train, val"),
        (["--model", "vgg"], "--model vgg: expected one of "),
        (["--model-option", "width=3"], "--model-option width=3: expected NAME=VALUE with a name of "),
        (["--model-option", "padding=some"], "padding must be one of valid, same, got 'some'"),
        (["--model-option", "padding=valid"], "crops of 16 x 16: height 16 is not legal here"),
        (["--preset", "wild"], "--preset wild: expected one of cells, "),
        (["--init", "weights.keras"], "--init: weights.keras does not exist"),
        (["--pixel-weights"], "no weight maps"),
    ],
)
def test_a_fault_of_the_users_is_one_clear_line(data, tmp_path, capsys, change, message):
    arguments = [*TINY, *SHORT, "--data", data, "--output", tmp_path / "run", *change]
    assert message in refused(capsys, *arguments)
    assert not (tmp_path / "run" / "last.keras").exists()


def test_as_a_process(data, tmp_path, run_tool):
    help_text = run_tool("train.py", "--help").stdout
    for option in ("--model NAME", "--data DIR", "--class-weights {none,median,sqrt-median}", "--init WEIGHTS"):
        assert option in help_text
    assert run_tool("train.py", "--model", "unet", check=False).returncode == 2
    result = run_tool(
        "train.py", *TINY, *SHORT, "--steps", 2, "--mixed-precision", "bfloat16", "--data", data, "--output", tmp_path
    )
    assert "best model:" in result.stdout
    assert "step 2/2" in result.stderr


def test_crops_may_be_oblong_and_images_whole(data, tmp_path, capsys):
    for number, sides in enumerate((["8", "16"], ["whole"])):
        run(data, tmp_path / str(number), "--batch-size", 1, "--crop-size", *sides, "--steps", 4)
        assert "step 4/4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(data, tmp_path / "no", "--crop-size", 8, "whole")
    assert "--crop-size: expected one side, height and width, or whole" in capsys.readouterr().err
