"""Folders of predicted masks scored against folders of labels, and the VOC server's layout."""

import json
import tarfile

import evaluate
import numpy as np
import predict
import pytest
import tifffile
from PIL import Image
from tensorflow import keras

from kerasseg import metrics
from kerasseg.records import read_mask
from kerasseg.spec import DataError, voc_palette


def score(tmp_path, *arguments):
    """Returns the report of `tools/evaluate.py` for predictions and labels in tmp_path."""
    given = ["--predictions", tmp_path / "predictions", "--labels", tmp_path / "labels", "--output", tmp_path / "out"]
    evaluate.main([str(argument) for argument in [*given, *arguments]])
    return json.loads((tmp_path / "out" / "report.json").read_text())


def save(path, pixels, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette is not None:
        picture.putpalette(palette.tobytes())
    picture.save(path)


@pytest.fixture
def masks(tmp_path):
    """Two labels and predictions of 3 classes in tmp_path; returns [(truth, predicted), ...]."""
    rng = np.random.default_rng(0)
    pairs = []
    for name, size in (("a", (20, 30)), ("b", (25, 21))):
        truth = rng.integers(0, 3, size).astype(np.uint8)
        truth[0] = 255
        predicted = np.where(rng.random(size) < 0.7, truth, rng.integers(0, 3, size)).astype(np.uint8)
        predicted[0] = 1
        save(tmp_path / "labels" / f"{name}.png", truth, voc_palette())
        save(tmp_path / "predictions" / f"{name}.png", predicted)
        pairs.append((truth, predicted))
    (tmp_path / "classes.txt").write_text("sky 70 130 180\nroad 128 64 128\ntree 107 142 35\n")
    return pairs


def test_real_predictions_score_from_colours_as_from_ids(real_data, tmp_path):
    """VOC images with a network's predictions, both in 24-bit colours; their ids by a loop over the colour map."""
    total = np.zeros((21, 21), np.int64)
    for name in ("image_0", "image_4"):
        found = {}
        for kind in ("label", "prediction"):
            source = real_data / "odd/rgb_coded_labels" / f"{name}_{kind}.png"
            rgb = np.asarray(Image.open(source).convert("RGB"))
            ids = np.full(rgb.shape[:2], 77, np.uint8)
            for label in [*range(21), 255]:
                ids[(rgb == voc_palette()[label]).all(-1)] = label
            assert 77 not in ids
            found[kind] = ids
            save(tmp_path / f"rgb/{kind}s/{name}.png", rgb)
            save(tmp_path / f"ids/{kind}s/{name}.png", ids, voc_palette() if kind == "label" else None)
        counts = found["label"] != 255
        for true, guess in zip(found["label"][counts], found["prediction"][counts], strict=True):
            total[true, guess] += 1
    reports = []
    for labels, predictions in (("rgb", "rgb"), ("ids", "ids"), ("ids", "rgb")):
        folder = tmp_path / f"{labels}_{predictions}"
        folder.mkdir()
        (folder / "labels").symlink_to(tmp_path / labels / "labels")
        (folder / "predictions").symlink_to(tmp_path / predictions / "predictions")
        reports.append(score(folder, "--voc-colours", "--no-borders", "--pictures", 0))
    for report in reports:
        assert report["confusion_matrix"] == total.tolist()
        assert report["mean_iou"] == pytest.approx(0.7061, abs=1e-4)
        for name in ("made", "predictions", "labels"):
            del report[name]
    assert reports[0] == reports[1] == reports[2]
    union = total.sum(0) + total.sum(1) - total.diagonal()
    assert reports[0]["mean_iou"] == pytest.approx((total.diagonal() / np.maximum(union, 1))[union > 0].mean())


def test_the_report_of_a_folder_holds_what_the_metrics_say(masks, tmp_path):
    report = score(tmp_path, "--classes", tmp_path / "classes.txt", "--pictures", 1)
    matrices = [metrics.confusion_matrix(truth, predicted, 3) for truth, predicted in masks]
    expected = metrics.scores(sum(matrices), ["sky", "road", "tree"])
    assert {name: report[name] for name in expected} == expected
    per_image = metrics.scores(matrices, per_image=True)
    assert report["per_image"] == pytest.approx({name: per_image[name] for name in report["per_image"]})
    images = [metrics.scores(matrix)["mean_iou"] for matrix in matrices]
    assert report["image_iou"] == pytest.approx(dict(zip("ab", images, strict=True)))
    f1 = np.array([metrics.boundary_f1(truth, predicted, 3) for truth, predicted in masks])
    assert report["mean_boundary_f1"] == pytest.approx(f1.mean(1).mean())
    assert list(report["per_class_boundary_f1"].values()) == pytest.approx(f1.mean(0))
    band = sum(metrics.trimap_confusion_matrix(truth, predicted, 3, 3) for truth, predicted in masks)
    assert report["trimap_mean_iou"]["3"] == pytest.approx(metrics.scores(band)["mean_iou"])
    assert "mean_boundary_f1" not in score(tmp_path, "--classes", tmp_path / "classes.txt", "--no-borders")
    # The colours of the list decode masks in colours.
    for kind, index in (("labels", 0), ("predictions", 1)):
        palette = np.zeros((256, 3), np.uint8)
        palette[:3], palette[255] = [(70, 130, 180), (128, 64, 128), (107, 142, 35)], (224, 224, 192)
        save(tmp_path / kind / "a.png", palette[masks[0][index]])
    assert score(tmp_path, "--classes", tmp_path / "classes.txt")["confusion_matrix"] == report["confusion_matrix"]


def test_another_label_may_be_ignored_and_some_images_scored(masks, tmp_path):
    """CamVid's way: the last class of the list is void."""
    (truth, predicted), _ = masks
    save(tmp_path / "labels" / "a.png", np.where(truth == 255, 3, truth).astype(np.uint8))
    save(tmp_path / "predictions" / "a.png", np.where(truth == 255, 3, predicted).astype(np.uint8))
    classes = tmp_path / "classes.txt"
    classes.write_text("sky\nroad\ntree\nunlabelled\n")
    (tmp_path / "val.txt").write_text("a.png\n")
    report = score(tmp_path, "--classes", classes, "--ignore-label", 3, "--list", tmp_path / "val.txt")
    assert report["confusion_matrix"] == metrics.confusion_matrix(truth, predicted, 3).tolist()
    assert list(report["image_iou"]) == ["a"]


def test_single_pixels_and_void_alone_are_scored(tmp_path):
    for name, truth, predicted in (("a", [[1]], [[1]]), ("b", [[255, 255]], [[0, 1]]), ("c", [[0], [1]], [[1], [1]])):
        save(tmp_path / "labels" / f"{name}.png", np.array(truth, np.uint8))
        save(tmp_path / "predictions" / f"{name}.png", np.array(predicted, np.uint8))
    (tmp_path / "classes.txt").write_text("off\non\n")
    report = score(tmp_path, "--classes", tmp_path / "classes.txt")
    assert report["confusion_matrix"] == [[0, 1], [0, 2]]
    assert report["per_image"]["mean_iou"] == pytest.approx((1 + 1 / 4) / 2)  # of the two that have pixels
    assert report["num_images"] == 3


def test_numbers_of_objects_are_scored_as_objects(tmp_path):
    """16-bit PNG and TIFF with numbers above 255, and gaps."""
    truth = np.zeros((40, 60), np.uint16)
    truth[2:12, 2:12], truth[2:12, 12:22], truth[20:35, 30:50] = 300, 1, 65535
    predicted = np.zeros_like(truth)
    predicted[2:12, 2:12], predicted[2:12, 12:19], predicted[25:40, 30:50], predicted[30:34, 2:6] = 2, 1000, 7, 9
    save(tmp_path / "labels" / "a.png", truth)
    (tmp_path / "predictions").mkdir()
    tifffile.imwrite(tmp_path / "predictions" / "a.tif", predicted)
    report = score(tmp_path, "--instances")
    counts = metrics.detection_counts(truth, predicted)
    assert counts[0].tolist() == [2, 2, 1]  # IoU 1, .7, .5 exactly (no hit), and one made up
    assert report["average_precision_50"] == report["mean_average_precision_50"] == 2 / 5
    assert list(report["mean_average_precision_by_iou"].values()) == pytest.approx(
        [2 / 5] * 4 + [1 / 6] * 6  # an IoU of .7 exactly is no hit at .7
    )
    assert report["mean_average_precision"] == pytest.approx(metrics.average_precision(truth, predicted))
    assert report["seg_score"] == pytest.approx((1 + 0.7 + 0.5) / 3)
    assert report["mean_instance_iou"] == pytest.approx((1 + 0.7 + 0.5) / 3)
    assert report["adapted_rand_f_score"] == metrics.adapted_rand_f_score(truth, predicted)
    iou = ((truth > 0) & (predicted > 0)).sum() / ((truth > 0) | (predicted > 0)).sum()
    assert report["mean_image_iou"] == report["per_class_iou"]["object"] == pytest.approx(iou)
    # From the class map alone the two that touch are one component.
    assert score(tmp_path, "--instances", "--objects-by", "components")["average_precision_50"] < 2 / 5
    save(tmp_path / "labels" / "a.png", truth)
    tifffile.imwrite(tmp_path / "predictions" / "a.tif", truth)
    report = score(tmp_path, "--instances", "--membranes")
    for name in ("mean_average_precision", "seg_score", "adapted_rand_f_score", "isbi_rand_score"):
        assert report[name] == pytest.approx(1), name


def test_a_real_segmentation_of_the_cell_tracking_challenge(real_data, tmp_path, capsys):
    """The challenge's silver truth, made by programs, against its gold truth, by hand: SEG by a loop over the cells."""
    root = real_data / "cells/ctc/DIC-C2DH-HeLa"
    (tmp_path / "labels").symlink_to(root / "01_GT/SEG")
    (tmp_path / "predictions").mkdir()
    for path in (root / "01_ST/SEG").glob("*.tif"):  # Results are called mask002.tif, the truth man_seg002.tif.
        (tmp_path / "predictions" / path.name.replace("man_seg", "mask")).symlink_to(path)
    prefixes = ["--label-prefix", "man_seg", "--prediction-prefix", "mask"]
    report = score(tmp_path, "--instances", *prefixes, "--no-borders", "--pictures", 0)
    values = []
    for path in sorted((root / "01_GT/SEG").glob("*.tif")):
        truth, found = (np.asarray(Image.open(file)) for file in (path, root / "01_ST/SEG" / path.name))
        for cell in np.unique(truth[truth > 0]):
            inside = truth == cell
            best = np.bincount(found[inside]).argmax()
            covers = best > 0 and 2 * (found[inside] == best).sum() > inside.sum()
            values.append((inside & (found == best)).sum() / (inside | (found == best)).sum() if covers else 0)
    assert report["num_images"] == 9
    assert report["seg_score"] == pytest.approx(np.mean(values), abs=1e-12)
    assert 0.7 < report["seg_score"] < 1
    assert "75 predictions have no label" in capsys.readouterr().err
    with pytest.raises(DataError, match="holds no file whose name begins with 'seg'"):
        score(tmp_path, "--instances", "--label-prefix", "seg")
    with pytest.raises(DataError, match=r"man_seg002.tif has no prediction: expected .*predictions/002.png"):
        score(tmp_path, "--instances", "--label-prefix", "man_seg")


def test_what_is_wrong_with_the_files_is_said_in_one_line(masks, tmp_path, capsys):
    classes = ["--classes", tmp_path / "classes.txt"]
    predictions, labels = tmp_path / "predictions", tmp_path / "labels"
    truth, predicted = masks[1]
    good = (predictions / "b.png").read_bytes()

    def refused(expected, *arguments):
        with pytest.raises(DataError, match=expected):
            score(tmp_path, *arguments)
        assert not (tmp_path / "out").exists()

    refused("the classes are not named; give --classes")
    (predictions / "b.png").write_bytes(good[: len(good) // 2])
    refused("predictions/b.png is damaged or cut short", *classes)
    (predictions / "b.png").write_text("no picture")
    refused("predictions/b.png is no picture that can be read", *classes)
    save(predictions / "b.png", predicted[1:])
    refused("predictions/b.png has 21x24 pixels, .*labels/b.png has 21x25", *classes)
    save(predictions / "b.png", np.where(predicted == 2, 3, predicted).astype(np.uint8))
    refused(r"predictions/b.png holds the label 3 in \d+ pixels that count; expected 0 to 2 \(sky to tree\)", *classes)
    (predictions / "b.png").write_bytes(good)
    save(labels / "b.png", np.where(truth == 2, 9, truth).astype(np.uint8))
    refused(r"labels/b.png holds the label 9 in \d+ pixels", *classes)
    save(labels / "b.png", truth)
    save(tmp_path / "images" / "b.png", np.zeros((7, 7, 3), np.uint8))
    refused("images/b.png has 7x7 pixels, .*labels/b.png has 21x25", *classes, "--images", tmp_path / "images")
    (tmp_path / "val.txt").write_text("a\nc\n")
    refused("val.txt names 'c', which is not in .*labels", *classes, "--list", tmp_path / "val.txt")
    (tmp_path / "val.txt").write_text("\n")
    refused("val.txt names no image", *classes, "--list", tmp_path / "val.txt")
    (predictions / "a.png").rename(predictions / "c.png")
    refused("labels/a.png has no prediction: expected .*predictions/a.png .1 of 2 labels", *classes)
    (predictions / "c.png").rename(predictions / "a.png")
    save(predictions / "z.png", predicted)
    save(tmp_path / "images" / "b.png", np.zeros((*truth.shape, 3), np.uint8))
    score(tmp_path, *classes, "--images", tmp_path / "images")
    said = capsys.readouterr().err
    assert "1 predictions have no label and are left out, first" in said
    assert "1 of 2 labels have no image in" in said
    for arguments in (["--flip"], ["--model", "m.keras"]):
        with pytest.raises(SystemExit):
            score(tmp_path, *classes, *arguments)
    assert "--flip would change nothing with --predictions" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["folder", "archive.tgz"])
def test_the_submission_is_read_back(tmp_path, kind):
    """Palette PNG with VOC's colours and ids, where VOCevalseg.m looks for them."""
    rng = np.random.default_rng(1)
    wanted = {}
    for name in ("2007_000033", "2008_000002"):
        wanted[name] = rng.integers(0, 21, (12, 17)).astype(np.uint8)
        save(tmp_path / "predictions" / f"{name}.png", wanted[name])
        save(tmp_path / "labels" / f"{name}.png", wanted[name])
    options = ["--voc-colours", "--no-borders", "--voc-submission", tmp_path / kind]
    score(tmp_path, *options, "--voc-results", "comp5_val_cls")
    root = tmp_path / kind
    if kind != "folder":
        with tarfile.open(root) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
        root = tmp_path / "unpacked"
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert files == [f"results/VOC2012/Segmentation/comp5_val_cls/{name}.png" for name in wanted]
    for path, mask in zip(files, wanted.values(), strict=True):
        picture = Image.open(root / path)
        assert picture.mode == "P"
        assert picture.getpalette()[: 21 * 3] == voc_palette()[:21].ravel().tolist()
        np.testing.assert_array_equal(np.asarray(picture), mask)
        np.testing.assert_array_equal(read_mask(root / path, colours=voc_palette()[:21]), mask)
    with pytest.raises(DataError, match="is there already; remove it"):
        score(tmp_path, *options, "--voc-results", "comp5_val_cls")
    with pytest.raises(DataError, match="--voc-results best: expected comp5_test_cls"):
        score(tmp_path, *options, "--voc-results", "best")
    save(tmp_path / "predictions" / "2008_000002.png", wanted["2007_000033"][:5])
    with pytest.raises(DataError, match="has 17x5 pixels"):
        score(tmp_path, *options[:-1], tmp_path / f"other_{kind}")
    assert not list(tmp_path.glob("other_*"))


def test_predictions_of_a_model_are_submitted(tmp_path):
    """Brighter than 100: class 1, of 21; a model of 2 classes is refused, and images that cannot be read, too."""
    image = np.random.default_rng(2).integers(0, 255, (9, 8)).astype(np.uint8)
    save(tmp_path / "test" / "2008_000001.png", image)
    for num_classes in (21, 2):
        picture = keras.Input((None, None, 1))
        layer = keras.layers.Conv2D(num_classes, 1)
        model = keras.Model(picture, layer(picture))
        kernel = np.zeros((1, 1, 1, num_classes))
        kernel[..., 1] = 1
        layer.set_weights([kernel, np.array([100.5, *[0] * (num_classes - 1)])])
        model.save(tmp_path / f"{num_classes}.keras")
    archive = tmp_path / "voc.tar"
    given = ["--images", tmp_path / "test", "--output", tmp_path / "out", "--voc-submission", archive]
    predict.main([str(argument) for argument in ["--model", tmp_path / "21.keras", *given]])
    with tarfile.open(archive) as found:
        assert found.getnames() == ["results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png"]
        mask = np.asarray(Image.open(found.extractfile(found.getnames()[0])))
    np.testing.assert_array_equal(mask, image > 100)
    archive.unlink()
    with pytest.raises(DataError, match="the predictions tell 2 classes apart; expected the 21 of PASCAL VOC"):
        predict.main([str(argument) for argument in ["--model", tmp_path / "2.keras", *given]])
    (tmp_path / "test" / "2008_000002.png").write_text("no picture")
    with pytest.raises(DataError, match="1 of 2 images could not be segmented"):
        predict.main([str(argument) for argument in ["--model", tmp_path / "21.keras", *given]])
    assert not list(tmp_path.glob("voc.tar*"))


def background_everywhere(real_data, tmp_path, step):
    """Scores all-background for VOC's training labels; returns the report and each label's number of pixels."""
    pixels = np.zeros(256, np.int64)
    paths = sorted((real_data / "voc_labels_train1464").glob("*.png"))
    assert len(paths) == 1464
    for path in paths[::step]:
        mask = np.asarray(Image.open(path))
        pixels += np.bincount(mask.ravel(), minlength=256)
        save(tmp_path / "predictions" / path.name, np.zeros_like(mask))
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / path.name).symlink_to(path)
    return score(tmp_path, "--voc-colours", "--no-borders", "--pictures", 0), pixels


def check_background(report, pixels):
    """Only the background has any IoU: its pixels ÷ all that count, and the others that occur have none."""
    share, shown = pixels[0] / pixels[:21].sum(), np.count_nonzero(pixels[:21])
    assert report["mean_iou"] == pytest.approx(share / shown, abs=1e-12)
    assert report["pixel_accuracy"] == report["per_class_iou"]["background"] == pytest.approx(share, abs=1e-12)
    assert report["mean_accuracy"] == pytest.approx(1 / shown, abs=1e-12)
    assert report["frequency_weighted_iou"] == pytest.approx(share**2, abs=1e-12)
    assert report["baseline"]["mean_iou"] == report["mean_iou"]
    assert np.sum(report["confusion_matrix"], axis=1).tolist() == pixels[:21].tolist()


def test_background_everywhere_scores_what_pixel_counts_say(real_data, tmp_path):
    check_background(*background_everywhere(real_data, tmp_path, step=30))


@pytest.mark.slow
def test_background_everywhere_on_all_1464_labels(real_data, tmp_path):
    report, pixels = background_everywhere(real_data, tmp_path, step=1)
    check_background(report, pixels)
    assert report["num_images"] == 1464
    assert np.count_nonzero(pixels) == 22
    assert report["mean_iou"] == pytest.approx(0.73355 / 21, abs=1e-6)
