"""Every file of the real data sets: what is read, and what the records hold, is what an independent reader finds."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import convert_cells
import convert_pairs
import convert_sbd
import convert_voc
import numpy as np
import pytest
import scipy.io
from PIL import Image, ImageSequence

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec, voc_palette

CAMVID = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist Unlabelled"
NO_PICTURES = (".txt", ".tsv", ".xml", ".nii", ".gz")


def pixels(path):
    """Palette indices, grey values or colours, of all pages, [N, H, W] or [N, H, W, C], by Pillow."""
    with Image.open(path) as image:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])


def agree(found, expected, what):
    """Compares sums and histograms first, for what differs to be told in few numbers, and then every pixel."""
    found, expected = np.asarray(found), np.asarray(expected).astype(np.int64)
    assert found.astype(np.int64).sum() == expected.sum(), what
    assert np.array_equal(np.bincount(found.ravel()), np.bincount(expected.ravel())), what
    assert np.array_equal(found, expected), what


def read_as_elsewhere(path: Path) -> str:
    """Reads one file as the converters would and compares; returns what kind of file it was."""
    if path.suffix == ".mat":
        content = scipy.io.loadmat(path)
        field = next(name for name in ("GTcls", "GTinst") if name in content)
        agree(records.read_sbd(path, field), content[field][0, 0]["Segmentation"], path)
        return "mat"
    expected = pixels(path)
    if path.suffix == ".tif":
        agree(records.read_pages(path), expected, path)
        return "stack" if len(expected) > 1 else "tif"
    (expected,) = expected
    if expected.ndim == 2 and path.suffix == ".png":
        agree(records.read_labels(path), expected, path)
        return "labels"
    image = records.read_image(path).image
    agree(image, expected[..., None] if expected.ndim == 2 else expected[..., :3], path)
    return path.suffix[1:]


@pytest.mark.slow
def test_every_picture_is_read_as_by_other_readers(real_data):
    paths = [p for p in sorted(real_data.rglob("*")) if p.is_file() and p.suffix not in NO_PICTURES]
    assert len(paths) > 7000
    with ThreadPoolExecutor() as pool:
        kinds = list(pool.map(read_as_elsewhere, paths))
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert sum(counts.values()) == len(paths)
    assert set(counts) == {"mat", "tif", "stack", "labels", "png", "jpg"}


def converted(output, tool, *arguments):
    """Returns key to example, of all splits."""
    tool.main([*map(str, arguments), "--output", str(output)])
    spec = DatasetSpec.load(output)
    return {example.key: example for split in spec.splits for example in records.read(output, split)}


def compare(found, expected):
    """Compares examples with key to (image [H, W] or [H, W, C], mask, instances or None)."""
    assert set(found) == set(expected)
    for key, (image, mask, instances) in expected.items():
        example = found[key]
        agree(example.image, image if image.ndim == 3 else image[..., None], key)
        agree(example.mask, mask, key)
        if instances is not None:
            agree(example.instances, instances, key)


@pytest.mark.slow
def test_every_file_of_voc_and_sbd_is_in_the_records(real_data, tmp_path):
    voc, sbd = real_data / "voc/VOCdevkit/VOC2012", real_data / "sbd/benchmark_RELEASE/dataset"
    mat = {kind: {p.stem: scipy.io.loadmat(p) for p in (sbd / kind).glob("*.mat")} for kind in ("cls", "inst")}
    expected = {}
    for path in (voc / "JPEGImages").glob("*.jpg"):
        key = path.stem
        if (voc / f"SegmentationClass/{key}.png").is_file():
            mask, objects = (pixels(voc / f"Segmentation{kind}/{key}.png")[0] for kind in ("Class", "Object"))
            instances = np.where(objects == 255, 0, objects)
        else:
            mask = mat["cls"][key]["GTcls"][0, 0]["Segmentation"]
            instances = mat["inst"][key]["GTinst"][0, 0]["Segmentation"]
        expected[key] = pixels(path)[0], mask, instances
    assert len(expected) == 35
    more = ["--voc", voc, "--sbd", sbd, "--train-set", "train_aug", "--instances"]
    compare(converted(tmp_path / "both", convert_voc, *more), expected)
    of_sbd = converted(tmp_path / "sbd", convert_sbd, "--sbd", sbd)
    compare(of_sbd, {key: expected[key] for key in mat["cls"]})
    assert len(of_sbd) == 13


@pytest.mark.slow
def test_every_file_of_the_other_layouts_is_in_the_records(real_data, tmp_path):
    camvid = real_data / "camvid/CamVid"
    (tmp_path / "classes.txt").write_text(CAMVID.replace(" ", "\n"))
    found = converted(
        tmp_path / "camvid", convert_pairs, "--images", camvid / "train", "--masks", camvid / "trainannot",
        "--val-images", camvid / "val", "--val-masks", camvid / "valannot", "--classes", tmp_path / "classes.txt",
        "--ignore", "11",
    )  # fmt: skip
    expected = {}
    for path in [*(camvid / "train").glob("*.png"), *(camvid / "val").glob("*.png")]:
        ids = pixels(path.parent.with_name(f"{path.parent.name}annot") / path.name)[0]
        expected[path.stem] = pixels(path)[0], np.where(ids == 11, 255, ids), None
    assert len(expected) == 160
    compare(found, expected)

    isbi = real_data / "isbi2012"
    stack = converted(
        tmp_path / "stack", convert_cells, "--layout", "isbi2012", "--input", isbi / "train-volume_first24.tif"
    )
    images, labels = (pixels(isbi / f"train-{kind}_first24.tif") for kind in ("volume", "labels"))
    compare(stack, {str(i): (images[i], labels[i] == 255, None) for i in range(24)})
    folders = converted(tmp_path / "folders", convert_cells, "--layout", "isbi2012", "--input", isbi)
    train = isbi / "train"
    expected = {str(i): (pixels(train / f"image/{i}.png")[0], pixels(train / f"label/{i}.png")[0] // 255, None)
                for i in range(24)}  # fmt: skip
    compare(folders, expected)


@pytest.mark.slow
def test_every_nucleus_is_in_the_records(real_data, tmp_path):
    root = real_data / "cells/dsb2018/stage1_train"
    found = converted(tmp_path / "out", convert_cells, "--layout", "dsb2018", "--input", root, "--targets", "semantic")
    assert len(found) == 111
    nuclei = 0
    for key, example in found.items():
        agree(example.image, pixels(root / key / "images" / f"{key}.png")[0][..., :3], key)
        masks = [pixels(path)[0] > 0 for path in (root / key / "masks").glob("*.png")]
        nuclei += len(masks)
        agree(example.mask, np.any(masks, axis=0), key)
        # Each pixel of one nucleus alone has one number there, and each number is of one nucleus.
        single = np.sum(masks, axis=0) == 1
        numbers = [np.unique(example.instances[mask & single]) for mask in masks]
        assert all(len(n) == 1 and n[0] > 0 for n, mask in zip(numbers, masks, strict=True) if (mask & single).any()), (
            key
        )
        assert len({int(n[0]) for n in numbers if len(n)}) == sum(len(n) > 0 for n in numbers), key
    assert nuclei == 5283


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DIC-C2DH-HeLa", "PhC-C2DL-PSC"])
def test_every_frame_of_the_films_is_in_the_records(real_data, tmp_path, name):
    root = real_data / "cells/ctc" / name
    found = converted(tmp_path / "out", convert_cells, "--layout", "ctc", "--input", root, "--targets", "semantic")
    assert len(found) == len(list((root / "01").glob("*.tif")))
    for key, example in found.items():
        frame = key.removeprefix("01_t")
        gold, silver = (root / f"01_{kind}/SEG/man_seg{frame}.tif" for kind in ("GT", "ST"))
        labels = pixels(gold if gold.is_file() else silver)[0]
        agree(example.image, pixels(root / f"01/t{frame}.tif")[0][..., None], key)
        agree(example.instances, labels, key)
        known = example.mask != 255
        agree(example.mask[known], labels[known] > 0, key)
        assert known.all() or key == "01_t067"


# The odd cases: every file is read, or refused with a reason


ODD = {
    "bbbc039_rgb_tif_onehot_label/image.tif": (232, 232, 3),
    "bbbc039_rgb_tif_onehot_label/label.png": r"3 channels of 0 and 1.*\(argmax\)",
    "nifti_3d/anatomical.nii": "no picture that can be read.*NIfTI",
    "nifti_3d/anatomical_label.nii.gz": "no picture that can be read.*NIfTI",
    "rgb_coded_labels/image_0.jpg": (366, 500, 3),
    "rgb_coded_labels/image_4.jpg": (500, 334, 3),
    "rgb_coded_labels/image_0_label.png": "is coded in colours",
    "rgb_coded_labels/image_4_label.png": "is coded in colours",
    "rgb_coded_labels/image_0_prediction.png": "is coded in colours",
    "rgb_coded_labels/image_4_prediction.png": "is coded in colours",
    "rgba_label_other_size/JPEGImages/42.jpg": (2268, 4032, 3),
    "rgba_label_other_size/SegmentationClass/42.png": "is an RGBA picture of 1209x680 pixels with 62614 colours",
}


def test_every_odd_file_is_read_or_refused_with_its_reason(real_data):
    odd = real_data / "odd"
    there = {p.relative_to(odd).as_posix() for p in odd.rglob("*") if p.is_file() and p.suffix != ".txt"}
    labelme = {name for name in there if name.startswith("labelme_voc_instances")}
    assert there - labelme == set(ODD)
    for name, expected in ODD.items():
        if isinstance(expected, tuple):
            image = records.read_image(odd / name).image
            assert image.shape == expected
            agree(image, pixels(odd / name)[0], name)
            continue
        with pytest.raises(DataError, match=f"{Path(name).name} .*{expected}"):
            records.read_mask(odd / name)
    for name in sorted(labelme):
        path = odd / name
        read = records.read_image(path).image if path.suffix == ".jpg" else records.read_mask(path)
        agree(read, pixels(path)[0], name)


def test_predictions_in_colours_are_read_by_the_voc_map(real_data):
    for path in sorted((real_data / "odd/rgb_coded_labels").glob("*.png")):
        ids = records.read_mask(path, colours=voc_palette()[:21])
        agree(voc_palette()[ids], pixels(path)[0][..., :3], path)


def test_odd_folders_end_the_converters_with_their_reason(real_data, tmp_path):
    odd = real_data / "odd"
    for message, tool, arguments in (
        ("val.txt is missing|train.txt is missing", convert_voc, ["--voc", odd / "labelme_voc_instances"]),
        ("nifti_3d.* holds no sequence", convert_cells, ["--layout", "ctc", "--input", odd / "nifti_3d"]),
        ("holds no ID/images", convert_cells, ["--layout", "dsb2018", "--input", odd / "nifti_3d"]),
        ("holds neither train/image", convert_cells, ["--layout", "isbi2012", "--input", odd / "nifti_3d"]),
        ("images is no folder", convert_cells, ["--layout", "pairs", "--input", odd / "rgb_coded_labels"]),
    ):
        with pytest.raises(DataError, match=message):
            tool.main([*map(str, arguments), "--output", str(tmp_path / "out")])
        assert not list(tmp_path.iterdir())
