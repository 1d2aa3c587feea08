"""Class masks and weights of real cells, after conversion, against computations that share no code with them."""

import convert_cells
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec

LAYOUTS = ("isbi2012", "ctc", "dsb2018", "pairs")


@pytest.fixture(scope="module")
def sources(real_data, tmp_path_factory):
    """A few real images in each layout: HeLa frames that touch, one of them partly labelled; the densest PSC frame."""
    root = tmp_path_factory.mktemp("cells")
    for i in range(2):
        for kind in ("image", "label"):
            link(real_data / f"isbi2012/train/{kind}/{i}.png", root / f"isbi2012/train/{kind}/{i}.png")
    hela = real_data / "cells/ctc/DIC-C2DH-HeLa"
    for frame in ("002", "067", "080"):
        for name in (f"01/t{frame}.tif", f"01_GT/SEG/man_seg{frame}.tif", f"01_ST/SEG/man_seg{frame}.tif"):
            if (hela / name).is_file():
                link(hela / name, root / "ctc" / name)
    psc = real_data / "cells/ctc/PhC-C2DL-PSC"
    link(psc / "01/t250.tif", root / "pairs/images/250.tif")
    link(psc / "01_ST/SEG/man_seg250.tif", root / "pairs/masks/250.tif")
    entries = sorted((real_data / "cells/dsb2018/stage1_train").iterdir())
    for entry in entries[::37]:
        link(entry, root / "dsb2018" / entry.name)
    return root


def link(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)


def convert(sources, output, layout, *arguments):
    convert_cells.main(
        ["--layout", layout, "--input", str(sources / layout), "--output", str(output), "--val-share", "0", *arguments]
    )
    return {example.key: example for example in records.read(output, "train")}


def around(function, array):
    """Highest or lowest value of each pixel and its eight neighbours; the image is continued by its own border."""
    return function(array.astype(np.int64), size=3, mode="nearest")


def beside_another_cell(instances):
    """Pixels of cells that touch a pixel of another cell, at a side or at a corner."""
    lowest = around(scipy.ndimage.minimum_filter, np.where(instances > 0, instances, 10**9))
    return (instances > 0) & ((around(scipy.ndimage.maximum_filter, instances) != instances) | (lowest != instances))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_targets_of_real_cells(sources, tmp_path, layout):
    ridge, rim, semantic = (
        convert(sources, tmp_path / targets, layout, "--targets", targets) for targets in ("ridge", "rim", "semantic")
    )
    parted = 0
    for key, example in ridge.items():
        instances, mask = example.instances, example.mask
        known = mask != 255
        # After the ridge every connected piece, corners included, belongs to one cell.
        pieces, number = scipy.ndimage.label(mask == 1, np.ones((3, 3)))
        owners = scipy.ndimage.minimum(instances, pieces, range(1, number + 1))
        assert list(owners) == list(scipy.ndimage.maximum(instances, pieces, range(1, number + 1)))
        assert 0 not in owners
        # What the ridge took lay beside another cell, and of each touching pair it took one pixel only.
        taken = known & (instances > 0) & (mask == 0)
        touching = beside_another_cell(instances)
        assert not (taken & ~touching).any()
        assert taken.sum() < touching.sum() or not touching.any()
        parted += taken.any()
        # Rim: a pixel of a cell with anything else around it.
        lowest, highest = (around(f, instances) for f in (scipy.ndimage.minimum_filter, scipy.ndimage.maximum_filter))
        expected = np.where(instances > 0, np.where(lowest == highest, 1, 2), 0)
        np.testing.assert_array_equal(rim[key].mask, np.where(known, expected, 255))
        np.testing.assert_array_equal(semantic[key].mask, np.where(known, instances > 0, 255))
    assert parted or layout == "isbi2012"


def test_a_partly_labelled_real_frame_is_unknown_where_silver_truth_has_more_cells(sources, tmp_path):
    gold, silver = (
        np.asarray(Image.open(sources / f"ctc/01_{kind}/SEG/man_seg067.tif")).astype(int) for kind in ("GT", "ST")
    )
    assert len(np.unique(gold)) - 1 == 3
    data = convert(sources, tmp_path / "ignored", "ctc", "--border-weights")
    labelled = {n for n in np.unique(silver) if n and (gold[silver == n] > 0).mean() > 0.25}
    unlabelled = set(np.unique(silver)) - labelled - {0}
    assert len(labelled) == 3
    assert len(unlabelled) > 5
    expected = np.isin(silver, list(unlabelled)) & (gold == 0)
    np.testing.assert_array_equal(data["01_t067"].mask == 255, expected)
    assert not data["01_t067"].weight[expected].any()
    for key in ("01_t002", "01_t080"):
        assert 255 not in data[key].mask
    plain = convert(sources, tmp_path / "plain", "ctc", "--partial", "background", "--targets", "semantic")
    np.testing.assert_array_equal(plain["01_t067"].mask, gold > 0)


def brute_force(instances, mask, kind):
    """Both formulas in float64, with scipy's distance transform of each cell over the whole image."""
    ids = [i for i in np.unique(instances) if i > 0]
    d = np.full((2, *instances.shape), np.inf)
    for i in ids:
        d = np.sort([*d, scipy.ndimage.distance_transform_edt(instances != i)], axis=0)[:2]
    if kind == "fiji":
        outside = 0.1 + 0.9 * np.exp(-(d[0] ** 2) / 200) + 50 * np.exp(-((d[0] + d[1]) ** 2) / 72)
        return np.where(mask == 255, 0, np.where(instances > 0, 1, outside))
    known = mask != 255
    classes, counts = np.unique(mask[known], return_counts=True)
    balance = np.zeros(mask.shape)
    for label, count in zip(classes, counts, strict=True):
        balance[mask == label] = known.sum() / (len(classes) * count)
    return np.where(known, balance + 10 * np.exp(-((d[0] + d[1]) ** 2) / 50), 0)


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        pytest.param("isbi2012", "unet", marks=pytest.mark.slow),
        ("ctc", "unet"),
        ("dsb2018", "unet"),
        ("pairs", "unet"),
        ("ctc", "fiji"),
    ],
)
def test_weights_of_real_cells(sources, tmp_path, layout, kind):
    """The stored weight is the formula's, of cells parted by the ridge, to the record's step of 1/1024."""
    chosen = tmp_path / "in"
    link(sources / layout, chosen / layout)
    data = convert(chosen, tmp_path / "out", layout, "--border-weights", kind, "--targets", "ridge")
    assert DatasetSpec.load(tmp_path / "out").notes["border_weights"]["kind"] == kind
    for key in list(data)[: 1 if layout == "isbi2012" else 2]:  # scipy takes 3 s for one of these, with its 200 cells
        example = data[key]
        window = np.s_[:200, :200] if layout == "pairs" else np.s_[:]  # 383 cells on the whole frame
        parted = np.where(example.mask == 0, 0, example.instances)[window]
        if layout == "pairs":  # what the window cuts off is too far away to count in its middle
            expected = brute_force(parted, example.mask[window], kind)
            whole = example.mask
            for label in (0, 1):
                here = (whole[window] == label).sum() / 40_000
                expected[whole[window] == label] += 0.5 / (whole == label).mean() - 0.5 / here
            inner = np.s_[:160, :160]
        else:
            expected, inner = brute_force(parted, example.mask, kind), np.s_[:]
        np.testing.assert_allclose(example.weight[window][inner], expected[inner], atol=0.5 / 1024 + 1e-4)


def test_numbers_above_16_bits_are_replaced_and_others_kept(tmp_path):
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.permutation(20).reshape(4, 5), np.ones((6, 6))).astype(np.int32)
    numbers = {"big": np.where(blocks > 0, 60_000 + 1000 * blocks, 0), "small": blocks * 3000}
    for name, array in numbers.items():
        for folder, picture in (("images", np.zeros(array.shape, np.uint8)), ("masks", array)):
            (tmp_path / "pairs" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "pairs" / folder / f"{name}.tif")
    data = convert(tmp_path, tmp_path / "out", "pairs")
    np.testing.assert_array_equal(data["small"].instances, numbers["small"])
    np.testing.assert_array_equal(data["big"].instances, blocks)
    negative = np.where(blocks == 3, -5, blocks)
    Image.fromarray(negative).save(tmp_path / "pairs/masks/big.tif")
    with pytest.raises(DataError, match=r"big .*: instance number -5; expected 0 for background"):
        convert(tmp_path, tmp_path / "bad", "pairs")


def test_overlapping_nuclei_are_told(tmp_path, capsys):
    folder = tmp_path / "dsb2018/a"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(folder / "images/a.png")
    expected = np.zeros((10, 12), int)
    for i, window in enumerate((np.s_[1:5, 1:6], np.s_[3:9, 4:10], np.s_[3:9, 4:10]), start=1):
        mask = np.zeros((10, 12), np.uint8)
        mask[window] = 255
        expected[window] = i
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
    data = convert(tmp_path, tmp_path / "out", "dsb2018")
    np.testing.assert_array_equal(data["a"].instances, expected)
    told = capsys.readouterr().err
    assert "nuclei overlap in 40 pixels, which the later one has (by the masks' names); 1 of 3 masks are empty" in told
