"""Evaluation, prediction and export from the command line, and the scores of single objects."""

import json

import evaluate
import export
import numpy as np
import predict
import pytest
from PIL import Image
from tensorflow import keras

from kerasseg.inference import Segmenter
from kerasseg.layers import MergeClasses, Scale
from kerasseg.metrics import adapted_rand_f_score, confusion_matrix, detections, instance_ious, scores
from kerasseg.postprocess import objects
from kerasseg.records import Example, instance_targets, write
from kerasseg.spec import DataError, DatasetSpec

NAMES = ("background", "cell", "never")
OBJECT_SCORES = ("adapted_rand_f_score", "mean_instance_iou", "average_precision_50", "mean_average_precision_50")


def threshold_model(channels=1, num_classes=3):
    """Predicts class 1 where the first channel is above 100, else class 0."""
    image = keras.Input((None, None, channels))
    layer = keras.layers.Conv2D(num_classes, 1)
    model = keras.Model(image, layer(image))
    kernel = np.zeros((1, 1, channels, num_classes))
    kernel[0, 0, 0, 1] = 1
    layer.set_weights([kernel, np.array([100, 0, -1000])[:num_classes]])
    return model


def cells(seed, size=(40, 56)):
    """Returns an image [H, W, 1], its mask with some ignored pixels, and its instances: 7 squares, two touching."""
    rng = np.random.default_rng(seed)
    instances = np.zeros(size, np.uint16)
    for i in range(6):
        row, column = divmod(i, 3)
        instances[row * 20 + 3 : row * 20 + 15, column * 18 + 3 : column * 18 + 13] = i + 1
    instances[3:15, 13:15] = 7
    image = np.where(instances > 0, 150, 50) + rng.integers(-70, 70, size)
    mask = (instances > 0).astype(np.uint8)
    mask[:, -2:] = 255
    return image.astype(np.uint8)[..., None], mask, instances


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "cells"
    spec = DatasetSpec("cells", NAMES, channels=1, palette=((0, 0, 0), (255, 120, 0), (0, 0, 255)))
    sizes = [(40, 56), (41, 60), (44, 56)]
    examples = [Example(f"cell/{i}", image, mask, instances) for i, (image, mask, instances) in
                enumerate(cells(i, size) for i, size in enumerate(sizes))]  # fmt: skip
    write(folder, spec, {"val": examples}, progress=False)
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    threshold_model().save(folder / "best.keras")
    content = {"options": {"steps": 3}, "dataset": DatasetSpec.load(data).to_dict(), "scores": {"best_step": 3}}
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def picture_size(path):
    with Image.open(path) as picture:
        return picture.size


def test_objects_are_scored_as_by_hand():
    instances = np.array([[1, 1, 1, 1, 0, 2, 2]])
    np.testing.assert_allclose(instance_ious(instances, np.array([[1, 1, 0, 0, 0, 2, 2]])), [0.5, 1])
    np.testing.assert_allclose(instance_ious(instances, np.array([[1, 1, 1, 1, 1, 1, 1]])), [4 / 7, 2 / 7])
    assert instance_ious(instances, np.zeros_like(instances)).tolist() == [0, 0]
    assert instance_ious(np.zeros_like(instances), instances).size == 0
    assert adapted_rand_f_score(instances, instances * 5) == 1
    # Pairs: 6 + 1 in the truth, all of the 6 pixels' 15 in the prediction; 7 in both.
    np.testing.assert_allclose(adapted_rand_f_score(instances, np.ones_like(instances)), 2 * 7 / (7 + 15))
    assert adapted_rand_f_score(np.zeros((3, 3), int), np.ones((3, 3), int)) is None
    assert adapted_rand_f_score(np.eye(1, dtype=int), np.ones((1, 1), int)) is None


def test_detections_by_hand():
    instances = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 3]])
    assert detections(instances, np.array([[7, 7, 7, 0, 0, 2, 0, 9, 0]])) == (1, 2, 2)  # IoU .75 and .5 exactly
    assert detections(instances, instances) == (3, 0, 0)
    assert detections(instances, np.zeros_like(instances)) == (0, 0, 3)
    assert detections(np.zeros_like(instances), instances) == (0, 3, 0)
    assert detections(instances, np.array([[7, 7, 7, 0, 0, 2, 0, 9, 0]]), min_iou=0.8) == (0, 3, 3)
    with pytest.raises(ValueError, match="from 0.5 to below 1, received 0.4"):
        detections(instances, instances, min_iou=0.4)


def test_the_report_holds_what_can_be_counted_by_hand(data, run, tmp_path, capsys):
    output = tmp_path / "report"
    (output / "overlays").mkdir(parents=True)
    (output / "mine.txt").write_text("stays")
    evaluate.main(["--model", str(run / "best.keras"), "--data", str(data), "--output", str(output), "--pictures", "1"])
    report = json.loads((output / "report.json").read_text())
    total = np.zeros((3, 3), int)
    for seed, size in enumerate([(40, 56), (41, 60), (44, 56)]):
        image, mask, _ = cells(seed, size)
        total += confusion_matrix(mask, (image[..., 0] > 100).astype(np.uint8), 3)
    assert report["confusion_matrix"] == total.tolist()
    for name, value in scores(total, NAMES).items():
        assert report[name] == value, name
    assert set(report["per_class_iou"]) == {"background", "cell"}
    assert report["absent_classes"] == ["never"]
    assert report["num_images"] == 3
    assert 0 < report["adapted_rand_f_score"] < 1
    assert 0 < report["mean_instance_iou"] < 1
    assert 0 < report["average_precision_50"] < 1
    share = total[0].sum() / total.sum()
    np.testing.assert_allclose(report["baseline"]["mean_iou"], share / 2)
    printed = capsys.readouterr().out
    assert f"{report['mean_iou']:.4f}" in printed
    assert f"{share / 2:.4f}" in printed
    assert "left out of the mean: never" in printed
    written = ["confusion_matrix.png", "mine.txt", "overlays", "report.html", "report.json"]
    assert sorted(p.name for p in output.iterdir()) == written
    assert 0 < report["seg_score"] < 1
    assert report["mean_average_precision"] <= report["mean_average_precision_50"]
    assert report["made"]["command"].startswith("python tools/evaluate.py --model ")
    assert len(list((output / "overlays").iterdir())) == 2
    for path in (output / "confusion_matrix.png", *(output / "overlays").iterdir()):
        assert min(picture_size(path)) > 100


def test_a_perfect_model_scores_one(tmp_path):
    image, mask, instances = cells(0)
    instances[instances == 7] = 0  # Touching objects cannot be told apart by components.
    mask = np.where(mask == 255, 255, instances > 0).astype(np.uint8)
    image[:] = np.where(instances > 0, 200, 20)[..., None]
    spec = DatasetSpec("cells", NAMES[:2], channels=1)
    write(tmp_path / "data", spec, {"val": [Example("a", image, mask, instances)]}, progress=False)
    picture = keras.Input((None, None, 1))
    layer = keras.layers.Conv2D(1, 1)  # one logit for two classes
    one_logit = keras.Model(picture, layer(picture))
    layer.set_weights([np.ones((1, 1, 1, 1)), np.array([-100])])
    for model in (threshold_model(num_classes=2), one_logit):
        model.save(tmp_path / "m.keras")
        arguments = ["--model", tmp_path / "m.keras", "--data", tmp_path / "data", "--output", tmp_path / "out"]
        evaluate.main([str(argument) for argument in arguments])
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        for name in ("mean_iou", "pixel_accuracy", *OBJECT_SCORES):
            assert report[name] == 1, name


def test_touching_objects_are_parted_by_a_model_that_knows_rims(tmp_path):
    """The image shows inside and rim; the same model without rims takes two squares that touch for one."""
    _, _, instances = cells(0)
    instances = instances.astype(np.uint16)
    instances[3:15, 13:19] = 7
    image = (80 * instance_targets(instances, "rim"))[..., None]
    mask = (instances > 0).astype(np.uint8)
    spec = DatasetSpec("cells", NAMES[:2], channels=1)
    write(tmp_path / "data", spec, {"val": [Example("a", image, mask, instances)]}, progress=False)
    picture = keras.Input((None, None, 1))
    layer = keras.layers.Conv2D(3, 1, name="rims")  # -(x - c)² over c = 0, 80, 160, without the part they share
    fine = layer(picture)
    layer.set_weights([np.array([0, 160, 320]).reshape(1, 1, 1, 3) / 100, -(np.array([0, 80, 160]) ** 2) / 100])
    coarse = MergeClasses([[0], [1, 2]])(fine)
    model = keras.Model(picture, coarse)
    reports = []
    for name, outputs in (("rims", coarse), ("plain", Scale(1.0)(coarse))):
        keras.Model(picture, outputs).save(tmp_path / f"{name}.keras")
        arguments = ["--model", tmp_path / f"{name}.keras", "--data", tmp_path / "data", "--output", tmp_path / name]
        evaluate.main([str(argument) for argument in arguments])
        reports.append(json.loads((tmp_path / name / "report.json").read_text()))
    assert [report["mean_iou"] for report in reports] == [1, 1]
    assert [reports[0][name] for name in OBJECT_SCORES] == [1] * len(OBJECT_SCORES)
    # The two that touch make one whose IoU with the larger of them is 120/192: six found, one missed.
    assert reports[1]["average_precision_50"] == pytest.approx(6 / 7)
    found = Segmenter(model).objects(image)
    np.testing.assert_array_equal(np.unique(np.stack([found, instances], -1)[mask > 0], axis=0).shape, (7, 2))
    assert not found[mask == 0].any()


def test_evaluate_refuses_what_does_not_fit(data, run, tmp_path):
    output = ["--output", str(tmp_path / "out")]
    with pytest.raises(DataError, match="has no split 'test'; it has: val"):
        evaluate.main(["--model", str(run / "best.keras"), "--data", str(data), "--split", "test", *output])
    with pytest.raises(DataError, match="nothing: there is no such model file"):
        evaluate.main(["--model", str(tmp_path / "nothing"), "--data", str(data), *output])
    threshold_model(3, 2).save(tmp_path / "other.keras")
    with pytest.raises(
        DataError, match="takes images of 3 channels and tells 2 classes apart, but the data set 'cells'"
    ):
        evaluate.main(["--model", str(tmp_path / "other.keras"), "--data", str(data), *output])
    assert not (tmp_path / "out").exists()


def test_predict_writes_masks_and_overlays_and_names_bad_files(run, tmp_path, run_tool):
    images = tmp_path / "images"
    images.mkdir()
    image = cells(0)[0][..., 0]
    Image.fromarray(image).save(images / "a.png")
    Image.fromarray(image[:30]).save(images / "a.tif")
    (images / "bad.jpg").write_text("no image")
    (images / "notes.txt").write_text("not looked at")
    result = run_tool(
        "predict.py", "--model", run / "best.keras", "--images", images, images / "none.png",
        "--output", tmp_path / "out", "--objects", check=False,
    )  # fmt: skip
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in lines[:2]] == [str(images / "bad.jpg"), str(images / "none.png")]
    assert lines[2:] == ["error: 2 of 4 images could not be segmented; they are named above"]
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["a_png.png", "a_tif.png"]
    for name, expected in (("a_png", image), ("a_tif", image[:30])):
        mask = Image.open(tmp_path / "out" / "masks" / f"{name}.png")
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.array(mask), expected > 100)
        assert mask.getpalette()[3:6] == [255, 120, 0]
        numbers = np.array(Image.open(tmp_path / "out" / "objects" / f"{name}.png"))
        assert numbers.dtype in (np.uint16, np.int32)
        np.testing.assert_array_equal(numbers, objects(expected > 100))
        assert picture_size(tmp_path / "out" / "overlays" / f"{name}.png") == mask.size
    assert (tmp_path / "out" / "legend.png").exists()


def test_predict_refuses_names_that_collide_and_empty_folders(run, tmp_path):
    for folder in ("x", "y", "empty"):
        (tmp_path / folder).mkdir()
    for folder in ("x", "y"):
        Image.new("L", (8, 8)).save(tmp_path / folder / "a.png")
    arguments = ["--model", str(run / "best.keras"), "--output", str(tmp_path / "out"), "--images"]
    with pytest.raises(DataError, match=r"x/a\.png and .*y/a\.png would be written to one name"):
        predict.main([*arguments, str(tmp_path / "x"), str(tmp_path / "y")])
    with pytest.raises(DataError, match=r"empty: expected images .* found none"):
        predict.main([*arguments, str(tmp_path / "empty")])
    with pytest.raises(SystemExit):
        predict.main([*arguments, str(tmp_path / "x"), "--tile-size", "0"])
    assert not (tmp_path / "out").exists()


def test_export_takes_the_classes_from_the_run(run, tmp_path, capsys):
    export.main(["--model", str(run / "best.keras"), "--output", str(tmp_path / "cells")])
    described = json.loads((tmp_path / "cells" / "kerasseg.json").read_text())
    assert described["class_names"] == list(NAMES)
    assert described["palette"][1] == [255, 120, 0]
    assert described["training"] == {"options": {"steps": 3}, "scores": {"best_step": 3}}
    assert (tmp_path / "cells" / "1" / "saved_model.pb").exists()
    assert str(tmp_path / "cells" / "1") in capsys.readouterr().out
    with pytest.raises(DataError, match="there is no such model file"):
        export.main(["--model", str(tmp_path / "none.keras"), "--output", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()
