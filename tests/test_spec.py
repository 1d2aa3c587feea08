"""The terms of a data set."""

import json

import numpy as np
import pytest
from PIL import Image

from kerasseg.spec import (
    VOC_CLASS_NAMES,
    DataError,
    DatasetSpec,
    SplitSpec,
    centre,
    median_frequency_weights,
    voc_palette,
)

SPEC = DatasetSpec(
    "shapes",
    ("background", "disc", "square"),
    splits={
        "train": SplitSpec(3, ("a", "b"), (600, 100, 0), 20, (700, 350, 0)),
        "val": SplitSpec(1, ("c",), (9, 1, 0)),
    },
    notes={"tool": "test"},
)


def test_voc_palette_against_known_colours():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    known = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {label: tuple(palette[label].tolist()) for label in known} == known
    assert len(VOC_CLASS_NAMES) == 21


def test_voc_palette_is_that_of_the_real_masks(real_data):
    folder = real_data / "voc" / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    with Image.open(sorted(folder.glob("*.png"))[0]) as mask:
        stored = np.array(mask.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(stored[:21], voc_palette(21))


def test_round_trip(tmp_path):
    SPEC.save(tmp_path)
    assert DatasetSpec.load(tmp_path) == SPEC
    assert SPEC.num_classes == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json"]


def test_palettes():
    assert SPEC.palette[1] == (128, 0, 0)
    table = SPEC.palette_256()
    assert table[255].tolist() == [224, 224, 192]
    assert not table[3:255].any()


def test_a_missing_split_names_those_that_there_are():
    with pytest.raises(DataError, match="'shapes' has no split 'test'; it has: train, val"):
        SPEC.split("test")


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(
        DataError, match="dataset.json is missing: .* is not a complete converted data set; make one with"
    ):
        DatasetSpec.load(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", json.dumps({"format": 1, "name": "x"})])
def test_a_damaged_file_is_named(tmp_path, damage):
    (tmp_path / "dataset.json").write_text(damage)
    with pytest.raises(DataError, match="dataset.json is damaged .*; convert the data set again with --overwrite"):
        DatasetSpec.load(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_names": ()}, "has no class names"),
        ({"class_names": tuple(map(str, range(256)))}, "has 256 classes, but labels from 255 on are not class ids"),
        ({"class_names": ("a", "b"), "palette": ((0, 0, 0),)}, "1 colours for 2 classes"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        DatasetSpec("x", **options)


@pytest.mark.parametrize(("outer", "inner", "start"), [(5, 5, 0), (6, 4, 1), (7, 4, 1), (572, 388, 92)])
def test_centre(outer, inner, start):
    assert centre(outer, inner) == slice(start, start + inner)


def test_median_frequency_weights_by_hand():
    """600 of 700 pixels and 100 of the 350 of the images it occurs in: frequencies 6/7 and 2/7, median 4/7."""
    np.testing.assert_allclose(median_frequency_weights(SPEC), [4 / 6, 2, 0], rtol=1e-6)
