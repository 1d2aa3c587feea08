"""Image, mask, weight and instances of real cells in every preset: of each pixel all parts tell the same."""

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from kerasseg import pipeline, records
from kerasseg.pipeline import presets
from kerasseg.spec import DatasetSpec

_OFTEN = ("deconvnet_stage1", "deeplab_original", "unet")
"""Presets that try the engine "tensorflow" in each run of the tests: boxes, a function, a warp. Tracing takes long."""


def _presets():
    for name in presets.__all__:
        yield pytest.param(name, "tensorflow", marks=[pytest.mark.slow] * (name not in _OFTEN))
        if not callable(getattr(presets, name)):
            yield name, "opencv"


@pytest.fixture(scope="module")
def cells(real_data, tmp_path_factory):
    """Frames of HeLa cells whose pixels all follow from the instance number n.

    Cells are bright in the image; their class is 1 or 2, as n is even or odd; their weight is n mod 50 + 0.5. One of
    the frames is partly unknown: 255 in the mask.
    """
    root = real_data / "cells/ctc/DIC-C2DH-HeLa"
    made = []
    for kind, frame in (("ST", "010"), ("ST", "080"), ("GT", "067")):
        instances = np.asarray(Image.open(root / f"01_{kind}/SEG/man_seg{frame}.tif")).astype(np.uint16)[:401, :450]
        image = np.where(instances > 0, 200, 40).astype(np.uint8)[..., None]
        mask = np.where(instances > 0, 1 + instances % 2, 0).astype(np.uint8)
        if kind == "GT":
            silver = np.asarray(Image.open(root / f"01_ST/SEG/man_seg{frame}.tif"))[:401, :450]
            mask[(silver > 0) & (instances == 0)] = 255
        made.append(records.Example(frame, image, mask, instances, instances % 50 + np.float32(0.5)))
    folder = tmp_path_factory.mktemp("moved") / "cells"
    records.write(
        folder, DatasetSpec("cells", ("background", "even", "odd"), channels=1), {"train": made}, progress=False
    )
    return folder


@pytest.mark.parametrize(("name", "engine"), list(_presets()))
def test_all_parts_move_together(cells, name, engine):
    data = pipeline.train_batches(
        cells, "train", 4, (180, 210), name, seed=3, weights=True, instances=True, engine=engine
    )
    shown, turned = set(), 0
    for image, mask, weight, instances in data.take(2).as_numpy_iterator():
        assert image.shape == (4, 180, 210, 1)
        assert mask.shape == weight.shape == instances.shape == (4, 180, 210)
        for picture, labels, weights, numbers in zip(image[..., 0], mask, weight, instances, strict=True):
            known = labels != 255
            assert known.any()
            assert not numbers[~known].any()
            # A padded pixel weighs nothing, one that the annotators left out what it weighed before.
            assert set(np.unique(weights[~known])) <= {0, 0.5}
            np.testing.assert_array_equal(weights[known], numbers[known] % 50 + 0.5)
            expected = np.where(numbers > 0, 1 + numbers % 2, 0)
            if name == "deconvnet_stage1":
                (kept,) = set(np.unique(labels[known])) - {0}
                expected[expected != kept] = 0
            np.testing.assert_array_equal(labels[known], expected[known])
            # Away from borders, where the image is interpolated and the maps are not, bright is cell and dark is none.
            inside, outside = (
                scipy.ndimage.binary_erosion(known & part, iterations=3) for part in (numbers > 0, numbers == 0)
            )
            if inside.any() and outside.any():
                assert picture[inside].min() > picture[outside].max()
                turned += 1
            shown |= set(np.unique(numbers))
    assert turned >= 4
    assert len(shown) > 10


def test_whole_images_too(cells):
    for engine in ("opencv", "tensorflow"):
        data = pipeline.train_batches(cells, "train", 2, None, "fcn", 0, weights=True, instances=True, engine=engine)
        for _, mask, weight, instances in data.take(2).as_numpy_iterator():
            assert mask.shape == (2, 401, 450)
            known = mask != 255
            np.testing.assert_array_equal(weight, instances % 50 + 0.5)
            np.testing.assert_array_equal(mask[known], np.where(instances > 0, 1 + instances % 2, 0)[known])
