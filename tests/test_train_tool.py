"""tools/train.py on a small data set written here."""

import json

import cv2
import numpy as np
import pytest
import train
from tensorflow import keras

from kerasseg import losses, models, pipeline, recipes, records, spec
from kerasseg.metrics import confusion_matrix, scores
from kerasseg.training import _fit

pytestmark = pytest.mark.usefixtures("undrawn")

# Keras 2 keeps what dropout draws from to itself: a resumed run draws anew.
DROPOUT = 0.2 if hasattr(keras, "ops") else 0.0
TINY = [
    "--model",
    "unet",
    "--model-option",
    "filters=4",
    "depth=1",
    "padding=same",
    "batch_norm=True",
    f"dropout={DROPOUT}",
]
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


def test_trains_and_leaves_everything_that_is_promised(data, tmp_path, capsys, drawn):
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
        (["--drops", "3"], "--schedule step and --drops go together"),
        (["--rate-multiplier", "bias"], "--rate-multiplier bias: expected a regular expression, =, and a factor"),
        (["--ema", "2"], "options of the optimiser: ema must lie between 0 and 1, received 2.0"),
        (["--loss", "Dice", "--loss-option", "smooth=-1"], "--loss Dice: smooth must be a finite number of at least 0"),
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


@pytest.mark.slow
def test_crops_may_be_oblong_and_images_whole(data, tmp_path, capsys):
    for number, sides in enumerate((["8", "16"], ["whole"])):
        run(data, tmp_path / str(number), "--batch-size", 1, "--crop-size", *sides, "--steps", 4)
        assert "step 4/4" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(data, tmp_path / "no", "--crop-size", 8, "whole")
    assert "--crop-size: expected one side, height and width, or whole" in capsys.readouterr().err


MORE = [
    *("--schedule", "step", "--drops", "4", "8", "--warmup-steps", "2", "--ema", "0.9", "--clip-norm", "1"),
    *("--accumulate", "2", "--rate-multiplier", "bias$=2", "^logits/=10", "--loss", "Dice"),
    *("--loss-option", "smooth=0.1", "per_image=True"),
]


def test_it_says_what_it_is_going_to_do(data, tmp_path, capsys):
    train.main(
        [*TINY, *SHORT, "--data", str(data), "--output", str(tmp_path / "run"), "--describe", "--patience", "3", *MORE]
    )
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        *("unet(2, input_shape=(None, None, 1), filters=4", "starts from random weights", "sgd, momentum 0.9"),
        *("0.01, step, times 0.1 at 4, 8, 2 steps of warm-up, times 2 for bias$, times 10 for ^logits/", "average of"),
        *("gradients no longer than 1", "10, each from 2 batches of 4", "16 x 16, cells", "smooth 0.1"),
        "ends after 3 validations",
    ):
        assert part in said, part
    assert not (tmp_path / "run").exists()


def test_trains_with_every_option_of_the_optimiser_and_another_loss(data, tmp_path):
    run(data, tmp_path / "run", *MORE, "--steps", 2, "--drops", 1)
    described = json.loads((tmp_path / "run" / "run.json").read_text())["options"]
    assert described["optimizer"] == "sgd"
    assert described["rate_multiplier"] == ["bias$=2", "^logits/=10"]
    assert described["loss"] == "Dice"


def test_the_losses_to_choose_from_are_those_that_need_no_other():
    offered = set(train._training_options.LOSSES)
    assert offered | {"PixelLoss", "RegionLoss", "SegmentationLoss", "Sum"} == set(losses.__all__)
    for name in offered:
        getattr(losses, name)(ignore_label=255, class_weights=[1.0, 2.0])


RECIPE = ["--recipe", "fcn_staged", "--model-option", "width=0.015625", "padding=same"]


def test_a_recipe_is_changed_by_what_is_given(data, tmp_path, capsys):
    changes = [
        "--steps",
        "30",
        "--batch-size",
        "2",
        "--crop-size",
        "32",
        "--learning-rate",
        "1e-4",
        "--preset",
        "cells",
    ]
    train.main([*RECIPE, *changes, "--data", str(data), "--output", str(tmp_path / "run"), "--describe"])
    said = " ".join(capsys.readouterr().out.split())
    for number, (name, rate) in enumerate((("fcn_32s", "0.0001"), ("fcn_16s", "1e-06"), ("fcn_8s", "1e-08")), start=1):
        assert (
            f"{number}. {name} network {name}(2, input_shape=(None, None, 1), width=0.015625, padding='same')" in said
        )
        assert f"rate {rate}, constant" in said
    assert said.count("steps 10, each from a batch of 2 samples 32 x 32, cells loss CrossEntropy, reduction sum") == 3
    assert "starts from random weights (the authors: VGG16 trained on ImageNet)" in said


@pytest.mark.slow
def test_a_recipe_of_several_stages_ends_with_a_model_to_evaluate(data, tmp_path, capsys):
    output = tmp_path / "run"
    small = ["--steps", "3", "--crop-size", "32", "--data", str(data), "--output", str(output)]
    train.main([*RECIPE, *small])
    said = capsys.readouterr().out
    for part in ("stage 1 of 3: fcn_32s, 1 steps", "where the authors start from VGG16 trained on ImageNet", "of 3\n"):
        assert part in said
    assert f"weights of {output / 'fcn_16s' / 'best.keras'}: " in said
    assert keras.models.load_model(output / "best.keras", compile=False).output_shape[-1] == 2
    line = refused(capsys, *RECIPE, *small, "--learning-rate", 1)
    assert "other options (learning_rate was None, is 1.0)" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--recipe", "vgg"], "--recipe vgg: expected one of attention_unet, "),
        (["--recipe", "unet_isbi", "--model-option", "wide=1"], "--recipe unet_isbi: unet has no option 'wide'"),
        (["--recipe", "deconvnet_two_stage"], "'bright' has no boxes of objects, around which deconvnet_two_stage"),
        (["--recipe", "fcn_staged", "--steps", "2"], "--recipe fcn_staged: 3 stages need at least as many steps"),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_clear_line(data, tmp_path, capsys, change, message):
    assert message in refused(capsys, *change, "--data", data, "--output", tmp_path / "run")


def test_what_a_recipe_decides_is_not_an_option(data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main([*RECIPE, "--data", str(data), "--output", str(tmp_path), "--schedule", "poly"])
    assert "--schedule goes with --model; a recipe decides it itself" in capsys.readouterr().err


def test_the_help_lists_every_recipe():
    listed = train._training_options.recipes()
    assert set(listed) == set(recipes.__all__)
    for name, line in listed.items():
        assert getattr(recipes, name).__doc__.startswith(line)
