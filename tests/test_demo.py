"""The whole way from images on disk to a served model, as `make demo` goes it."""

import json
import re

import demo
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasseg.spec import DataError


def check(out, printed):
    """Everything that the demo names is there, and the servable answers as the report says."""
    scores = json.loads((out / "report" / "report.json").read_text())
    assert f"held-out images: {scores['mean_iou']:.3f}" in printed
    paths = re.findall(r"^  (?:report|confusion matrix|overlays|training curves|SavedModel) +(\S+)$", printed, re.M)
    assert len(paths) == 5
    assert "(missing)" not in printed
    assert len(list((out / "report" / "overlays").glob("*.png"))) >= 1
    serve = tf.saved_model.load(out / "exported" / "unet" / "1").signatures["serving_default"]
    frame = np.array(Image.open(sorted((out / "cells" / "01").glob("*.tif"))[0]))
    answer = serve(images=tf.constant(frame[None, ..., None], tf.uint8))["segmentation_map"].numpy()
    assert answer.shape == (1, *frame.shape)
    assert set(np.unique(answer)) <= {0, 1}
    return scores


def test_the_whole_way_in_a_few_steps(tmp_path, capsys):
    out = tmp_path / "demo"
    arguments = ["--output", str(out), "--images", "5", "--steps", "2"]
    demo.main(arguments)
    scores = check(out, capsys.readouterr().out)
    assert scores["num_images"] == 1


def test_a_folder_of_someone_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(DataError, match="exists and no demo made it; .*choose another --output"):
        demo.main(["--output", str(tmp_path)])
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_the_demo_learns(tmp_path, run_tool):
    """As a user runs it: at least 0.90 on the images kept back."""
    result = run_tool("demo.py", "--output", tmp_path / "demo", timeout_s=1800)
    scores = check(tmp_path / "demo", result.stdout)
    assert scores["num_images"] == 16
    assert scores["mean_iou"] >= 0.90
    assert scores["mean_iou"] > scores["baseline"]["mean_iou"] + 0.5
