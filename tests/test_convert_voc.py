"""VOC and SBD: every pixel against Pillow and scipy, the lists against the real ones, and every bad input."""

from pathlib import Path

import _convert
import _voc
import convert_sbd
import convert_voc
import numpy as np
import pytest
import scipy.io
from PIL import Image

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec, voc_palette

NAMES = [f"2007_{i:06d}" for i in range(8)]


def save_voc_image(root: Path, name: str, rng, ids=(0, 1, 15, 255)):
    height, width = int(rng.integers(20, 40)), int(rng.integers(20, 40))
    Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
    for folder, labels in (("SegmentationClass", ids), ("SegmentationObject", (0, 1, 2, 255))):
        mask = Image.fromarray(rng.choice(labels, (height, width)).astype(np.uint8), "P")
        mask.putpalette(voc_palette().ravel().tolist())
        mask.save(root / folder / f"{name}.png")
    return height, width


def write_list(path: Path, names):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def voc(tmp_path):
    """A VOC tree: images 0-3 train, 4-5 val; odd sizes, palette masks with void."""
    root, rng = tmp_path / "VOC2012", np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    for name in NAMES[:6]:
        save_voc_image(root, name, rng)
    write_list(root / "ImageSets/Segmentation/train.txt", NAMES[:4])
    write_list(root / "ImageSets/Segmentation/val.txt", NAMES[4:6])
    return root


@pytest.fixture
def sbd(tmp_path, voc):
    """SBD beside it: train 2, 4, 6; val 5, 7; train_noval 6, 7. Only SBD has the images 6 and 7."""
    root, rng = tmp_path / "dataset", np.random.default_rng(1)
    for folder in ("img", "cls", "inst"):
        (root / folder).mkdir(parents=True)
    for i in (2, 4, 5, 6, 7):
        if i < 6:
            size = np.asarray(Image.open(voc / "JPEGImages" / f"{NAMES[i]}.jpg")).shape[:2]
        else:
            image = Image.fromarray(rng.integers(0, 256, (25, 31, 3)).astype(np.uint8))
            image.save(root / "img" / f"{NAMES[i]}.jpg")
            size = (25, 31)
        for folder, field, top in (("cls", "GTcls", 21), ("inst", "GTinst", 5)):
            labels = rng.integers(0, top, size).astype(np.uint8)
            scipy.io.savemat(root / folder / f"{NAMES[i]}.mat", {field: {"Segmentation": labels}}, do_compression=True)
    write_list(root / "train.txt", [NAMES[i] for i in (2, 4, 6)])
    write_list(root / "val.txt", [NAMES[i] for i in (5, 7)])
    write_list(root / "train_noval.txt", [NAMES[i] for i in (6, 7)])
    return root


def convert(tool, output, *arguments):
    tool.main([*map(str, arguments), "--output", str(output)])
    return DatasetSpec.load(output), {
        split: list(records.read(output, split)) for split in DatasetSpec.load(output).splits
    }


def labels_of(path: Path) -> np.ndarray:
    """An independent reading of class ids."""
    if path.suffix == ".mat":
        return scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["GTcls"].Segmentation
    return np.asarray(Image.open(path))


def test_voc_alone(voc, tmp_path):
    spec, data = convert(convert_voc, tmp_path / "out", "--voc", voc, "--instances")
    assert [e.key for e in data["train"]] == NAMES[:4]
    assert [e.key for e in data["val"]] == NAMES[4:6]
    assert spec.name == "out"
    assert spec.num_classes == 21
    for example in data["train"] + data["val"]:
        path = voc / "JPEGImages" / f"{example.key}.jpg"
        assert example.image_bytes == path.read_bytes()
        np.testing.assert_array_equal(example.image, np.asarray(Image.open(path)))
        np.testing.assert_array_equal(example.mask, labels_of(voc / "SegmentationClass" / f"{example.key}.png"))
        objects = labels_of(voc / "SegmentationObject" / f"{example.key}.png")
        np.testing.assert_array_equal(example.instances, np.where(objects == 255, 0, objects))
    counts = sum(np.bincount(e.mask.ravel(), minlength=256) for e in data["train"])
    assert spec.splits["train"].class_pixels == tuple(counts[:21])
    assert spec.splits["train"].ignored_pixels == counts[255]


def test_voc_with_sbd(voc, sbd, tmp_path):
    _, data = convert(convert_voc, tmp_path / "out", "--voc", voc, "--sbd", sbd, "--instances")
    # (0 1 2 3) + (2 4 6) + (5 7) without (4 5)
    assert [e.key for e in data["train"]] == [NAMES[i] for i in (0, 1, 2, 3, 6, 7)]
    for example in data["train"]:
        official = voc / "SegmentationClass" / f"{example.key}.png"
        path = official if official.is_file() else sbd / "cls" / f"{example.key}.mat"
        np.testing.assert_array_equal(example.mask, labels_of(path))
    inst = scipy.io.loadmat(sbd / "inst" / f"{NAMES[7]}.mat", squeeze_me=True, struct_as_record=False)["GTinst"]
    np.testing.assert_array_equal(data["train"][-1].instances, inst.Segmentation)


def test_instances_are_kept_where_every_image_has_them(voc, tmp_path, capsys):
    assert convert(convert_voc, tmp_path / "all", "--voc", voc)[0].has_instances
    assert not convert(convert_voc, tmp_path / "no", "--voc", voc, "--no-instances")[0].has_instances
    (voc / "SegmentationObject" / f"{NAMES[1]}.png").unlink()
    assert not convert(convert_voc, tmp_path / "some", "--voc", voc)[0].has_instances
    expected = (
        f"note: 1 of 6 images have no object labels, first {voc / 'SegmentationObject' / NAMES[1]}.png: no instances"
    )
    assert expected in capsys.readouterr().err
    with pytest.raises(DataError, match=f"lack a file, first .*{NAMES[1]}"):
        convert_voc.main(["--voc", str(voc), "--instances", "--output", str(tmp_path / "asked")])


def test_original_train_set_and_a_share_for_validation(voc, sbd, tmp_path):
    arguments = ["--voc", voc, "--sbd", sbd, "--train-set", "original"]
    _, data = convert(convert_voc, tmp_path / "a", *arguments, "--splits", "train")
    # (0 1 3) in neither SBD list, (7) SBD val without VOC val, (6 7) train_noval
    assert [e.key for e in data["train"]] == [NAMES[i] for i in (0, 1, 3, 7, 6, 7)]
    _, data = convert(convert_voc, tmp_path / "b", *arguments, "--splits", "train", "--val-share", "0.4", "--seed", "3")
    keys = {split: [e.key for e in examples] for split, examples in data.items()}
    assert len(set(keys["val"])) == 2
    assert not set(keys["train"]) & set(keys["val"])
    assert sorted(keys["train"] + keys["val"]) == sorted(NAMES[i] for i in (0, 1, 3, 7, 6, 7))


def test_train_aug_from_segmentation_class_aug(voc, sbd, tmp_path):
    with pytest.raises(DataError, match="--train-set train_aug needs --sbd .*trainaug.txt with SegmentationClassAug"):
        convert_voc.main(["--voc", str(voc), "--train-set", "train_aug", "--output", str(tmp_path / "out")])
    (voc / "SegmentationClassAug").mkdir()
    rng = np.random.default_rng(0)
    size = save_voc_image(voc, NAMES[6], rng)
    (voc / "SegmentationClass" / f"{NAMES[6]}.png").rename(voc / "SegmentationClassAug" / f"{NAMES[6]}.png")
    write_list(voc / "ImageSets/Segmentation/trainaug.txt", [*NAMES[:4], NAMES[6]])
    _, data = convert(convert_voc, tmp_path / "out", "--voc", voc, "--train-set", "train_aug")
    assert [e.key for e in data["train"]] == [*NAMES[:4], NAMES[6]]
    assert data["train"][-1].mask.shape == size


def test_sbd_alone(voc, sbd, tmp_path):
    for name in (NAMES[2], NAMES[4], NAMES[5]):
        (sbd / "img" / f"{name}.jpg").write_bytes((voc / "JPEGImages" / f"{name}.jpg").read_bytes())
    spec, data = convert(convert_sbd, tmp_path / "out", "--sbd", sbd)
    assert spec.has_instances
    assert {split: [e.key for e in examples] for split, examples in data.items()} == {
        "train": [NAMES[i] for i in (2, 4, 6)],
        "val": [NAMES[i] for i in (5, 7)],
    }
    for example in data["train"] + data["val"]:
        np.testing.assert_array_equal(example.mask, labels_of(sbd / "cls" / f"{example.key}.mat"))


# Bad input


def replace_mask(voc, array, mode=None):
    Image.fromarray(array, mode).save(voc / "SegmentationClass" / f"{NAMES[1]}.png")


def size_of(voc):
    return np.asarray(Image.open(voc / "JPEGImages" / f"{NAMES[1]}.jpg")).shape[:2]


def break_jpeg(voc):
    path = voc / "JPEGImages" / f"{NAMES[1]}.jpg"
    path.write_bytes(path.read_bytes()[:-40])


BAD = {
    "a missing list": (
        lambda voc: (voc / "ImageSets/Segmentation/val.txt").unlink(),
        r"val.txt is missing; expected a list with one image name per line",
    ),
    "an empty list": (
        lambda voc: (voc / "ImageSets/Segmentation/val.txt").write_text("\n"),
        r"the list of split 'val' is empty",
    ),
    "a missing mask": (
        lambda voc: (voc / "SegmentationClass" / f"{NAMES[1]}.png").unlink(),
        rf"split 'train': 1 of 4 images lack a file, first .*SegmentationClass/{NAMES[1]}.png; .*--allow-missing",
    ),
    "a missing image": (
        lambda voc: (voc / "JPEGImages" / f"{NAMES[5]}.jpg").unlink(),
        rf"split 'val': 1 of 2 images lack a file, first .*JPEGImages/{NAMES[5]}.jpg",
    ),
    "a mask of another size": (
        lambda voc: replace_mask(voc, np.zeros((9, 9), np.uint8)),
        rf"SegmentationClass/{NAMES[1]}.png\): the mask is 9x9 pixels, but the image",
    ),
    "a label outside the classes": (
        lambda voc: replace_mask(voc, np.full(size_of(voc), 21, np.uint8)),
        rf"{NAMES[1]}.png\): the mask holds 21 \(\d+ pixels\); expected class ids 0 to 20 or 255",
    ),
    "a colour mask": (
        lambda voc: replace_mask(voc, np.full((*size_of(voc), 3), (128, 0, 0), np.uint8)),
        rf"{NAMES[1]}.png is coded in colours: \(128, 0, 0\) in \d+ pixels; expected one channel",
    ),
    "a truncated JPEG": (break_jpeg, rf"JPEGImages/{NAMES[1]}.jpg is damaged or cut short"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(voc, tmp_path, fault):
    break_it, message = BAD[fault]
    break_it(voc)
    with pytest.raises(DataError, match=message):
        convert_voc.main(["--voc", str(voc), "--output", str(tmp_path / "tf" / "out")])
    assert not (tmp_path / "tf").exists() or not list((tmp_path / "tf").iterdir())


def test_more_bad_input(voc, sbd, tmp_path):
    output = ["--output", str(tmp_path / "out")]
    with pytest.raises(DataError, match="has no JPEGImages; expected VOCdevkit/VOC2012"):
        convert_voc.main(["--voc", str(tmp_path / "nowhere"), *output])
    with pytest.raises(DataError, match="is no folder; expected SBD's dataset folder"):
        convert_voc.main(["--voc", str(voc), "--sbd", str(tmp_path / "nowhere"), *output])
    with pytest.raises(DataError, match="--splits names no split"):
        convert_voc.main(["--voc", str(voc), "--splits", ",", *output])
    mat = sbd / "cls" / f"{NAMES[6]}.mat"
    mat.write_bytes(mat.read_bytes()[:-30])
    with pytest.raises(DataError, match=rf"{NAMES[6]}.mat is damaged or cut short"):
        convert_voc.main(["--voc", str(voc), "--sbd", str(sbd), *output])
    scipy.io.savemat(mat, {"other": 1})
    with pytest.raises(DataError, match=rf"{NAMES[6]}.mat has no GTcls.Segmentation"):
        convert_voc.main(["--voc", str(voc), "--sbd", str(sbd), *output])
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists already.*--overwrite"):
        convert_voc.main(["--voc", str(voc), *output])
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="out exists and is no folder"):
        convert_voc.main(["--voc", str(voc), *output])


def test_allow_missing_converts_what_is_there_and_lists_what_is_not(voc, tmp_path, capsys):
    (voc / "SegmentationClass" / f"{NAMES[1]}.png").unlink()
    (voc / "JPEGImages" / f"{NAMES[5]}.jpg").unlink()
    spec, data = convert(convert_voc, tmp_path / "out", "--voc", voc, "--allow-missing")
    assert [e.key for e in data["train"]] == [NAMES[i] for i in (0, 2, 3)]
    assert [e.key for e in data["val"]] == [NAMES[4]]
    assert spec.notes["missing"] == {"train": [NAMES[1]], "val": [NAMES[5]]}
    said = capsys.readouterr().err
    assert f"SegmentationClass/{NAMES[1]}.png" in said
    assert f"JPEGImages/{NAMES[5]}.jpg" in said
    with pytest.raises(DataError) as caught:  # what both splits lack is said at once
        convert(convert_voc, tmp_path / "none", "--voc", voc)
    first, train, val = str(caught.value).splitlines()
    assert first == "2 lists cannot be converted:"
    assert train.startswith("split 'train': 1 of 4 images lack a file")
    assert val.startswith("split 'val': 1 of 2 images lack a file")
    (voc / "JPEGImages" / f"{NAMES[4]}.jpg").unlink()
    with pytest.raises(DataError, match="split 'val': none of its 2 images is there"):
        convert(convert_voc, tmp_path / "more", "--voc", voc, "--allow-missing")


def test_in_a_process_of_its_own(voc, tmp_path, run_tool):
    result = run_tool("convert_voc.py", "--voc", voc, "--output", tmp_path / "out")
    assert "train: 4 images" in result.stdout
    assert "images/s" in result.stderr
    replace_mask(voc, np.zeros((9, 9), np.uint8))
    result = run_tool("convert_voc.py", "--voc", voc, "--output", tmp_path / "bad", check=False)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "the mask is 9x9 pixels" in lines[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "bad").exists()


# The real lists and images


def read_list(path: Path) -> list[str]:
    return path.read_text().split()


def test_train_sets_are_those_of_the_real_lists(real_data, tmp_path):
    lists = real_data / "lists"
    names = {p.stem: read_list(p) for p in lists.glob("*.txt")}
    four = [names[n] for n in ("voc2012_seg_train", "voc2012_seg_val", "sbd_train", "sbd_val")]
    assert [len(part) for part in four] == list(_voc.FULL_LISTS.values())
    aug = _voc.train_aug(*four)
    assert len(aug) == 10582
    assert set(aug) == set(names["trainaug_10582"])
    assert _voc.original(*four, names["sbd_train_noval"]) == names["deeplab_custom_train_8252"]

    # Names that occur twice are never in both parts of a share for validation, as they were in the original's split.
    doubled = {name for name in aug if names["deeplab_custom_train_8252"].count(name) > 1}
    assert len(doubled) == 19
    for seed in range(20):
        parts = _convert.seeded_split(names["deeplab_custom_train_8252"], 0.1, seed)
        assert not set(parts["train"]) & set(parts["val"])
        assert sorted(parts["train"] + parts["val"]) == sorted(names["deeplab_custom_train_8252"])
    halves = _convert.seeded_split(names["deeplab_custom_train_8252"], 0.5, 0)
    assert all(len(set(part) & doubled) > 3 for part in halves.values())  # so they are dealt out to both

    # As the tool puts them together from the folders; a list that is not the official one is noticed.
    voc, sbd = tmp_path / "VOC2012", tmp_path / "dataset"
    for split in ("train", "val"):
        write_list(voc / f"ImageSets/Segmentation/{split}.txt", names[f"voc2012_seg_{split}"])
        write_list(sbd / f"{split}.txt", names[f"sbd_{split}"])
    write_list(sbd / "train_noval.txt", names["sbd_train_noval"])
    source = _voc.Source(voc, sbd)
    assert source.train_list("train_aug") == aug
    assert source.train_list("original") == names["deeplab_custom_train_8252"]
    write_list(sbd / "train.txt", [*names["sbd_train"][:-1], "2099_000001"])
    write_list(sbd / "train_noval.txt", names["sbd_train_noval"][1:])
    with pytest.raises(DataError, match="give 8251 names for original; expected 8252"):
        source.train_list("original")


def test_a_subset_of_the_full_lists_needs_allow_missing(real_data, tmp_path):
    voc = tmp_path / "VOC2012"
    disk = real_data / "voc/VOCdevkit/VOC2012"
    voc.mkdir()
    for folder in ("JPEGImages", "SegmentationClass"):
        (voc / folder).symlink_to(disk / folder)
    for split in ("train", "val"):
        write_list(voc / f"ImageSets/Segmentation/{split}.txt", read_list(real_data / f"lists/voc2012_seg_{split}.txt"))
    with pytest.raises(DataError, match="split 'train': 1458 of 1464 images lack a file"):
        convert_voc.main(["--voc", str(voc), "--output", str(tmp_path / "out")])
    spec, _ = convert(convert_voc, tmp_path / "out", "--voc", voc, "--allow-missing")
    assert (spec.splits["train"].num_examples, spec.splits["val"].num_examples) == (6, 16)
    assert len(spec.notes["missing"]["train"]) == 1458


def test_real_voc_with_sbd_pixel_by_pixel(real_data, tmp_path):
    voc, sbd = real_data / "voc/VOCdevkit/VOC2012", real_data / "sbd/benchmark_RELEASE/dataset"
    spec, data = convert(convert_voc, tmp_path / "voc", "--voc", voc, "--sbd", sbd)
    assert (len(data["train"]), len(data["val"])) == (19, 16)
    for example in data["train"] + data["val"]:
        path = voc / "JPEGImages" / f"{example.key}.jpg"
        assert example.image_bytes == path.read_bytes()
        np.testing.assert_array_equal(example.image, np.asarray(Image.open(path)))
        # SegmentationClassAug has VOC's labels for VOC's images and SBD's for the others, read here by Pillow.
        np.testing.assert_array_equal(example.mask, labels_of(voc / "SegmentationClassAug" / f"{example.key}.png"))
    shown = sum(np.bincount(e.mask.ravel(), minlength=256) for e in data["val"])
    assert spec.splits["val"].class_pixels == tuple(shown[:21])

    spec, data = convert(convert_sbd, tmp_path / "sbd", "--sbd", sbd)
    assert spec.has_instances
    assert (len(data["train"]), len(data["val"])) == (6, 7)
    for example in data["train"] + data["val"]:
        np.testing.assert_array_equal(example.mask, labels_of(sbd / "cls" / f"{example.key}.mat"))
        inst = scipy.io.loadmat(sbd / "inst" / f"{example.key}.mat", squeeze_me=True, struct_as_record=False)["GTinst"]
        np.testing.assert_array_equal(example.instances, inst.Segmentation)


def test_mat_files_written_by_matlab(real_data):
    for path in sorted((real_data / "sbd/matlab_written/cls").glob("*.mat")):
        image = np.asarray(Image.open(real_data / "sbd/matlab_written/img" / f"{path.stem}.jpg"))
        mask = records.read_sbd(path)
        assert mask.shape == image.shape[:2]
        assert not mask.any()


def test_all_1464_official_masks_are_read_as_pillow_reads_them(real_data):
    shown = np.zeros(256, np.int64)
    paths = sorted((real_data / "voc_labels_train1464").glob("*.png"))
    assert len(paths) == 1464
    for path in paths[::8]:
        mask = records.read_mask(path)
        np.testing.assert_array_equal(mask, np.asarray(Image.open(path)))
        shown += np.bincount(mask.ravel(), minlength=256)
    assert set(np.flatnonzero(shown)) == {*range(21), 255}
