"""16-bit images: stored as they are, and everywhere brought to 0-255 by the range that the data set says."""

import json
from functools import partial

import convert_cells
import convert_pairs
import cv2
import numpy as np
import predict
import pytest
import tensorflow as tf
import tifffile
from PIL import Image
from tensorflow import keras

from kerasseg import records
from kerasseg.augment import Augmentation
from kerasseg.export._signatures import Signatures
from kerasseg.inference import Segmenter, prepared
from kerasseg.pipeline import eval_images, train_batches
from kerasseg.spec import DataError, DatasetSpec, to_255


def expected_255(image, low, high):
    """The same in double precision, written out."""
    return np.clip((image.astype(np.float64) - low) * 255 / (high - low), 0, 255)


def test_the_arithmetic_in_numpy_and_in_a_graph():
    image = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    for low, high in ((0, 65535), (900, 4095.5), (100.25, 101), (65534, 65535)):
        spec = DatasetSpec("x", ("a",), bit_depth=16, value_range=(low, high))
        in_graph = next(iter(tf.data.Dataset.from_tensors(image).map(partial(records.to_255, spec=spec)))).numpy()
        in_numpy = to_255(image.astype(np.float32), (low, high))
        assert in_graph.dtype == in_numpy.dtype == np.float32
        np.testing.assert_allclose(in_numpy, expected_255(image, low, high), atol=1e-2)
        np.testing.assert_allclose(in_graph, in_numpy, atol=1e-4)
    spec = DatasetSpec("x", ("a",), bit_depth=16)
    whole = records.to_255(tf.constant(image), spec).numpy()
    np.testing.assert_array_equal(whole, image.astype(np.float32) / 257)
    np.testing.assert_array_equal(whole, to_255(image.astype(np.float32)))
    assert (whole.min(), whole.max()) == (0, 255)
    np.testing.assert_array_equal(whole, records.to_255(image, spec))
    for eight in (tf.constant([[[7]]], tf.uint8), np.full((1, 1, 1), 7, np.uint8)):
        assert records.to_255(eight, spec) is eight


def test_percentiles_of_counts_are_those_of_the_values():
    rng = np.random.default_rng(0)
    for size in (2, 3, 10, 1001, 40000):
        values = (rng.gamma(2, 900, size) + 300).clip(0, 65535).astype(np.uint16)
        counts = np.bincount(values, minlength=65536)
        for percentiles in ((0, 100), (0.1, 99.9), (5, 60), (0, 12.5)):
            np.testing.assert_allclose(
                records.percentile_range(counts, percentiles), np.percentile(values, percentiles), rtol=1e-12
            )
    counts = np.bincount([7] * 999 + [9], minlength=65536)
    with pytest.raises(DataError, match=r"0.1 % and 99.8 % of all values of the images are at most 7.*--scaling full"):
        records.percentile_range(counts, (0.1, 99.8))


def test_the_range_in_dataset_json(tmp_path):
    spec = DatasetSpec("x", ("a",), bit_depth=16, value_range=(900, 4000.5))
    spec.save(tmp_path)
    assert DatasetSpec.load(tmp_path) == spec
    content = json.loads((tmp_path / "dataset.json").read_text())
    del content["value_range"]  # as it was before there was such a field
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert DatasetSpec.load(tmp_path).value_range is None
    for value_range, bits in (((900, 900), 16), ((0, float("inf")), 16), ((1, 2, 3), 16), ((0, 9), 8)):
        with pytest.raises(DataError, match=rf"value_range .* with {bits} bits; expected two finite values"):
            DatasetSpec("x", ("a",), bit_depth=bits, value_range=value_range)


def wide(image):
    """8 bits as 12: what a camera's dark offset and gain make of them."""
    return image.astype(np.uint16) * 37 + 900


@pytest.fixture
def pairs(tmp_path):
    """Six 16-bit images of several sizes, PNG, TIFF and in colour, with masks."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(6):
        size = (20 + i, 24)
        image = wide(cv2.GaussianBlur(rng.integers(0, 256, (*size, 3)).astype(np.uint8), (0, 0), 1))
        if i % 2:
            tifffile.imwrite(tmp_path / f"images/{i}.tif", image, photometric="rgb")
        else:
            cv2.imwrite(str(tmp_path / f"images/{i}.png"), image[..., ::-1])
        Image.fromarray(rng.integers(0, 2, size).astype(np.uint8)).save(tmp_path / f"masks/{i}.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    return tmp_path


def convert(root, *arguments, output="out"):
    where = [f"--{name}={root / name}" for name in ("images", "masks")]
    convert_pairs.main([*where, f"--classes={root / 'classes.txt'}", f"--output={root / output}", *arguments])
    return DatasetSpec.load(root / output)


def images_of(directory, split):
    return [example.image for example in records.read(directory, split)]


def test_percentiles_of_the_training_images_alone(pairs, capsys):
    spec = convert(pairs, "--scaling", "percentile", "--percentiles", "2,95", "--val-share", "0.34")
    train, val = (images_of(pairs / "out", split) for split in ("train", "val"))
    assert len(val) == 2
    assert all(image.dtype == np.uint16 for image in train + val)
    low, high = np.percentile(np.concatenate([image.ravel() for image in train]), (2, 95))
    assert spec.value_range == (low, high)
    assert (spec.bit_depth, spec.channels) == (16, 3)
    assert spec.notes["scaling"] == "percentile"
    assert spec.notes["percentiles"] == [2, 95]
    assert f"values {low:g} to {high:g} become 0 to 255" in capsys.readouterr().out
    # As all else reads it: the evaluation's images, training batches, and single files given to a model.
    for (image, _), before in zip(eval_images(pairs / "out", "val"), val, strict=True):
        np.testing.assert_allclose(image[0], expected_255(before, low, high), atol=2e-3)
        np.testing.assert_allclose(prepared(before, 3, spec.value_range), image[0], atol=1e-4)
    scaled = [expected_255(image, low, high) for image in train]
    for engine in ("opencv", "tensorflow"):
        batch = next(iter(train_batches(pairs / "out", "train", 4, None, preset=Augmentation(), seed=0, engine=engine)))
        found = [
            image[: mask.any(1).sum()] for image, mask in zip(batch[0].numpy(), (batch[1] != 255).numpy(), strict=True)
        ]
        for image in found:
            assert any(image.shape == other.shape and np.allclose(image, other, atol=2e-3) for other in scaled)


def test_the_full_range_without_being_asked(pairs):
    spec = convert(pairs)
    assert spec.value_range is None
    assert spec.notes["scaling"] == "full"
    for (image, _), before in zip(eval_images(pairs / "out", "train"), images_of(pairs / "out", "train"), strict=True):
        np.testing.assert_array_equal(image[0], before.astype(np.float32) / 257)


def test_a_conversion_that_is_gone_on_with_has_the_same_range(pairs, monkeypatch):
    arguments = ["--scaling", "percentile", "--workers", "1", "--num-shards", "3"]
    whole = convert(pairs, *arguments, output="whole")
    real, read = records.Deferred.__call__, []

    def call(self):
        read.append(self.key)
        if len(read) == 6:
            raise KeyboardInterrupt
        return real(self)

    monkeypatch.setattr(records.Deferred, "__call__", call)
    with pytest.raises(KeyboardInterrupt):
        convert(pairs, *arguments)
    spec = convert(pairs, *arguments)
    assert read == ["0", "1", "2", "3", "4", "5", "4", "5"]
    assert spec.value_range == whole.value_range


def test_what_has_no_16_bits_is_refused(pairs):
    for i in range(6):
        next((pairs / "images").glob(f"{i}.*")).unlink()
        Image.fromarray(np.zeros((20 + i, 24), np.uint8)).save(pairs / f"images/{i}.png")
    with pytest.raises(DataError, match="--scaling percentile is for images of 16 bits.*stored with 8 bits"):
        convert(pairs, "--scaling", "percentile")
    example = records.Example("a", np.zeros((4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match="expected percentiles 0 <= low < high <= 100 for 16 bits"):
        records.write(pairs / "out", DatasetSpec("x", ("a",), channels=1), {"train": [example]}, percentiles=(1, 99))
    with pytest.raises(SystemExit):
        convert(pairs, "--scaling", "percentile", "--percentiles", "99,1")


def test_real_cells_with_16_bits(real_data, tmp_path):
    """Frames of the Cell Tracking Challenge as a 12-bit camera would give them."""
    root = real_data / "cells/ctc/PhC-C2DL-PSC"
    for folder in ("01_GT", "01_ST"):
        (tmp_path / "psc").mkdir(exist_ok=True)
        (tmp_path / "psc" / folder).symlink_to(root / folder)
    (tmp_path / "psc/01").mkdir()
    paths = sorted((root / "01").glob("*.tif"))
    for path in paths:
        tifffile.imwrite(tmp_path / "psc/01" / path.name, wide(np.asarray(Image.open(path))))
    arguments = ["--layout", "ctc", "--input", str(tmp_path / "psc"), "--output", str(tmp_path / "out")]
    convert_cells.main([*arguments, "--scaling", "percentile"])
    spec = DatasetSpec.load(tmp_path / "out")
    train = {e.key: e for e in records.read(tmp_path / "out", "train")}
    for key, example in train.items():
        np.testing.assert_array_equal(example.image[..., 0], wide(np.asarray(Image.open(root / f"01/{key[3:]}.tif"))))
    values = np.concatenate([example.image.ravel() for example in train.values()])
    assert spec.value_range == tuple(np.percentile(values, (0.1, 99.9)))
    for image, _, key in eval_images(tmp_path / "out", "train", keys=True):
        before = train[key.numpy()[0].decode()].image
        np.testing.assert_allclose(image[0], expected_255(before, *spec.value_range), atol=2e-3)


def test_a_real_photograph_with_16_bits_and_a_model(real_data, tmp_path):
    """Luma of a photograph with all its digits; a model that tells only whether a pixel is brighter than 100."""
    path = sorted((real_data / "voc/VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"))[0]
    luma = np.asarray(Image.open(path)).astype(np.float64) @ [0.299, 0.587, 0.114]
    image = np.rint(luma * 40 + 1000).astype(np.uint16)
    low, high = np.percentile(image, (1, 99))
    value = keras.Input((None, None, 1))
    logits = keras.layers.Conv2D(2, 1, kernel_initializer="zeros", bias_initializer="zeros")
    model = keras.Model(value, logits(value))
    logits.set_weights([np.array([[[[0.0, 1.0]]]]), np.array([0.0, -100.0])])
    scaled = expected_255(image, low, high)
    clear = np.abs(scaled - 100) > 0.01
    expected = scaled > 100
    assert 0.1 < expected.mean() < 0.9
    assert (expected != (image / 257 > 100)).mean() > 0.1
    np.testing.assert_array_equal(Segmenter(model, value_range=(low, high)).segment(image)[clear], expected[clear])

    # The tool takes the range from the data set that run.json names.
    cv2.imwrite(str(tmp_path / "image.png"), image)
    model.save(tmp_path / "best.keras")
    spec = DatasetSpec("x", ("a", "b"), channels=1, bit_depth=16, value_range=(low, high))
    (tmp_path / "run.json").write_text(json.dumps({"dataset": spec.to_dict()}))
    where = ["--model", str(tmp_path / "best.keras"), "--images", str(tmp_path / "image.png")]
    predict.main([*where, "--output", str(tmp_path / "predicted")])
    mask = np.asarray(Image.open(tmp_path / "predicted/masks/image.png"))
    np.testing.assert_array_equal(mask[clear], expected[clear])

    # And the served model for files of 16 bits, but not for those of 8.
    served = Signatures(model, (low, high)).functions()["predict_bytes"]
    eight = np.rint(luma).astype(np.uint8)
    files = [(tmp_path / "image.png").read_bytes(), cv2.imencode(".png", eight)[1].tobytes()]
    deep, plain = (tf.io.decode_png(data)[..., 0] for data in served(image_bytes=tf.constant(files))["mask_bytes"])
    np.testing.assert_array_equal(deep.numpy()[clear], expected[clear])
    np.testing.assert_array_equal(plain, eight > 100)


def test_windows_of_computed_tomography(tmp_path, capsys):
    """Signed values of a scanner, stored as they are, and shown as radiologists look at them."""
    rng = np.random.default_rng(0)
    slices = rng.integers(-1024, 3000, (3, 24, 20)).astype(np.int16)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i, plane in enumerate(slices):
        tifffile.imwrite(tmp_path / "images" / f"{i}.tif", plane)
        Image.fromarray((plane > 100).astype(np.uint8)).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "classes.txt").write_text("other\nbone\n")
    given = ["--images", tmp_path / "images", "--masks", tmp_path / "masks", "--classes", tmp_path / "classes.txt"]
    arguments = [*map(str, given), "--output", str(tmp_path / "ct"), "--scaling", "window"]
    convert_pairs.main([*arguments, "--window", "lung"])
    assert "values -1350 to 150 become 0 to 255" in capsys.readouterr().out

    spec = DatasetSpec.load(tmp_path / "ct")
    assert (spec.bit_depth, spec.value_range) == (32, (-1350, 150))
    for example, plane in zip(records.read(tmp_path / "ct", "train"), slices, strict=True):
        np.testing.assert_array_equal(example.image[..., 0], plane)
    shown = [expected_255(plane, -1350, 150) for plane in slices]
    for (image, _), expected in zip(eval_images(tmp_path / "ct", "train"), shown, strict=True):
        np.testing.assert_allclose(image[0, ..., 0], expected, atol=1e-3)
    for engine in ("opencv", "tensorflow"):
        batch = next(iter(train_batches(tmp_path / "ct", "train", 3, (24, 20), Augmentation(), 1, engine=engine)))
        sums = sorted(batch[0].numpy().sum((1, 2, 3)).tolist())
        np.testing.assert_allclose(sums, sorted(expected.sum() for expected in shown), rtol=1e-5)
    np.testing.assert_allclose(prepared(slices[0], 1, spec.value_range)[..., 0], shown[0], atol=1e-3)

    for wrong in (["--scaling", "full", "--window", "lung"], ["--scaling", "window"]):
        with pytest.raises(DataError, match="belong together"):
            convert_pairs.main([*map(str, given), "--output", str(tmp_path / "no"), *wrong])
