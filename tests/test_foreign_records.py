"""Record files of other projects: a data set of them as they are, and converted to ours."""

import io
import json

import check_data
import convert_legacy
import cv2
import evaluate
import index_records
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from kerasseg import pipeline, records
from kerasseg.spec import DataError, DatasetSpec

NAMES = ("background", "cat", "dog")


def encoded(array, form):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form, **({"quality": 95} if form == "JPEG" else {}))
    return buffer.getvalue()


def picture(rng, height, width):
    """An image with bright and dark regions, and its mask."""
    plane = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 5)
    mask = np.digitize(plane, np.quantile(plane, [0.4, 0.7])).astype(np.uint8)
    image = (mask[..., None] * 80 + rng.integers(0, 30, (height, width, 3))).astype(np.uint8)
    mask[:2] = 255
    return image, mask


def serialized(values):
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v]))
        if isinstance(v, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[v]))
        for key, v in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def deeplab_record(name, image, mask, **changes):
    """The fields of TensorFlow DeepLab's build_data.py, whose default format is "png" whatever the bytes."""
    return serialized(
        {
            "image/encoded": image,
            "image/filename": name.encode(),
            "image/format": b"png",
            "image/height": 60,
            "image/width": 70,
            "image/channels": 3,
            "image/segmentation/class/encoded": mask,
            "image/segmentation/class/format": b"png",
            **changes,
        }
    )


def write(path, serialized_records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized_records:
            writer.write(record)


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("background 9 9 9\ncat 255 0 0\ndog 0 0 255\n")
    return path


@pytest.fixture
def deeplab(tmp_path):
    """A folder as build_voc2012_data.py leaves it, and what it holds: key to (JPEG bytes, mask)."""
    folder, rng, held = tmp_path / "tfrecord", np.random.default_rng(0), {}
    folder.mkdir()
    for split, count in (("train", 10), ("val", 3)):
        for i in range(count):
            image, mask = picture(rng, 60, 70)
            held[f"{split}{i}"] = (encoded(image, "JPEG"), mask)
        for shard in range(2):
            keys = [key for i, key in enumerate(k for k in held if k.startswith(split)) if i % 2 == shard]
            path = folder / f"{split}-{shard:05d}-of-00002.tfrecord"
            write(path, [deeplab_record(key, held[key][0], encoded(held[key][1], "PNG")) for key in keys])
    return folder, held


def index(folder, classes, *more):
    index_records.main(
        ["--data", str(folder), "--train", "train-*", "--val", "val-*", "--classes", str(classes), *more]
    )
    return DatasetSpec.load(folder)


def test_tensorflows_records_become_a_data_set_as_they_are(deeplab, classes, tmp_path, capsys):
    folder, held = deeplab
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    spec = index(folder, classes)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before
    assert {path.name for path in folder.iterdir()} - set(before) == {"dataset.json"}
    assert (spec.name, spec.class_names, spec.palette[1]) == ("tfrecord", NAMES, (255, 0, 0))
    assert (spec.channels, spec.bit_depth, spec.has_instances, spec.has_objects) == (3, 8, False, False)
    for split in ("train", "val"):
        masks = [mask for key, (_, mask) in held.items() if key.startswith(split)]
        counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
        found = spec.splits[split]
        assert found.class_pixels == tuple(counts[:3])
        assert found.ignored_pixels == counts[255]
        assert found.num_examples == len(masks)
        valid = [(np.bincount(mask.ravel(), minlength=256) > 0) * (mask != 255).sum() for mask in masks]
        assert found.class_image_pixels == tuple(sum(valid)[:3])
    for image, mask, key in pipeline.eval_images(folder, "val", keys=True):
        jpeg, expected = held[key.numpy()[0].decode()]
        np.testing.assert_array_equal(image[0], np.asarray(Image.open(io.BytesIO(jpeg))))
        np.testing.assert_array_equal(mask[0], expected)
    image, mask = next(iter(pipeline.train_batches(folder, "train", 4, 32, seed=1)))
    assert image.shape == (4, 32, 32, 3)
    assert set(np.unique(mask)) <= {0, 1, 2, 255}
    check_data.main([str(folder)])
    assert "no faults in 13 records" in capsys.readouterr().out
    inputs = keras.Input((None, None, 3))
    keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs)).save(tmp_path / "model.keras")
    evaluate.main(
        ["--model", str(tmp_path / "model.keras"), "--data", str(folder), "--output", str(tmp_path / "report")]
    )
    assert json.loads((tmp_path / "report" / "report.json").read_text())["num_images"] == 3


def test_all_faults_are_told_and_nothing_is_written(deeplab, classes, tmp_path):
    folder, held = deeplab
    jpeg, mask = held["train0"]
    palette = Image.fromarray(mask, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    png = encoded(mask, "PNG")
    bad = [
        deeplab_record("good", jpeg, png),
        deeplab_record("palette", jpeg, buffer.getvalue()),
        deeplab_record("label", jpeg, encoded(np.where(mask == 2, 7, mask), "PNG")),
        deeplab_record("small", jpeg, encoded(mask[:50], "PNG")),
        deeplab_record("turned", jpeg, encoded(np.ascontiguousarray(mask.T), "PNG")),
        deeplab_record("swapped", jpeg, png, **{"image/height": 70, "image/width": 60}),
        deeplab_record("cut", jpeg[: len(jpeg) // 2], png),
        deeplab_record("deep", encoded(np.zeros((60, 70), np.uint16), "PNG"), png),
        serialized({"image/encoded": jpeg}),
        serialized({"picture": jpeg}),
    ]
    path = folder / "train-bad.tfrecord"
    write(path, bad)
    data = bytearray((folder / "val-00000-of-00002.tfrecord").read_bytes())
    data[200] ^= 1
    (folder / "val-00000-of-00002.tfrecord").write_bytes(data)
    with pytest.raises(DataError) as error:
        index(folder, classes)
    said = str(error.value).splitlines()
    assert "10 faults, so no dataset.json was written" in said[0]
    expected = [
        (1, "palette: image/segmentation/class/encoded is no one-channel PNG"),
        (2, "label: labels [7]; expected 0 to 2 or 255"),
        (3, "small: mask is 70x50, but the image 70x60"),
        (4, "turned: mask is 60x70, but the image 70x60: width and height are swapped"),
        (5, "swapped: the record states height [70] and width [60], but the image is 70x60; width and height are"),
        (6, "cut: the image does not decode"),
        (7, "deep: the image has 16 bits, but the data set 8"),
        (8, "train-bad.tfrecord-8: the record has no mask"),
        (9, "is of no known schema: expected image/encoded or image_raw, found ['picture']"),
    ]
    for (number, text), line in zip(expected, said[1:], strict=False):
        assert line.startswith(f"{path}, record {number}: {text}")
    assert "val-00000-of-00002.tfrecord, record 0: the file is damaged there" in said[-1]
    assert not (folder / "dataset.json").exists()


def test_wrong_calls(deeplab, classes):
    folder, _ = deeplab
    base = ["--data", str(folder), "--classes", str(classes)]
    with pytest.raises(DataError, match=r"--train 'nothing-\*' matches no file in .* which holds train-00000"):
        index_records.main([*base, "--train", "nothing-*"])
    with pytest.raises(DataError, match="is matched twice, by --train and --val"):
        index_records.main([*base, "--train", "train-*", "--val", "*-00001-of-00002.tfrecord"])
    with pytest.raises(DataError, match="nowhere is no folder; expected the folder of the record files"):
        index_records.main(["--data", str(folder / "nowhere"), "--train", "*", "--classes", "voc"])
    with pytest.raises(DataError, match="holds no train.tfrecords, as the original project's folder does"):
        convert_legacy.main([*base, "--output", str(folder.parent / "out")])
    index(folder, classes)
    with pytest.raises(DataError, match="dataset.json exists already; replace it with --overwrite"):
        index(folder, classes)
    index(folder, classes, "--overwrite", "--name", "other")
    assert DatasetSpec.load(folder).name == "other"


def test_tensorflows_records_are_converted_with_their_bytes_and_changed_labels(deeplab, classes, tmp_path):
    folder, held = deeplab
    classes.write_text("cat\ndog\n")
    more = ["--map", "0=255", "--shift", "-1", "--train", "train-*", "--classes", str(classes)]
    convert_legacy.main(["--data", str(folder), *more, "--output", str(tmp_path / "out")])
    found = {example.key: example for example in records.read(tmp_path / "out", "train")}
    assert set(found) == {key for key in held if key.startswith("train")}
    for key, example in found.items():
        jpeg, mask = held[key]
        assert example.image_bytes == jpeg
        assert example.image_format == "jpeg"
        np.testing.assert_array_equal(example.mask, np.select([mask == 1, mask == 2], [0, 1], 255))
    more[1] = "1=0"
    with pytest.raises(DataError, match=r"train-00000-of-00002.tfrecord, record 0: --shift takes the labels \[0\] out"):
        convert_legacy.main(["--data", str(folder), *more, "--output", str(tmp_path / "bad")])


# The original project's


@pytest.fixture
def original(tmp_path):
    """A folder as CreateTfRecord.ipynb leaves it, and its (image, mask) by split."""
    folder, rng, held = tmp_path / "tfrecords", np.random.default_rng(1), {}
    folder.mkdir()
    for split, name, count in (("train", "train.tfrecords", 5), ("val", "validation.tfrecords", 2)):
        held[split] = [picture(rng, 40 + i, 50 - i) for i in range(count)]
        write(folder / name, [
            serialized({"height": image.shape[0], "width": image.shape[1], "image_raw": image.tobytes(),
                        "annotation_raw": mask.tobytes()}) for image, mask in held[split]
        ])  # fmt: skip
    return folder, held


def test_raw_records_become_a_data_set_as_they_are(original, classes):
    folder, held = original
    index_records.main(["--data", str(folder), "--train", "train.tfrecords", "--val", "validation.tfrecords",
                        "--classes", str(classes)])  # fmt: skip
    for (image, mask), (expected, labels) in zip(pipeline.eval_images(folder, "val"), held["val"], strict=True):
        np.testing.assert_array_equal(image[0], expected)
        np.testing.assert_array_equal(mask[0], labels)
    image, _ = next(iter(pipeline.train_batches(folder, "train", 2, 32, seed=1)))
    assert image.shape == (2, 32, 32, 3)
    check_data.main([str(folder)])


def test_raw_records_are_converted_pixel_by_pixel(original, classes, tmp_path, capsys):
    folder, held = original
    base = ["--data", str(folder), "--classes", str(classes), "--overwrite", "--output", str(tmp_path / "out")]
    convert_legacy.main(base)
    assert " MB in " in capsys.readouterr().out
    for split, pairs in held.items():
        stem = "train" if split == "train" else "validation"
        for i, (example, (image, mask)) in enumerate(zip(records.read(tmp_path / "out", split), pairs, strict=True)):
            assert example.key == f"{stem}-{i}"
            assert example.image_format == "png"
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(example.image_bytes))), image)
            np.testing.assert_array_equal(example.mask, mask)
    check_data.main([str(tmp_path / "out")])
    names = tmp_path / "names.txt"
    names.write_text("".join(f"2007_{i:06d}\n" for i in range(7)))
    convert_legacy.main([*base, "--names", str(names)])
    assert [e.key for e in records.read(tmp_path / "out", "val")] == ["2007_000005", "2007_000006"]
    names.write_text("2007_000001\n")
    with pytest.raises(DataError, match="names.txt has 1 names, but there are 7 records; expected a name for each"):
        convert_legacy.main([*base, "--names", str(names)])
    path = folder / "train.tfrecords"
    data = bytearray(path.read_bytes())
    data[records.frames(path)[2].start + 99] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="train.tfrecords, record 2: the file is damaged there"):
        convert_legacy.main(base)
    assert len(list(records.read(tmp_path / "out", "train"))) == 5  # the old one is whole


def test_the_original_projects_own_records(oracle, tmp_path):
    expected = np.load(oracle / "data" / "three_decoded.npz")
    folder = tmp_path / "tfrecords"
    folder.mkdir()
    (folder / "train.tfrecords").write_bytes((oracle / "data" / "three.tfrecord").read_bytes())
    index_records.main(["--data", str(folder), "--train", "*.tfrecords", "--classes", "voc"])
    convert_legacy.main(["--data", str(folder), "--classes", "voc", "--output", str(tmp_path / "out")])
    for data in (folder, tmp_path / "out"):
        count = 0
        for i, (image, mask) in enumerate(pipeline.eval_images(data, "train")):
            np.testing.assert_array_equal(image[0], expected[f"rec{i}_image"])
            np.testing.assert_array_equal(mask[0], expected[f"rec{i}_annotation"][..., 0])
            count += 1
        assert count == 3
