"""The recipe for few images: what it makes of which data, and (slow) what it learns from real ones."""

import dataclasses
import json

import convert_cells
import evaluate
import make_cells
import numpy as np
import pytest
import train
from tensorflow import keras

from kerasseg import recipes
from kerasseg.inference import Segmenter
from kerasseg.spec import DatasetSpec, SplitSpec

pytestmark = pytest.mark.usefixtures("undrawn")

CELLS = DatasetSpec(
    "cells",
    ("background", "cell"),
    channels=1,
    has_instances=True,
    splits={"train": SplitSpec(8, ("a",), (9_000, 1_000), class_image_pixels=(10_000, 10_000))},
)


def test_the_kind_follows_from_the_data():
    kinds = [
        recipes.small_data(data)[0]
        for data in (
            CELLS,
            dataclasses.replace(CELLS, has_instances=False),
            dataclasses.replace(CELLS, has_instances=False, channels=3),
        )
    ]
    assert [stage.instances for stage in kinds] == [True, False, False]
    assert [stage.model().output_shape[-1] for stage in kinds] == [3, 2, 2]
    assert [stage.model().input_shape[-1] for stage in kinds] == [1, 1, 3]
    downscaled = [any(layer.name == "downscale" for layer in stage.model().layers) for stage in kinds]
    assert downscaled == [False, False, True]
    assert recipes.small_data(CELLS, kind="texture")[0].deliver is None
    full = SplitSpec(8, ("a",), (2_000, 8_000), class_image_pixels=(10_000, 10_000))
    membranes = dataclasses.replace(CELLS, splits={"train": full})
    assert not recipes.small_data(membranes)[0].instances
    assert recipes.small_data(membranes, kind="objects")[0].instances


def test_classes_are_balanced_by_the_root_of_their_frequencies_but_for_objects():
    background, cell = recipes.small_data(CELLS, kind="texture")[0].make_loss().class_weights
    assert cell / background == pytest.approx(3)  # nine times as rare
    assert recipes.small_data(CELLS)[0].make_loss().class_weights == [1, 1, 2]


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="one of objects, texture, scenes, received 'cells'"):
        recipes.small_data(CELLS, kind="cells")
    with pytest.raises(ValueError, match="two classes with instance ids, which 'cells' does not have"):
        recipes.small_data(dataclasses.replace(CELLS, has_instances=False), kind="objects")


def test_objects_are_learnt_by_their_rims_and_delivered_as_one_class(tmp_path, capsys):
    make_cells.main(["--output", str(tmp_path / "raw"), "--num-images", "6", "--size", "64", "--seed", "1"])
    data = tmp_path / "data"
    convert_cells.main(["--layout", "ctc", "--input", str(tmp_path / "raw"), "--output", str(data)])
    arguments = ["--recipe", "small_data", "--data", str(data), "--output", str(tmp_path / "run"), "--steps", "4"]
    train.main([*arguments, "--batch-size", "2", "--crop-size", "32", "--model-option", "filters=4", "depth=2"])
    assert "small_data" in capsys.readouterr().out
    best = keras.models.load_model(tmp_path / "run" / "best.keras", compile=False)
    assert best.output_shape[-1] == 2
    assert keras.models.load_model(tmp_path / "run" / "last.keras", compile=False).output_shape[-1] == 3
    found = Segmenter(best).objects(np.zeros((40, 40, 1), np.uint8))
    assert found.shape == (40, 40)
    evaluate.main(
        ["--model", str(tmp_path / "run" / "best.keras"), "--data", str(data), "--output", str(tmp_path / "r")]
    )
    assert "AP at IoU .5" in capsys.readouterr().out


CAMVID = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist Unlabelled"


def converted(name, real_data, directory, run_tool):
    """Converts a real data set; returns its folder."""
    output = directory / name
    if name == "camvid":
        root, classes = real_data / "camvid/CamVid", directory / "classes.txt"
        classes.write_text(CAMVID.replace(" ", "\n") + "\n")
        train_on = ["--images", root / "train", "--masks", root / "trainannot"]
        score_on = ["--val-images", root / "val", "--val-masks", root / "valannot"]
        run_tool("convert_pairs.py", *train_on, *score_on, "--classes", classes, "--ignore", 11, "--output", output)
        return output
    folder = {"isbi2012": "isbi2012", "dsb2018": "cells/dsb2018/stage1_train"}[name]
    run_tool("convert_cells.py", "--layout", name, "--input", real_data / folder, "--output", output)
    return output


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "steps", "score"),
    [
        ("isbi2012", 700, lambda report: report["mean_iou"] >= 0.74),
        ("camvid", 600, lambda report: report["mean_iou"] >= 0.30),
        ("dsb2018", 800, lambda report: report["per_class_iou"]["cell"] >= 0.58),
    ],
)
def test_it_learns_from_real_images_in_minutes(name, steps, score, real_data, tmp_path, run_tool):
    """Steps are fixed, so that a slow machine gives the same score; each is well below what one seed gives."""
    data = converted(name, real_data, tmp_path, run_tool)
    run = ["--data", data, "--output", tmp_path / "run", "--steps", steps, "--validate-every", steps]
    run_tool("train.py", "--recipe", "small_data", *run, timeout_s=1500)
    run_tool("evaluate.py", "--model", tmp_path / "run" / "best.keras", "--data", data, "--output", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert score(report), report
