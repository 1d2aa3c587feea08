"""Boxes of objects: against a loop over pixels, through records and graphs, on generated and on real images."""

import xml.etree.ElementTree

import convert_sbd
import convert_voc
import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kerasseg import augment, records
from kerasseg.spec import DATASET_FILE, VOC_CLASS_NAMES, DataError, DatasetSpec


def by_loop(instances, mask):
    """Each object's rows, columns and label counts, pixel by pixel."""
    height, width = instances.shape
    boxes, labels = [], []
    for number in sorted(set(instances.ravel().tolist()) - {0}):
        pixels = [(y, x) for y in range(height) for x in range(width) if instances[y, x] == number]
        seen = [int(mask[p]) for p in pixels if mask[p] != 255]
        if seen:
            rows, columns = zip(*pixels, strict=True)
            boxes.append(
                (min(rows) / height, min(columns) / width, (max(rows) + 1) / height, (max(columns) + 1) / width)
            )
            labels.append(max(sorted(set(seen)), key=seen.count))
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)


@settings(max_examples=80, deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
def test_equal_to_a_loop(data, shape):
    numbers = st.sampled_from([0, 1, 2, 5, 300, 65535, 70_000])
    instances = data.draw(hnp.arrays(np.int32, shape, elements=numbers))
    mask = data.draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 20, 255])))
    boxes, labels = records.object_boxes(instances, mask)
    expected_boxes, expected_labels = by_loop(instances, mask)
    assert (boxes.dtype, labels.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(boxes, expected_boxes)
    np.testing.assert_array_equal(labels, expected_labels)


def test_an_object_that_is_ignored_everywhere_has_no_box_and_ties_go_to_the_lower_class():
    instances = np.array([[1, 1, 2, 2], [3, 3, 3, 3]], np.uint16)
    mask = np.array([[255, 255, 7, 4], [255, 9, 255, 255]], np.uint8)
    boxes, labels = records.object_boxes(instances, mask)
    np.testing.assert_array_equal(labels, [4, 9])
    np.testing.assert_array_equal(boxes, np.float32([[0, 0.5, 0.5, 1], [0.5, 0, 1, 1]]))
    with pytest.raises(ValueError, match=r"expected a mask of the instances' shape \(2, 4\), received \(2, 3\)"):
        records.object_boxes(instances, mask[:, :3])
    with pytest.raises(ValueError, match="and a mask of uint8, received uint16"):
        records.object_boxes(instances, mask.astype(np.uint16))


def write(folder, items, **values):
    spec = DatasetSpec(name="tiny", class_names=("background", "cat", "dog"), **values)
    return records.write(folder, spec, {"train": items}, progress=False)


def example(key, seed, **more):
    rng = np.random.default_rng(seed)
    size = (9 + seed, 13)
    blocks = np.kron(rng.integers(0, 4, (4, 4)), np.ones((4, 4)))[: size[0], : size[1]]
    instances = np.zeros(size, np.uint16)
    instances[: blocks.shape[0], : blocks.shape[1]] = blocks
    mask = np.where(instances > 0, 1 + instances % 2, rng.choice([0, 255], size)).astype(np.uint8)
    return records.Example(key, rng.integers(0, 256, (*size, 3)).astype(np.uint8), mask, instances, **more)


def parsed(folder, **options):
    paths = [str(path) for path in records.shard_paths(folder, "train")]
    return list(
        tf.data.TFRecordDataset(paths).map(lambda s: records.parse(s, channels=3, **options)).as_numpy_iterator()
    )


def test_objects_and_proposals_through_records(tmp_path):
    proposals = [np.random.default_rng(i).random((i, 2, 2)).astype(np.float32) for i in (3, 0, 5)]
    proposals = [np.sort(boxes, axis=1).reshape(-1, 4) for boxes in proposals]
    made = [example(f"i{i}", i, proposals=boxes) for i, boxes in enumerate(proposals)]
    written = write(tmp_path / "tiny", made)
    assert written.has_objects
    assert written.has_proposals
    assert DatasetSpec.load(tmp_path / "tiny") == written
    for before, after in zip(made, parsed(tmp_path / "tiny", objects=True, proposals=True), strict=True):
        boxes, labels = by_loop(before.instances, before.mask)
        assert len(boxes) > 0
        np.testing.assert_array_equal(after["objects"], boxes)
        np.testing.assert_array_equal(after["object_labels"], labels)
        np.testing.assert_array_equal(after["proposals"], before.proposals)
    for before, after in zip(made, records.read(tmp_path / "tiny", "train"), strict=True):
        np.testing.assert_array_equal(after.proposals, before.proposals)
    assert set(parsed(tmp_path / "tiny")[0]) == {"image", "mask", "key"}


def test_the_names_are_those_of_the_object_detection_api(tmp_path):
    made = example("a", 0)
    write(tmp_path / "tiny", [made])
    path = str(records.shard_paths(tmp_path / "tiny", "train")[0])
    record = next(tf.data.TFRecordDataset(path).as_numpy_iterator())
    features = tf.train.Example.FromString(record).features.feature
    boxes, labels = by_loop(made.instances, made.mask)
    for i, side in enumerate(("ymin", "xmin", "ymax", "xmax")):
        np.testing.assert_array_equal(np.float32(features[f"image/object/bbox/{side}"].float_list.value), boxes[:, i])
    np.testing.assert_array_equal(features["image/object/class/label"].int64_list.value, labels)


def test_without_instances_there_are_no_objects_and_old_data_sets_open(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    written = write(tmp_path / "tiny", [records.Example("a", image, image[..., 0])])
    assert not written.has_objects
    assert not written.has_proposals
    got = parsed(tmp_path / "tiny", objects=True, proposals=True)[0]
    assert got["objects"].shape == got["proposals"].shape == (0, 4)
    assert got["object_labels"].shape == (0,)
    path = tmp_path / "tiny" / DATASET_FILE
    lines = [
        line for line in path.read_text().splitlines() if "has_objects" not in line and "has_proposals" not in line
    ]
    path.write_text("\n".join(lines))
    assert DatasetSpec.load(tmp_path / "tiny") == written


def test_a_box_that_lacks_a_side_is_an_error_of_the_record():
    features = {"image/proposal/bbox/ymin": [0.0, 0.1], "image/proposal/bbox/xmin": [0.0]}
    feature = {k: tf.train.Feature(float_list=tf.train.FloatList(value=v)) for k, v in features.items()}
    png = tf.io.encode_png(np.zeros((2, 2, 3), np.uint8)).numpy()
    feature["image/encoded"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png]))
    record = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    with pytest.raises(tf.errors.InvalidArgumentError):
        records.parse(record, channels=3, proposals=True)
    with pytest.raises(DataError, match=r"image/proposal/bbox has 2, 1, 0, 0 values"):
        records.from_record(record)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0.2, 0.1, 0.1, 0.5], r"a \(b\): proposal 1 is .*each maximum above its minimum"),
        ([0, 0, 1, 1.01], "within 0 to 1"),
        ([0, 0, np.nan, 1], "within 0 to 1"),
    ],
)
def test_bad_proposals_do_not_enter(tmp_path, box, message):
    boxes = np.array([[0, 0, 1, 1], box], np.float32)
    with pytest.raises(DataError, match=message):
        write(tmp_path / "tiny", [example("a", 0, proposals=boxes, source="b")])
    with pytest.raises(DataError, match=r"expected proposals float32 \[N, 4\], received float64 \(2, 4\)"):
        write(tmp_path / "tiny", [example("a", 0, proposals=boxes.astype(float))])
    with pytest.raises(DataError, match="all images of a data set must have the same"):
        write(tmp_path / "tiny", [example("a", 0), example("b", 1, proposals=boxes[:1])])


def samples(folder, split):
    for path in records.shard_paths(folder, split):
        for record in tf.data.TFRecordDataset(str(path)):
            sample = records.parse(record, channels=3, instances=True, objects=True)
            yield {name: value.numpy() for name, value in sample.items()}


def test_classes_of_sbd_objects_are_the_categories_of_its_files(real_data, tmp_path):
    root = real_data / "sbd/benchmark_RELEASE/dataset"
    convert_sbd.main(
        ["--sbd", str(root), "--allow-missing", "--splits", "train,val", "--output", str(tmp_path / "out")]
    )
    total = 0
    for split in DatasetSpec.load(tmp_path / "out").splits:
        for sample in samples(tmp_path / "out", split):
            file = root / "inst" / f"{sample['key'].decode()}.mat"
            truth = scipy.io.loadmat(file, squeeze_me=True, struct_as_record=False)["GTinst"]
            np.testing.assert_array_equal(sample["instances"], truth.Segmentation)
            np.testing.assert_array_equal(sample["object_labels"], np.atleast_1d(truth.Categories))
            total += len(sample["objects"])
    assert total > 20


def test_real_voc_objects_have_the_boxes_and_names_of_the_annotations(real_data, tmp_path):
    root = real_data / "voc/VOCdevkit/VOC2012"
    convert_voc.main(["--voc", str(root), "--instances", "--train-set", "train", "--output", str(tmp_path / "out")])
    matched = 0
    for split in ("train", "val"):
        for sample in samples(tmp_path / "out", split):
            boxes, labels = by_loop_of_numpy(sample["instances"], sample["mask"])
            np.testing.assert_array_equal(sample["objects"], boxes)
            np.testing.assert_array_equal(sample["object_labels"], labels)
            path = root / "Annotations" / f"{sample['key'].decode()}.xml"
            for drawn in xml.etree.ElementTree.parse(path).iterfind("object") if path.is_file() else ():
                left, top, right, bottom = (
                    int(float(drawn.find(f"bndbox/{side}").text)) for side in ("xmin", "ymin", "xmax", "ymax")
                )
                height, width = sample["mask"].shape
                box = np.float32([[(top - 1) / height, (left - 1) / width, bottom / height, right / width]])
                overlap = augment.iou(box, sample["objects"]).numpy()[0]
                if overlap.max() > 0.7:
                    matched += 1
                    assert VOC_CLASS_NAMES[labels[overlap.argmax()]] == drawn.find("name").text
    assert matched > 10


def by_loop_of_numpy(instances, mask):
    boxes, labels = [], []
    for number in np.unique(instances[instances > 0]):
        rows, columns = np.nonzero(instances == number)
        seen = mask[rows, columns]
        height, width = mask.shape
        boxes.append(
            [rows.min() / height, columns.min() / width, (rows.max() + 1) / height, (columns.max() + 1) / width]
        )
        labels.append(np.bincount(seen[seen != 255]).argmax())
    return np.float32(boxes).reshape(-1, 4), labels
