"""The check of a data set: all faults in one report, suspicions by name, the table, the sheet."""

import json
import re

import _data_faults
import check_data
import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasseg import records
from kerasseg.spec import VOC_CLASS_NAMES, DataError, DatasetSpec, voc_palette

NAMES = ("background", "cat", "dog")


def write(directory, masks, *, class_names=NAMES, val=(), **values):
    rng = np.random.default_rng(0)

    def example(key, mask):
        grey = mask.astype(int) * 67 % 200 + rng.integers(0, 50, mask.shape)
        return records.Example(key, np.repeat(grey[..., None], 3, 2).astype(np.uint8), mask)

    splits = {"train": [example(f"image{i}", mask) for i, mask in enumerate(masks)]}
    if val:
        splits["val"] = [example(f"val{i}", mask) for i, mask in enumerate(val)]
    spec = DatasetSpec("tiny", tuple(class_names), **values)
    return records.write(directory, spec, splits, progress=False, num_shards=2)


def drawn(count=6, labels=(0, 1, 2), seed=0):
    """Masks of smooth regions, as drawn by people."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        planes = [cv2.GaussianBlur(rng.random((40, 50)), (0, 0), 5) for _ in labels]
        made.append(np.array(labels, np.uint8)[np.argmax(planes, axis=0)])
    return made


def check(directory, *arguments):
    check_data.main([str(directory), *map(str, arguments)])


def test_a_good_data_set(tmp_path, capsys):
    masks, val = drawn(), drawn(3, seed=1)
    masks[0][:3] = 255
    write(tmp_path / "tiny", masks, val=val)
    check(tmp_path / "tiny")
    said = capsys.readouterr().out
    assert "no faults in 9 records" in said
    assert "suspicion" not in said
    counts = np.bincount(np.concatenate([m.ravel() for m in masks]), minlength=256)
    assert f"0 background {counts[0]:>13}" in said
    assert f"255 ignored    {counts[255]:>13}" in said
    assert f"predicting 'background' everywhere: {counts[0] / counts[:3].sum() / 3:.4f}" in said
    sheet = np.asarray(Image.open(tmp_path / "tiny" / "contact_sheet.png"))
    assert sheet.ndim == 3
    assert sheet.shape[0] > 9 * 40


def test_the_sheet_goes_where_it_is_told(tmp_path):
    write(tmp_path / "tiny", drawn(2))
    check(tmp_path / "tiny", "--sheet", tmp_path / "a.png", "--pictures", "1")
    assert (tmp_path / "a.png").is_file()
    check(tmp_path / "tiny", "--pictures", "0")
    assert not (tmp_path / "tiny" / "contact_sheet.png").exists()


def damage(path, number, offset=60):
    data = bytearray(path.read_bytes())
    start = 0
    for _ in range(number):
        start += 16 + int.from_bytes(data[start : start + 8], "little")
    data[start + offset] ^= 1
    path.write_bytes(data)


def test_all_faults_are_in_one_report(tmp_path, capsys):
    write(tmp_path / "tiny", drawn(8), val=drawn(2, seed=1))
    shards = records.shard_paths(tmp_path / "tiny", "train")
    damage(shards[0], 1)
    damage(shards[0], 3)
    records.shard_paths(tmp_path / "tiny", "val")[1].unlink()
    content = json.loads((tmp_path / "tiny" / "dataset.json").read_text())
    content["class_names"], content["palette"] = NAMES[:2], content["palette"][:2]
    for split in content["splits"].values():
        split["class_pixels"], split["class_image_pixels"] = split["class_pixels"][:2], split["class_image_pixels"][:2]
    (tmp_path / "tiny" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"tiny: 11 faults \(listed above\)"):
        check(tmp_path / "tiny")
    said = capsys.readouterr().out
    assert f"fault: {shards[0]}, record 1: the file is damaged" in said
    assert f"fault: {shards[0]}, record 3: the file is damaged" in said
    assert f"fault: {shards[1]}, record 0: image4: labels [2]; expected 0 to 1 or 255" in said
    assert "tiny-val.tfrecord-00001-of-00002 is missing" in said
    assert "fault: val: 1 records, but dataset.json says 2" in said
    assert "suspicion: train: labels shifted by one, or a class too few: 2 occurs" in said


def test_wrong_counts_and_shared_images_are_faults(tmp_path, capsys):
    spec = write(tmp_path / "tiny", drawn(4), val=drawn(1))
    assert spec.splits["val"].num_examples == 1
    content = json.loads((tmp_path / "tiny" / "dataset.json").read_text())
    content["splits"]["val"] = {**content["splits"]["train"], "ignored_pixels": 7}
    (tmp_path / "tiny" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="2 faults"):
        check(tmp_path / "tiny")
    said = capsys.readouterr().out
    assert "val: the masks' label counts differ from those in dataset.json" in said
    assert "4 images are in both train and val, first image0" in said


def test_boxes_that_are_not_those_of_the_instances_are_a_fault(tmp_path, capsys):
    instances = np.kron(np.arange(4).reshape(2, 2), np.ones((6, 8))).astype(np.uint16)
    image, mask = np.zeros((12, 16, 3), np.uint8), (instances > 0).astype(np.uint8)
    made = [
        records.Example(f"image{i}", image, mask, instances, proposals=np.zeros((0, 4), np.float32)) for i in (0, 1)
    ]
    records.write(tmp_path / "tiny", DatasetSpec("tiny", NAMES), {"train": made}, progress=False, num_shards=1)
    check(tmp_path / "tiny")
    assert "with instances and objects and proposals" in capsys.readouterr().out
    (path,) = records.shard_paths(tmp_path / "tiny", "train")
    stored = [tf.train.Example.FromString(record) for record in records.serialized_records(path)]
    stored[0].features.feature["image/object/class/label"].int64_list.value[1] = 2
    stored[1].features.feature["image/object/bbox/xmin"].float_list.value.pop()
    stored[1].features.feature.pop("image/proposal/bbox/ymin")
    for side in ("xmin", "ymax", "xmax"):
        stored[1].features.feature.pop(f"image/proposal/bbox/{side}")
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in stored:
            writer.write(example.SerializeToString())
    with pytest.raises(DataError, match="3 faults"):
        check(tmp_path / "tiny")
    said = capsys.readouterr().out
    assert "record 0: image0: the boxes or classes of its 3 objects are not those of its instances" in said
    assert "record 1: image1: the boxes of its objects have not the same number of sides each" in said
    assert "record 1: image1: proposals missing, against dataset.json" in said


def test_no_data_set(tmp_path):
    with pytest.raises(DataError, match="dataset.json is missing"):
        check(tmp_path)


def suspicions(tmp_path, capsys, masks, **values):
    write(tmp_path / "tiny", masks, **values)
    check(tmp_path / "tiny", "--pictures", "0")
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("suspicion")]


def test_masks_of_0_and_255(tmp_path, capsys):
    (text,) = suspicions(tmp_path, capsys, drawn(labels=(0, 255)), class_names=("background", "cell"))
    assert "0/255 masks: only [0, 255] occur, and 255 is ignored; if 255 means 'cell'" in text
    assert "--map 255=1" in text


def test_labels_shifted_by_one(tmp_path, capsys):
    (text,) = suspicions(tmp_path, capsys, drawn(labels=(1, 2)))
    assert "labels shifted by one: class 0 ('background') never occurs, the labels are 1 to 2" in text


def test_a_missing_void(tmp_path, capsys):
    (text,) = suspicions(tmp_path, capsys, drawn(labels=(0, 5, 9)), class_names=VOC_CLASS_NAMES)
    assert "void missing" in text


def test_masks_blurred_by_resizing(tmp_path, capsys):
    masks = [cv2.resize(mask, None, fx=1.5, fy=1.5) for mask in drawn(labels=(0, 4, 9))]
    (text,) = suspicions(tmp_path, capsys, masks, class_names=[f"class {i}" for i in range(10)])
    assert "masks blurred by resizing" in text


def test_a_palette_decoded_as_colour():
    ids = np.array([[0, 1, 2, 15, 20]], np.uint8)
    greys = np.asarray(Image.fromarray(voc_palette()[ids]).convert("L"))
    counts = _data_faults.Counts()
    counts.add("a", greys, greys[..., None])
    texts = _data_faults.suspicions(DatasetSpec("voc", VOC_CLASS_NAMES), "train", counts)
    assert any("palette decoded as colour: the labels [38, 52, 75, 147] are the grey levels" in text for text in texts)


def test_images_with_nothing_known(tmp_path, capsys):
    (text,) = suspicions(tmp_path, capsys, [*drawn(2), np.full((9, 9), 255, np.uint8)])
    assert "1 images have only ignored pixels, first image2" in text


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([50, 25, 25], {0: 0.5 / 3}),
        ([50, 50, 0], {0: 0.5 / 2}),
        ([20, 80, 0], {0: 0.2 / 2, 1: 0.8 / 2}),
        ([0, 80, 20], {0: 0.0, 1: 0.8 / 2}),
        ([0, 0, 0], {}),
    ],
)
def test_the_score_of_one_class_everywhere(pixels, expected):
    found = _data_faults.background_scores(np.array([*pixels, *[0] * 253]), 3)
    assert found == pytest.approx(expected)


def test_in_a_process_of_its_own(tmp_path, run_tool):
    write(tmp_path / "tiny", drawn(4))
    damage(records.shard_paths(tmp_path / "tiny", "train")[0], 0)
    result = run_tool("check_data.py", tmp_path / "tiny", check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


# Real masks, as they are and with the mistakes that people make


def grown(mask, factor):
    return cv2.resize(mask, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def greys_of(palette):
    return np.rint(np.asarray(palette)[:, :3] @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


MISTAKES = {
    "0/255 masks": lambda mask, names: np.where((mask > 0) & (mask != 255), 255, 0),
    "palette decoded as colour": lambda mask, names: greys_of(voc_palette())[mask],
    "labels shifted by one": lambda mask, names: mask + 1,
    "labels shifted by one: 254 occurs": lambda mask, names: mask - 1,
    "labels shifted by one, or a class too few": lambda mask, names: np.where(mask == 255, 255, mask + 1),
    "labels shifted by one: class 0": lambda mask, names: np.where(mask >= len(names) - 1, 255, mask + 1),
    "masks blurred by resizing": lambda mask, names: grown(mask, 1.5),
    "masks that do not follow the edges": lambda mask, names: mask[:, ::-1],
    "one class only": lambda mask, names: mask * 0,
}
OF_VOC = {
    "void missing": lambda mask, names: np.where(mask == 255, 0, mask),
    r"labels shifted by one: \d+ % of the pixels are ignored": lambda mask, names: np.where(
        (mask == 0) | (mask == 255), 255, mask - 1
    ),
}


@pytest.fixture(scope="module")
def pairs(real_data):
    """Images, masks and class names of two real data sets."""
    voc, camvid = real_data / "voc/VOCdevkit/VOC2012", real_data / "camvid/CamVid"
    names = [
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ]

    def read(path):
        return np.asarray(Image.open(path))

    masks = sorted((voc / "SegmentationClass").glob("*.png"))
    roads = sorted((camvid / "trainannot").glob("*.png"))[::12]
    return {
        "voc": ([(read(voc / f"JPEGImages/{p.stem}.jpg"), read(p)) for p in masks], VOC_CLASS_NAMES),
        "camvid": ([(read(camvid / "train" / p.name), np.where(read(p) == 11, 255, read(p))) for p in roads], names),
    }


def suspicions_of(pairs, names, damage=None):
    counts = _data_faults.Counts()
    for i, (image, mask) in enumerate(pairs):
        damaged = mask if damage is None else damage(mask.astype(np.uint8), names).astype(np.uint8)
        if damaged.shape != mask.shape:
            image = cv2.resize(image, damaged.shape[::-1])
        counts.add(str(i), damaged, image)
    return _data_faults.suspicions(DatasetSpec("real", tuple(names)), "train", counts)


def test_nothing_is_suspected_of_real_masks(pairs):
    assert {name: suspicions_of(*pair) for name, pair in pairs.items()} == {"voc": [], "camvid": []}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named_on_real_masks(pairs, mistake):
    for images_and_masks, names in pairs.values():
        found = suspicions_of(images_and_masks, names, MISTAKES[mistake])
        assert any(re.match(f"train: {mistake}", text) for text in found), found


@pytest.mark.parametrize("mistake", OF_VOC)
def test_each_mistake_that_only_voc_can_show_is_named(pairs, mistake):
    found = suspicions_of(*pairs["voc"], OF_VOC[mistake])
    assert any(re.match(f"train: {mistake}", text) for text in found), found


def test_masks_of_other_images_and_shifted_ones_are_noticed(pairs):
    for images_and_masks, names in pairs.values():
        wide = [(image, mask) for image, mask in images_and_masks if image.shape[1] > image.shape[0]]
        turned = [
            (image, cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST))
            for (image, _), (_, mask) in zip(wide, wide[3:] + wide[:3], strict=True)
        ]
        shifted = [(image, np.roll(mask, 12, 0)) for image, mask in wide]
        for wrong in (turned, shifted):
            assert any("masks that do not follow the edges" in text for text in suspicions_of(wrong, names))


def test_instances_that_disagree_and_constant_masks():
    image, counts = np.zeros((9, 9, 1), np.uint8), _data_faults.Counts()
    mask = np.zeros((9, 9), np.uint8)
    mask[2:5, 2:5] = 1
    for i in range(3):
        counts.add(f"good{i}", mask, image, mask.astype(np.uint16) * 7)
    for i in range(4):
        counts.add(f"plain{i}", mask * 0, image, np.zeros((9, 9), np.uint16))
    counts.add("lost", mask, image, np.zeros((9, 9), np.uint16))
    counts.add("elsewhere", mask, image, np.roll(mask, 4, 0).astype(np.uint16))
    found = _data_faults.suspicions(DatasetSpec("a", ("background", "cell")), "train", counts)
    assert len(found) == 1
    assert "instances disagree with the mask in 2 images, first lost: most of the objects' pixels" in found[0]
    counts.add("plain4", mask * 0, image)
    counts.add("plain5", mask * 0 + 1, image)
    found = _data_faults.suspicions(DatasetSpec("a", ("background", "cell", "rim")), "train", counts)
    assert "constant masks: 6 hold one class only, first plain0" in found[0]


def test_the_same_picture_in_train_and_val_and_the_report(tmp_path, capsys):
    masks, rng = drawn(3), np.random.default_rng(0)
    noise = rng.integers(0, 40, (3, *masks[0].shape))
    images = [np.repeat((m * 60 + n)[..., None], 3, 2).astype(np.uint8) for m, n in zip(masks, noise, strict=True)]
    examples = [records.Example(f"a{i}", images[i], masks[i]) for i in range(3)]
    splits = {"train": examples, "val": [records.Example("b", images[1], masks[1])]}
    records.write(tmp_path / "tiny", DatasetSpec("tiny", NAMES), splits, progress=False, num_shards=1)
    check(tmp_path / "tiny", "--report", tmp_path / "report.json", "--pictures", 0)
    assert "suspicion: 1 pictures are in both train and val under two names, first a1 and b" in capsys.readouterr().out
    shard = records.shard_paths(tmp_path / "tiny", "train")[0]
    damage(shard, 2)
    with pytest.raises(DataError, match="1 faults"):
        check(tmp_path / "tiny", "--report", tmp_path / "report.json", "--pictures", 0)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(fault["file"], fault["record"]) for fault in report["faults"]] == [(str(shard), 2)]
    assert report["splits"]["val"]["num_images"] == 1
    assert report["splits"]["val"]["class_pixels"] == np.bincount(masks[1].ravel(), minlength=3).tolist()
    assert len(report["suspicions"]) == 1


def test_the_sheet_shows_instances_and_weights_where_there_are(tmp_path):
    mask = drawn(1)[0]
    example = records.Example("a", mask[..., None] * 9, mask, mask.astype(np.uint16), mask.astype(np.float32))
    records.write(tmp_path / "tiny", DatasetSpec("tiny", NAMES, channels=1), {"train": [example]}, progress=False)
    check(tmp_path / "tiny")
    wide = np.asarray(Image.open(tmp_path / "tiny" / "contact_sheet.png"))
    write(tmp_path / "plain", [mask])
    check(tmp_path / "plain")
    narrow = np.asarray(Image.open(tmp_path / "plain" / "contact_sheet.png"))
    # Five columns of pictures instead of three; the legend may be wider than three.
    columns = [(sheet[40:200] != 255).any(axis=(0, 2)).sum() // 250 for sheet in (wide, narrow)]
    assert columns == [5, 3]
