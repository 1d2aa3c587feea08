"""Every recipe, from its one command, on real images: it trains, is broken off, goes on, and ends as promised.

Networks a fraction as wide, smaller crops and twenty steps; all else is the recipe's.
"""

import csv
import json

import convert_cells
import convert_pairs
import convert_voc
import evaluate
import pytest
import train

from kerasseg import recipes
from kerasseg.training import _fit

pytestmark = pytest.mark.slow

STEPS = 20
CAMVID = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
    "unlabelled",
]
# Recipe: the data, and what makes it small.
SMALL = {
    "fcn_staged": ("voc", ["--model-option", "width=0.03125"]),
    "fcn_at_once": ("voc", ["--model-option", "width=0.03125"]),
    "deeplab_v3_original": ("voc", ["--model-option", "width=0.0625", "--crop-size", "65"]),
    "deeplab_v3_paper": ("voc", ["--model-option", "width=0.0625", "backbone=resnet_v1_50", "--crop-size", "65"]),
    "deeplab_v3_plus": ("voc", ["--model-option", "width=0.125", "backbone=mobilenet_v2", "--crop-size", "65"]),
    "deconvnet_two_stage": ("voc", ["--model-option", "width=0.03125", "--batch-size", "2", "--accumulate", "2",
                                    "--recalculate", "2"]),
    "segnet_camvid": ("camvid", ["--model-option", "width=0.03125", "--recalculate", "2"]),
    "unet_isbi": ("isbi", ["--model-option", "filters=4", "--crop-size", "252"]),
    "unet_plus_plus": ("hela", ["--model-option", "filters=2", "--batch-size", "4"]),
    "attention_unet": ("hela", ["--model-option", "filters=4"]),
}  # fmt: skip
# The twenty steps in the recipe's proportion.
DIVIDED = {"fcn_staged": [7, 6, 7], "deeplab_v3_paper": [10, 10], "deconvnet_two_stage": [7, 13]}


@pytest.fixture(scope="module")
def converted(real_data, tmp_path_factory):
    """Returns a function from a data set's name to its folder, converted with the tool that people use."""
    parent = tmp_path_factory.mktemp("data")
    (parent / "classes.txt").write_text("\n".join(CAMVID))
    camvid, voc = real_data / "camvid/CamVid", real_data / "voc/VOCdevkit/VOC2012"
    hela = real_data / "cells/ctc/DIC-C2DH-HeLa"
    commands = {
        "voc": (convert_voc, ["--voc", voc, "--sbd", real_data / "sbd/benchmark_RELEASE/dataset", "--instances",
                              "--allow-missing"]),
        "camvid": (convert_pairs, ["--images", camvid / "train", "--masks", camvid / "trainannot", "--val-images",
                                   camvid / "val", "--val-masks", camvid / "valannot", "--ignore", "11", "--classes",
                                   parent / "classes.txt"]),
        "isbi": (convert_cells, ["--layout", "isbi2012", "--input", real_data / "isbi2012", "--border-weights"]),
        "hela": (convert_cells, ["--layout", "ctc", "--input", hela]),
    }  # fmt: skip

    def convert(name):
        if not (parent / name).exists():
            tool, arguments = commands[name]
            tool.main([*map(str, arguments), "--output", str(parent / name)])
        return parent / name

    return convert


class BrokenOff(_fit.Progress):
    """Breaks training off in the midst of the steps."""

    left = 0

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        BrokenOff.left -= 1
        if BrokenOff.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", SMALL)
def test_trains_is_broken_off_goes_on_and_ends(name, converted, tmp_path, monkeypatch, capsys):
    data, options = SMALL[name]
    data, output = converted(data), tmp_path / "run"
    command = ["--recipe", name, "--data", str(data), "--output", str(output), "--steps", str(STEPS), *options]
    command += ["--validate-every", "4"]
    with monkeypatch.context() as patch:
        accumulate = 2 if "--accumulate" in options else 1
        patch.setattr(BrokenOff, "left", 14 * accumulate)
        patch.setattr(_fit, "Progress", BrokenOff)
        with pytest.raises(KeyboardInterrupt):
            train.main(command)
    assert not json.loads((output / "run.json").read_text())["scores"].get("finished")
    capsys.readouterr()

    train.main(command)
    said = capsys.readouterr().out
    assert "best mean IoU on val:" in said
    described = json.loads((output / "run.json").read_text())
    assert described["options"]["recipe"] == name
    assert described["scores"]["finished"]
    with open(output / "log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["step"]) == STEPS
    done = [stage["step"] for stage in described["scores"].get("stages", [])]
    assert done == DIVIDED.get(name, [])

    evaluate.main(["--model", str(output / "best.keras"), "--data", str(data), "--output", str(tmp_path / "report")])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert 0 <= report["mean_iou"] <= 1


def test_the_recipes_here_are_all():
    assert set(SMALL) == set(recipes.__all__) - {"small_data"}
