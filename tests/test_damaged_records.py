"""A byte that flips in a record is told with its file and number, wherever the record is read."""

import io
import re

import cv2
import evaluate
import numpy as np
import pytest
import show_batches
import tensorflow as tf
import train
from PIL import Image
from tensorflow import keras

from kerasseg import pipeline, records
from kerasseg.spec import DataError, DatasetSpec

pytestmark = pytest.mark.usefixtures("undrawn")

TRAIN = ["--model", "unet", "--model-option", "filters=4", "depth=1", "padding=same", "--steps", "6"]
TRAIN += ["--validate-every", "6", "--batch-size", "4", "--crop-size", "16", "--preset", "cells"]


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path):
    """Six images to train on in two files, two for validation; JPEG images, PNG masks."""
    rng = np.random.default_rng(0)

    def example(key):
        image = cv2.resize(rng.integers(0, 256, (5, 6, 3)).astype(np.uint8), (24, 20))
        encoded = jpeg(image)
        decoded = np.asarray(Image.open(io.BytesIO(encoded)))
        mask = (decoded[..., 0] > 120).astype(np.uint8)
        return records.Example(key, decoded, mask, image_bytes=encoded, image_format="jpeg")

    splits = {name: [example(f"{name}{i}") for i in range(n)] for name, n in (("train", 6), ("val", 2))}
    records.write(tmp_path / "data", DatasetSpec("tiny", ("dark", "bright")), splits, num_shards=2, progress=False)
    return tmp_path / "data"


def flip(path, number):
    """Flips a bit in the middle of a record; its checksum no longer fits."""
    data, start = bytearray(path.read_bytes()), 0
    for _ in range(number):
        start += 16 + int.from_bytes(data[start : start + 8], "little")
    data[start + int.from_bytes(data[start : start + 8], "little") // 2] ^= 4
    path.write_bytes(data)


def halved(data):
    return data[: len(data) // 2] + bytes(20)


def spoil(path, number, feature, damage=halved):
    """Damages what a record holds and writes it with a checksum that fits: the source file was damaged."""
    serialized = list(records.serialized_records(path))
    example = tf.train.Example.FromString(serialized[number])
    values = example.features.feature[feature].bytes_list.value
    values[0] = damage(values[0])
    serialized[number] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized:
            writer.write(record)


DAMAGES = {
    "checksum": (flip, r"the file is damaged there or cut short \(wrong checksum\)"),
    "image": (lambda path, number: spoil(path, number, "image/encoded"), r"train5: the image does not decode.*\(.*\)"),
    "mask": (
        lambda path, number: spoil(path, number, "image/segmentation/class/encoded"),
        r"train5: image/segmentation/class/encoded does not decode \(.*\)",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_training_and_looking_name_file_and_record(data, tmp_path, capsys, kind):
    damage, message = DAMAGES[kind]
    path = records.shard_paths(data, "train")[1]
    damage(path, 2)
    message = rf"^error: {re.escape(str(path))}, record 2: {message}; replace the file, or make the data set again"
    runs = {show_batches: ["--data", data, "--preset", "cells", "--crop-size", "16", "--output", tmp_path / "a.png"]}
    if kind == "image":
        runs[train] = [*TRAIN, "--data", data, "--output", tmp_path / "run"]
    for tool, arguments in runs.items():
        with pytest.raises(SystemExit) as ended:
            tool._cli.run(tool.main, [str(argument) for argument in arguments])
        assert ended.value.code == 1
        assert re.match(message, capsys.readouterr().err.splitlines()[-1])


def test_a_damaged_validation_image_ends_training_and_evaluation(data, tmp_path, capfd):
    path = records.shard_paths(data, "val")[1]
    image = keras.Input((None, None, 3))
    keras.Model(image, keras.layers.Conv2D(2, 1)(image)).save(tmp_path / "model.keras")
    flip(path, 0)
    arguments = ["--data", data, "--output", tmp_path / "run"]
    evaluated = ["--model", tmp_path / "model.keras", "--data", data, "--output", tmp_path / "report"]
    with pytest.raises(DataError, match=rf"{path.name}, record 0: the file is damaged there"):
        evaluate.main([str(argument) for argument in evaluated])
    with pytest.raises(SystemExit) as ended:
        train._cli.run(train.main, [str(argument) for argument in [*TRAIN, *arguments]])
    assert ended.value.code == 1
    printed = capfd.readouterr().err
    assert "Traceback" not in printed
    assert printed.splitlines()[-1].startswith(f"error: {path}, record 0: the file is damaged there")


def test_what_no_record_explains_is_raised_as_it_was(data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="of my own"), pipeline.naming_damage(data):
        raise tf.errors.InvalidArgumentError(None, None, "of my own")
    with pytest.raises(KeyError), pipeline.naming_damage(data, "train"):
        raise KeyError
    flip(records.shard_paths(data, "val")[0], 0)
    with pytest.raises(tf.errors.DataLossError, match="elsewhere"), pipeline.naming_damage(data, "train"):
        raise tf.errors.DataLossError(None, None, "elsewhere")
    with pytest.raises(DataError, match="record 0"), pipeline.naming_damage(data):
        raise tf.errors.DataLossError(None, None, "here")


def without_checksum(data):
    """A PNG whose pixels all decode, but with another checksum."""
    place = data.index(b"IEND") - 8
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


SPOILT = {
    "JPEG without its last twentieth": ("image/encoded", lambda data: data[: len(data) * 19 // 20]),
    "JPEG without its end": ("image/encoded", lambda data: data[:-2]),
    "PNG with a wrong checksum": ("image/segmentation/class/encoded", without_checksum),
    "PNG without its end": ("image/segmentation/class/encoded", lambda data: data[:-14]),
}


@pytest.mark.parametrize("engine", ["opencv", "tensorflow"])
@pytest.mark.parametrize("kind", SPOILT)
def test_no_engine_trains_on_half_a_picture(data, kind, engine):
    feature, damage = SPOILT[kind]
    path = records.shard_paths(data, "train")[1]
    spoil(path, 2, feature, damage)
    batches = pipeline.train_batches(data, "train", 2, 16, "deeplab_paper", seed=1, engine=engine)
    with pytest.raises(DataError, match=f"{path.name}, record 2: .*does not decode"), pipeline.naming_damage(data):
        for _ in batches.take(60):  # a window that ends before the damage is read without it
            pass
