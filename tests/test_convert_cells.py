"""Cell layouts: pixel sums and instances against independent readers, partly labelled frames, and bad input."""

from pathlib import Path

import _cell_layouts
import convert_cells
import numpy as np
import pytest
import scipy.ndimage
import tifffile
from PIL import Image

from kerasseg import augment, records
from kerasseg.spec import DataError, DatasetSpec


def save(path: Path, array: np.ndarray, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def convert(output, layout, folder, *arguments):
    convert_cells.main(["--layout", layout, "--input", str(folder), "--output", str(output), *map(str, arguments)])
    spec = DatasetSpec.load(output)
    return spec, {split: {e.key: e for e in records.read(output, split)} for split in spec.splits}


def merged(data):
    return {key: example for part in data.values() for key, example in part.items()}


def blocks(rng, size=(24, 30)):
    """Instances in touching blocks of 6 pixels, about half of them background."""
    numbers = rng.permutation(900)[: (size[0] // 6) * (size[1] // 6)].reshape(size[0] // 6, size[1] // 6) + 1
    numbers[rng.random(numbers.shape) < 0.4] = 0
    return np.kron(numbers, np.ones((6, 6))).astype(np.uint16)


def ridged(instances):
    """Brute force: of two neighbouring pixels of different cells the later one becomes background."""
    mask = (instances > 0).astype(np.uint8)
    for y, x in np.argwhere(instances > 0):
        for v, u in ((y, x - 1), (y - 1, x - 1), (y - 1, x), (y - 1, x + 1)):
            if v >= 0 and 0 <= u < instances.shape[1] and instances[v, u] not in (0, instances[y, x]):
                mask[y, x] = 0
    return mask


# ISBI 2012


@pytest.fixture
def isbi(tmp_path):
    root, rng = tmp_path / "isbi", np.random.default_rng(0)
    for i in range(12):
        save(root / f"train/image/{i}.png", rng.integers(0, 256, (20, 22)).astype(np.uint8))
        save(root / f"train/label/{i}.png", np.where(rng.random((20, 22)) < 0.7, 255, 0).astype(np.uint8))
    return root


def test_isbi_folders_and_stacks_give_the_same(isbi, tmp_path):
    spec, data = convert(tmp_path / "png", "isbi2012", isbi)
    assert spec.class_names == ("membrane", "cell")
    assert list(data["train"]) == [str(i) for i in range(10)]  # in the order of numbers; the last slices are kept
    assert list(data["val"]) == ["10", "11"]
    volume, labels = (
        [np.asarray(Image.open(isbi / f"train/{kind}/{i}.png")) for i in range(12)] for kind in ("image", "label")
    )
    for i, example in enumerate(merged(data).values()):
        np.testing.assert_array_equal(example.image[..., 0], volume[i])
        np.testing.assert_array_equal(example.mask, labels[i] == 255)
        np.testing.assert_array_equal(example.instances, scipy.ndimage.label(labels[i])[0])
        assert example.image_bytes == (isbi / f"train/image/{i}.png").read_bytes()

    stacks = tmp_path / "stacks"
    stacks.mkdir()
    tifffile.imwrite(stacks / "train-volume.tif", np.stack(volume))
    pages = [Image.fromarray(page) for page in labels]
    pages[0].save(stacks / "train-labels.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    for source in (stacks, stacks / "train-volume.tif"):
        _, again = convert(tmp_path / "tif", "isbi2012", source, "--overwrite")
        for key, example in merged(data).items():
            np.testing.assert_array_equal(merged(again)[key].image, example.image)
            np.testing.assert_array_equal(merged(again)[key].mask, example.mask)


def test_bad_isbi(isbi, tmp_path):
    def refused(message, folder=isbi, *arguments):
        with pytest.raises(DataError, match=message):
            convert(tmp_path / "out", "isbi2012", folder, *arguments)
        assert not (tmp_path / "out").exists()

    refused("nowhere does not exist; expected a data set of the layout isbi2012", tmp_path / "nowhere")
    refused(r"holds neither train/image and train/label nor one train-volume", tmp_path)
    refused("too few for --val-share 0.99", isbi, "--val-share", "0.99")
    label = isbi / "train/label/3.png"
    save(label, np.random.default_rng(0).integers(0, 256, (20, 22)).astype(np.uint8))
    refused(r"label/3.png holds \d+ different values .*resized with interpolation")
    save(label, np.zeros((9, 22), np.uint8))
    refused(r"the mask is 22x9 pixels, but the image 22x20")
    label.unlink()
    refused(r"train/label lacks 1 of 12 counterparts, first that of .*train/image/3.png")


def test_real_isbi_both_ways(real_data, tmp_path):
    root = real_data / "isbi2012"
    _, data = convert(tmp_path / "png", "isbi2012", root)
    _, stacks = convert(tmp_path / "tif", "isbi2012", root / "train-volume_first24.tif")
    assert [len(part) for part in data.values()] == [19, 5]
    for i in range(24):
        image, label = (np.asarray(Image.open(root / f"train/{kind}/{i}.png")) for kind in ("image", "label"))
        for example in (merged(data)[str(i)], merged(stacks)[str(i)]):
            np.testing.assert_array_equal(example.image[..., 0], image)
            np.testing.assert_array_equal(example.mask, label // 255)


# Cell Tracking Challenge


@pytest.fixture
def ctc(tmp_path):
    """Film 01: silver truth of frames 0-5, gold truth of 1 (all cells) and 2 (one cell). Film 02: gold truth only."""
    root, rng = tmp_path / "ctc", np.random.default_rng(3)
    for i in range(7):
        save(root / f"01/t{i:03d}.tif", rng.integers(0, 256, (24, 30)).astype(np.uint8))
        cells = blocks(rng)
        if i < 6:
            save(root / f"01_ST/SEG/man_seg{i:03d}.tif", cells, compression="tiff_lzw")
        gold = scipy.ndimage.grey_erosion(cells, 3)
        if i == 1:
            save(root / f"01_GT/SEG/man_seg{i:03d}.tif", gold, compression="tiff_lzw")
        if i == 2:
            save(root / f"01_GT/SEG/man_seg{i:03d}.tif", np.where(gold == gold.max(), gold, 0).astype(np.uint16))
    for i in range(3):
        save(root / f"02/t{i:04d}.tif", rng.integers(0, 65536, (24, 30)).astype(np.uint16) // 256 % 256)
        save(root / f"02_GT/SEG/man_seg{i:04d}.tif", blocks(rng))
    for i in range(3):  # 8 bits, as film 01
        path = root / f"02/t{i:04d}.tif"
        save(path, np.asarray(Image.open(path)).astype(np.uint8))
    return root


def tif(path):
    return np.asarray(Image.open(path)).astype(np.int64)


def test_gold_truth_is_taken_and_its_unlabelled_cells_are_unknown(ctc, tmp_path):
    spec, data = convert(tmp_path / "out", "ctc", ctc, "--val-share", "0.25", "--seed", "1")
    assert spec.class_names == ("background", "cell")
    assert spec.has_instances
    assert [len(part) for part in data.values()] == [7, 2]
    found = merged(data)
    assert set(found) == {*(f"01_t{i:03d}" for i in range(6)), *(f"02_t{i:04d}" for i in range(3))}
    for key, example in found.items():
        film, frame = key.split("_t")
        np.testing.assert_array_equal(example.image[..., 0], tif(ctc / film / f"t{frame}.tif"))
        gold = ctc / f"{film}_GT/SEG/man_seg{frame}.tif"
        labels = tif(gold if gold.is_file() else ctc / f"{film}_ST/SEG/man_seg{frame}.tif")
        np.testing.assert_array_equal(example.instances, labels)
        expected = ridged(labels)
        if key == "01_t002":
            silver = tif(ctc / "01_ST/SEG/man_seg002.tif")
            unlabelled = [n for n in np.unique(silver[silver > 0]) if n != labels.max()]
            expected[np.isin(silver, unlabelled)] = 255
            assert (expected == 255).any()
        np.testing.assert_array_equal(example.mask, expected)


def test_partial_gold_truth_as_told(ctc, tmp_path):
    _, data = convert(tmp_path / "a", "ctc", ctc, "--partial", "background", "--val-share", "0")
    assert all(255 not in example.mask for example in data["train"].values())
    _, data = convert(tmp_path / "b", "ctc", ctc, "--annotations", "gt", "--val-share", "0", "--targets", "semantic")
    assert set(data["train"]) == {"01_t001", "01_t002", "02_t0000", "02_t0001", "02_t0002"}
    (ctc / "02").rename(tmp_path / "02")
    _, data = convert(tmp_path / "c", "ctc", ctc, "--annotations", "st", "--val-share", "0")
    silver = tif(ctc / "01_ST/SEG/man_seg002.tif")
    np.testing.assert_array_equal(data["train"]["01_t002"].instances, silver)
    assert 255 not in data["train"]["01_t002"].mask


def test_markers_tell_where_there_is_no_silver_truth(ctc, tmp_path):
    gold = tif(ctc / "01_GT/SEG/man_seg002.tif")
    silver = tif(ctc / "01_ST/SEG/man_seg002.tif")
    (ctc / "01_ST/SEG/man_seg002.tif").unlink()
    _, data = convert(tmp_path / "a", "ctc", ctc, "--val-share", "0")
    assert 255 not in data["train"]["01_t002"].mask  # nothing tells that cells are missing
    save(ctc / "01_GT/TRA/man_track002.tif", scipy.ndimage.grey_erosion(silver, 5).astype(np.uint16))
    _, data = convert(tmp_path / "b", "ctc", ctc, "--val-share", "0")
    np.testing.assert_array_equal(data["train"]["01_t002"].mask, np.where(gold > 0, 1, 255))


def test_films_kept_for_validation(ctc, tmp_path):
    _, data = convert(tmp_path / "out", "ctc", ctc, "--val-sequences", "02")
    assert all(key.startswith("01") for key in data["train"])
    assert all(key.startswith("02") for key in data["val"])
    with pytest.raises(DataError, match="--val-sequences 03: the sequences are 01, 02; name some, not all"):
        convert(tmp_path / "bad", "ctc", ctc, "--val-sequences", "03")


def test_rim_targets_and_border_weights(ctc, tmp_path):
    spec, data = convert(
        tmp_path / "out", "ctc", ctc, "--val-share", "0", "--targets", "rim", "--border-weights", "--w0", "5"
    )
    assert spec.class_names == ("background", "inside", "rim")
    assert spec.notes["border_weights"] == {"kind": "unet", "w0": 5, "sigma": 5}
    for example in data["train"].values():
        known = example.mask != 255
        targets = records.instance_targets(example.instances, "rim")
        np.testing.assert_array_equal(example.mask[known], targets[known])
        weight = augment.border_weights(example.instances, 5, 5, mask=example.mask)
        np.testing.assert_allclose(example.weight, weight, atol=0.5 / records.WEIGHT_SCALE + 1e-6)
        assert not example.weight[~known].any()


def test_border_weights_of_parted_cells_and_their_limit(tmp_path):
    instances = np.zeros((100, 120), np.uint16)
    instances[10:12, 10:12], instances[10:12, 12:14] = 1, 2
    save(tmp_path / "in/images/a.png", np.zeros((100, 120), np.uint8))
    save(tmp_path / "in/masks/a.tif", instances)
    spec, data = convert(tmp_path / "out", "pairs", tmp_path / "in", "--border-weights", "--val-share", "0")
    example = data["train"]["a"]
    parted = instances * (ridged(instances) > 0)
    weight = augment.border_weights(parted.astype(np.uint16), mask=ridged(instances))
    assert weight.max() > 1000  # a few pixels of cell on much background
    np.testing.assert_allclose(example.weight, np.minimum(weight, records.MAX_WEIGHT), atol=0.001)
    assert spec.has_weights


def test_bad_ctc(ctc, tmp_path):
    def refused(message, folder=ctc):
        with pytest.raises(DataError, match=message):
            convert(tmp_path / "out", "ctc", folder)
        assert not (tmp_path / "out").exists()

    refused(r"holds no sequence \(01/t000.tif\)", tmp_path)
    (ctc / "01/t003.tif").unlink()
    refused(r"01_ST/SEG/man_seg003.tif has no image: .*lacks frame 3 \(1 such in all\)")
    save(ctc / "01/t003.tif", np.zeros((24, 31), np.uint8))
    refused(r"01_t003 .*: the mask is 30x24 pixels, but the image 31x24")
    save(ctc / "01/t003.tif", np.zeros((24, 30, 3), np.uint8))
    refused(r"01_t003 .*the image has 3 channels, but the data set 1.*--channels")
    save(ctc / "01_GT/SEG/man_seg_003_001.tif", np.zeros((24, 30), np.uint16))
    refused("man_seg_003_001.tif is a slice of a 3-D data set")
    save(tmp_path / "empty/01/t000.tif", np.zeros((24, 30), np.uint8))
    refused("has no labels; expected 01_GT/SEG or 01_ST/SEG", tmp_path / "empty")


def test_which_frames_of_the_real_gold_truth_are_partial(real_data):
    images = _cell_layouts.ctc(real_data / "cells/ctc/DIC-C2DH-HeLa", "gt", "ignore")
    unknown = {image.key: image.read(None)[2] for image in images}
    assert len(unknown) == 9
    assert [key for key, pixels in unknown.items() if pixels is not None] == ["01_t067"]


@pytest.mark.parametrize(("name", "frames"), [("DIC-C2DH-HeLa", 84), ("PhC-C2DL-PSC", 8)])
def test_real_ctc(real_data, tmp_path, name, frames):
    root = real_data / "cells/ctc" / name
    _, data = convert(tmp_path / "out", "ctc", root)
    assert len(merged(data)) == frames
    for key, example in merged(data).items():
        frame = key.removeprefix("01_t")
        np.testing.assert_array_equal(example.image[..., 0], tif(root / f"01/t{frame}.tif"))
        gold = root / f"01_GT/SEG/man_seg{frame}.tif"
        labels = tif(gold if gold.is_file() else root / f"01_ST/SEG/man_seg{frame}.tif")
        np.testing.assert_array_equal(example.instances, labels)
        assert not (example.mask == 1)[labels == 0].any()
        assert (255 in example.mask) == (key == "01_t067")


# Data Science Bowl 2018


@pytest.fixture
def dsb(tmp_path):
    root, rng = tmp_path / "stage1_train", np.random.default_rng(0)
    for i, mode in enumerate(("RGBA", "RGB", "L", "RGBA")):
        instances = blocks(rng)
        pixels = rng.integers(0, 256, (24, 30, 4)).astype(np.uint8)
        pixels = pixels[..., 0] if mode == "L" else pixels[..., : len(mode)]
        save(root / f"id{i}/images/id{i}.png", pixels)
        for number in np.unique(instances[instances > 0]):
            save(root / f"id{i}/masks/{number:04d}.png", ((instances == number) * 255).astype(np.uint8))
    return root


def dsb_instances(folder):
    paths = sorted((folder / "masks").glob("*.png"))
    return sum((np.asarray(Image.open(path)) > 0) * np.uint16(i) for i, path in enumerate(paths, start=1))


def test_dsb(dsb, tmp_path):
    spec, data = convert(tmp_path / "out", "dsb2018", dsb)
    assert spec.channels == 3
    assert len(data["val"]) == 1
    for key, example in merged(data).items():
        image = np.asarray(Image.open(dsb / key / "images" / f"{key}.png").convert("RGB"))
        np.testing.assert_array_equal(example.image, image)
        np.testing.assert_array_equal(example.instances, dsb_instances(dsb / key))
        np.testing.assert_array_equal(example.mask, ridged(example.instances))


def test_bad_dsb(dsb, tmp_path):
    def refused(message, folder=dsb):
        with pytest.raises(DataError, match=message):
            convert(tmp_path / "out", "dsb2018", folder)
        assert not (tmp_path / "out").exists()

    refused("holds no ID/images; expected a stage1_", tmp_path)
    mask = next((dsb / "id1/masks").iterdir())
    save(mask, np.zeros((9, 9), np.uint8))
    refused(rf"{mask.name} is 9x9 pixels, but its image 30x24")
    for path in (dsb / "id1/masks").iterdir():
        path.unlink()
    refused("id1/masks holds no image")


def test_real_dsb(real_data, tmp_path):
    root = tmp_path / "stage1_train"
    root.mkdir()
    for entry in sorted((real_data / "cells/dsb2018/stage1_train").iterdir())[::4]:
        (root / entry.name).symlink_to(entry)
    spec, data = convert(tmp_path / "out", "dsb2018", root, "--targets", "semantic")
    assert sum(split.num_examples for split in spec.splits.values()) == 28
    for key, example in merged(data).items():
        np.testing.assert_array_equal(
            example.image, np.asarray(Image.open(root / key / "images" / f"{key}.png"))[..., :3]
        )
        masks = [np.asarray(Image.open(path)) > 0 for path in (root / key / "masks").glob("*.png")]
        np.testing.assert_array_equal(example.mask, np.any(masks, axis=0))
        assert example.instances.max() == len(masks)


# Pairs


def test_pairs_of_numbers_and_of_black_and_white(tmp_path):
    rng = np.random.default_rng(0)
    images = {f"cell {i}": rng.integers(0, 65536, (24, 30)).astype(np.uint16) for i in range(3)}
    numbers = {name: blocks(rng) for name in images}
    numbers["cell 2"] = np.where(numbers["cell 2"] > 0, 255, 0).astype(np.uint16)
    for name, image in images.items():
        save(tmp_path / "in/image" / f"{name}.png", image)
        save(tmp_path / "in/labels" / f"{name}.tif", numbers[name])
    spec, data = convert(tmp_path / "out", "pairs", tmp_path / "in", "--val-share", "0.3")
    assert spec.bit_depth == 16
    numbers["cell 2"] = scipy.ndimage.label(numbers["cell 2"])[0]
    for name, example in merged(data).items():
        np.testing.assert_array_equal(example.image[..., 0], images[name])
        np.testing.assert_array_equal(example.instances, numbers[name])
        np.testing.assert_array_equal(example.mask, ridged(numbers[name]))
    (tmp_path / "in/labels/cell 1.tif").unlink()
    with pytest.raises(DataError, match=r"in/labels lacks 1 of 3 counterparts, first that of .*cell 1.png"):
        convert(tmp_path / "bad", "pairs", tmp_path / "in")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"nothing/images is no folder; expected images and masks"):
        convert(tmp_path / "bad", "pairs", tmp_path / "nothing")


def test_the_split_is_seeded_and_complete(dsb, tmp_path):
    keys = []
    for seed in (0, 0, 5):
        _, data = convert(tmp_path / "out", "dsb2018", dsb, "--val-share", "0.5", "--seed", seed, "--overwrite")
        assert not set(data["train"]) & set(data["val"])
        assert len(merged(data)) == 4
        keys.append(tuple(data["val"]))
    assert keys[0] == keys[1]
    with pytest.raises(DataError, match="--val-share 0.9 of 4 images leaves none to train on"):
        convert(tmp_path / "bad", "dsb2018", dsb, "--val-share", "0.9")
