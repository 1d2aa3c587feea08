"""Images of any number of channels: from TIFF files through the converter and the records into batches."""

import convert_pairs
import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kerasseg import records
from kerasseg.augment import Augmentation
from kerasseg.pipeline import eval_images, train_batches
from kerasseg.spec import DataError, DatasetSpec

SIZES = [(20, 30), (33, 21), (24, 24), (40, 17)]


def make(root, write, channels, dtype, seed=0):
    """Writes images of several sizes with `write(path, image)`; returns them and their masks by name."""
    rng = np.random.default_rng(seed)
    made = {}
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for i, size in enumerate(SIZES):
        image = rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)
        mask = rng.integers(0, 3, size).astype(np.uint8)
        write(root / f"images/{i}.tif", image)
        Image.fromarray(mask).save(root / f"masks/{i}.png")
        made[str(i)] = image, mask
    (root / "classes.txt").write_text("a\nb\nc\n")
    return made


def convert(root, *arguments):
    where = [f"--{name}={root / name}" for name in ("images", "masks")]
    convert_pairs.main([*where, f"--classes={root / 'classes.txt'}", f"--output={root / 'out'}", *arguments])
    return DatasetSpec.load(root / "out")


def as_samples(path, image):
    tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")


def as_planes(path, image):
    tifffile.imwrite(path, np.moveaxis(image, -1, 0), photometric="minisblack", planarconfig="separate")


def as_pages(path, image):
    tifffile.imwrite(path, np.moveaxis(image, -1, 0), photometric="minisblack", metadata={"axes": "CYX"})


FORMS = [
    (2, np.uint8, as_samples, ("opencv", "tensorflow")),
    (2, np.uint16, as_pages, ("opencv",)),
    (4, np.uint8, as_planes, ("tensorflow",)),
    (4, np.uint16, as_samples, ("opencv", "tensorflow")),
    (5, np.uint8, as_pages, ("tensorflow",)),
    (7, np.uint16, as_planes, ("opencv", "tensorflow")),
    (7, np.uint8, as_samples, ("opencv",)),
]
"""Channels, type, how a file is written, and the engines by which its batches are tested by default."""


@pytest.mark.parametrize(
    ("channels", "dtype", "write", "engines"),
    [
        *FORMS,
        *(
            pytest.param(*form, ({"opencv": "tensorflow", "tensorflow": "opencv"}[engines[0]],), marks=pytest.mark.slow)
            for *form, engines in FORMS
            if len(engines) == 1
        ),
    ],
)
def test_channels_come_out_of_the_pipeline_as_they_are(tmp_path, channels, dtype, write, engines):
    made = make(tmp_path, write, channels, dtype)
    asked = ["--channels", str(channels)] if channels != 4 else []
    spec = convert(tmp_path, *asked)
    bits = 32 if channels > 4 else 8 * np.dtype(dtype).itemsize
    assert (spec.channels, spec.bit_depth) == (channels, bits)
    expected = {key: image / (257 if dtype == np.uint16 else 1) for key, (image, _) in made.items()}
    for image, mask, key in eval_images(tmp_path / "out", "train", keys=True):
        key = key.numpy()[0].decode()
        np.testing.assert_allclose(image[0], expected[key], rtol=1e-6)
        np.testing.assert_array_equal(mask[0], made[key][1])
    for engine in engines:
        batches = train_batches(tmp_path / "out", "train", 2, (16, 12), preset=Augmentation(), seed=0, engine=engine)
        image, mask = next(iter(batches))
        assert image.shape == (2, 16, 12, channels)
        for one, labels in zip(image.numpy(), mask.numpy(), strict=True):
            assert any(is_part(one, labels, expected[key], made[key][1]) for key in made)


def is_part(image, labels, whole, whole_labels):
    """Whether a crop, or its mirror image, is a part of an image, and its mask that of the same place."""
    height, width = labels.shape
    for flip in (1, -1):
        for top in range(whole.shape[0] - height + 1):
            for left in range(whole.shape[1] - width + 1):
                place = slice(top, top + height), slice(left, left + width)
                if np.array_equal(whole_labels[place], labels[:, ::flip]):
                    return np.allclose(whole[place], image[:, ::flip], atol=1e-3)
    return False


def test_other_channels_than_the_first_images_are_named(tmp_path):
    make(tmp_path, as_samples, 5, np.uint8)
    as_samples(tmp_path / "images/2.tif", np.zeros((*SIZES[2], 6), np.uint8))
    with pytest.raises(DataError, match=r"images/2.tif has 6 channels; expected 5 \(choose what to store with --ch"):
        convert(tmp_path)
    with pytest.raises(DataError, match="--scaling percentile is for images of 16 bits and 1 to 4 channels; these"):
        convert(tmp_path, "--scaling", "percentile")


def test_grey_and_colour_of_several_sizes_and_formats(tmp_path):
    made = make(tmp_path, lambda path, image: None, 3, np.uint8)
    for key, (image, _) in made.items():
        image = image if int(key) % 2 else image[..., 0]
        Image.fromarray(image).save(tmp_path / f"images/{key}.{'png' if key < '2' else 'bmp'}")
    spec = convert(tmp_path)
    assert (spec.channels, spec.bit_depth) == (3, 8)
    for example in records.read(tmp_path / "out", "train"):
        image = made[example.key][0]
        expected = image if int(example.key) % 2 else np.repeat(image[..., :1], 3, axis=2)
        np.testing.assert_array_equal(example.image, expected)
    spec = convert(tmp_path, "--channels", "1", "--overwrite")
    for example in records.read(tmp_path / "out", "train"):
        image = made[example.key][0]
        expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if int(example.key) % 2 else image[..., 0]
        np.testing.assert_allclose(example.image[..., 0], expected, atol=1)
