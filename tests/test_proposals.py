"""Proposals from files: what is stored against the numbers written, in every form of file, and what is wrong in one."""

import xml.etree.ElementTree

import convert_sbd
import convert_voc
import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from PIL import Image

from kerasseg import augment, records
from kerasseg.spec import DataError, DatasetSpec

NAMES = ("2007_000001", "2007_000002", "2007_000003")
SIZES = ((20, 30), (31, 25), (24, 24))  # height, width


@pytest.fixture
def voc(tmp_path):
    root, rng = tmp_path / "VOC2012", np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, size in zip(NAMES, SIZES, strict=True):
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        mask = np.zeros(size, np.uint8)
        mask[4:12, 6:20] = 15
        for folder, array in (("SegmentationClass", mask), ("SegmentationObject", mask // 15)):
            Image.fromarray(array).save(root / folder / f"{name}.png")
    for split, names in (("train", NAMES[:2]), ("val", NAMES[2:])):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


@pytest.fixture
def drawn():
    """First and last pixel of some boxes of each image, counted from 0: top, left, bottom, right."""
    rng = np.random.default_rng(1)
    boxes = {}
    for name, (height, width) in zip(NAMES, SIZES, strict=True):
        rows, columns = (np.sort(rng.integers(0, side, (5, 2)), axis=1) for side in (height, width))
        rows[0], columns[0] = (0, height - 1), (0, width - 1)
        boxes[name] = np.stack([rows[:, 0], columns[:, 0], rows[:, 1], columns[:, 1]], axis=1)
    return boxes


def columns(boxes, order, base):
    """The same boxes as a file of that form has them."""
    top, left, bottom, right = boxes.T
    parts = {
        "xyxy": (left + base, top + base, right + base, bottom + base),
        "yxyx": (top + base, left + base, bottom + base, right + base),
        "xywh": (left + base, top + base, right - left + 1, bottom - top + 1),
    }
    return np.stack(parts[order], axis=1)


def write_text(folder, boxes, order, base):
    folder.mkdir()
    for name, rows in boxes.items():
        lines = [" ".join(map(str, row)) + f" {0.5:g}" for row in columns(rows, order, base)]
        (folder / f"{name}.txt").write_text("\n".join(["# made by hand", *lines, ""]))
    return folder


def write_csv(folder, boxes, order, base):
    folder.mkdir()
    names = {"xyxy": "xmin,ymin,xmax,ymax", "yxyx": "ymin,xmin,ymax,xmax", "xywh": "x,y,w,h"}
    for name, rows in boxes.items():
        lines = [", ".join(map(str, row)) for row in columns(rows, order, base)]
        (folder / f"{name}.csv").write_text("\n".join([names[order], *lines]))
    return folder


def write_mat(folder, boxes, order, base):
    folder.mkdir()
    for name, rows in boxes.items():
        scores = np.ones((len(rows), 1))
        scipy.io.savemat(
            folder / f"{name}.mat", {"boxes": np.concatenate([columns(rows, order, base), scores], axis=1)}
        )
    return folder


def write_table(path, boxes, order, base):
    path = path.with_suffix(".csv")
    lines = [f"JPEGImages/{name}.jpg,{','.join(map(str, row))}" for name, rows in boxes.items()
             for row in columns(rows, order, base)]  # fmt: skip
    path.write_text("\n".join(["name,a,b,c,d", *lines]))
    return path


def write_cells(path, boxes, order, base):
    path = path.with_suffix(".mat")
    cells = {"images": np.empty((len(boxes), 1), object), "boxes": np.empty((1, len(boxes)), object)}
    for i, (name, rows) in enumerate(boxes.items()):
        cells["images"][i, 0], cells["boxes"][0, i] = name, columns(rows, order, base).astype(np.uint16)
    scipy.io.savemat(path, cells)
    return path


def convert(voc, output, proposals, *arguments):
    convert_voc.main(
        ["--voc", str(voc), "--output", str(output), "--instances", "--proposals", str(proposals), *arguments]
    )
    return {e.key: e for split in ("train", "val") for e in records.read(output, split)}


@pytest.mark.parametrize("written", [write_text, write_csv, write_mat, write_table, write_cells])
@pytest.mark.parametrize(("order", "base"), [("xyxy", 1), ("yxyx", 1), ("xywh", 0), ("xyxy", 0)])
def test_every_form_of_file_gives_the_same_boxes(voc, drawn, tmp_path, written, order, base):
    file = written(tmp_path / "boxes", drawn, order, base)
    data = convert(voc, tmp_path / "out", file, "--proposals-order", order, "--proposals-base", str(base))
    assert DatasetSpec.load(tmp_path / "out").has_proposals
    for name, (height, width) in zip(NAMES, SIZES, strict=True):
        assert len(data[name].proposals) == 5
        for found, (top, left, bottom, right) in zip(data[name].proposals, drawn[name], strict=True):
            expected = [top / height, left / width, (bottom + 1) / height, (right + 1) / width]
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_array_equal(data[name].proposals[0], [0, 0, 1, 1])


def refused(message, voc, tmp_path, file, *arguments):
    with pytest.raises(DataError, match=message):
        convert(voc, tmp_path / "out", file, *arguments)
    assert not (tmp_path / "out").exists()


def test_images_without_proposals_are_named(voc, drawn, tmp_path, capsys):
    file = write_text(tmp_path / "boxes", drawn, "xyxy", 1)
    (file / f"{NAMES[1]}.txt").unlink()
    refused("boxes has no proposals for 1 of 3 images, first '2007_000002'; make them, or .*--allow-missing",
            voc, tmp_path, file)  # fmt: skip
    (file / f"{NAMES[0]}.txt").write_text("# none\n")
    data = convert(voc, tmp_path / "out", file, "--allow-missing")
    assert "1 of 3 images have no proposals: 2007_000002" in capsys.readouterr().err
    assert [len(data[name].proposals) for name in NAMES] == [0, 0, 5]
    (file / f"{NAMES[1]}.txt").write_text("1 1 2 2\n")
    (tmp_path / "out").rename(tmp_path / "before")
    refused(r"2007_000001.txt has no proposal for '2007_000001'", voc, tmp_path, file)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("10 10 5 12", r"000001.txt, image '2007_000001': box 1 \(xmin 10, ymin 10, xmax 5, ymax 12\) ends before it "
                       "begins, as do 0 more of 1; are the columns xyxy"),
        ("1 1 31 20", r"box 1 \(xmin 1, ymin 1, xmax 31, ymax 20\) leaves the image of 30x20 pixels"),
        ("0 1 30 20", "leaves the image .*the first pixel 1 .*--proposals-base"),
        ("1 2 3", "line 1: expected xmin, ymin, xmax, ymax and perhaps a score, found '1 2 3'"),
        ("1 2 x 4", "line 1: expected four numbers, found '1 2 x 4'"),
        ("1 2 nan 4", "box 1 is not a number"),
        ("ymin,xmin,ymax,xmax\n1,1,2,2", "its columns are ymin, xmin, ymax, xmax; --proposals-order xyxy means xmin"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_clear_error(voc, drawn, tmp_path, line, message):
    file = write_text(tmp_path / "boxes", drawn, "xyxy", 1)
    (file / f"{NAMES[0]}.txt").write_text(line + "\n")
    refused(message, voc, tmp_path, file)


def test_boxes_that_leave_the_image_are_cut_where_asked(voc, drawn, tmp_path):
    file = write_text(tmp_path / "boxes", drawn, "xyxy", 1)
    (file / f"{NAMES[0]}.txt").write_text("-5 3 40 22\n")
    data = convert(voc, tmp_path / "out", file, "--clip-proposals")
    np.testing.assert_allclose(data[NAMES[0]].proposals, [[2 / 20, 0, 1, 1]], rtol=1e-6)
    (file / f"{NAMES[0]}.txt").write_text("1 1 2 2\n35 3 40 22\n")
    (tmp_path / "out").rename(tmp_path / "before")
    refused(r"box 2 \(xmin 35, .*leaves the image", voc, tmp_path, file, "--clip-proposals")


def test_files_that_are_none(voc, drawn, tmp_path):
    refused("nowhere does not exist; expected a folder or a file of proposals", voc, tmp_path, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused("empty holds no .txt, .csv, .mat", voc, tmp_path, tmp_path / "empty")
    (tmp_path / "other.csv").write_text("a.jpg,1,2,3,4\n")
    refused("other.csv has no proposals for any of the 3 images; expected names as '2007_000001', found 'a'",
            voc, tmp_path, tmp_path / "other.csv")  # fmt: skip
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" * 20)
    refused("broken.mat is damaged or cut short .no header", voc, tmp_path, tmp_path / "broken.mat")
    scipy.io.savemat(tmp_path / "lonely.mat", {"boxes": np.ones((3, 4))})
    refused("lonely.mat: expected two cell arrays of one length", voc, tmp_path, tmp_path / "lonely.mat")
    file = write_text(tmp_path / "boxes", drawn, "xyxy", 1)
    scipy.io.savemat(file / f"{NAMES[0]}.mat", {"bbs": np.ones((3, 4))})
    refused("2007_000001.txt and 2007_000001.mat are of the same image", voc, tmp_path, file)
    (file / f"{NAMES[0]}.txt").unlink()
    refused("2007_000001.mat holds no array `boxes`, but bbs", voc, tmp_path, file)
    scipy.io.savemat(file / f"{NAMES[0]}.mat", {"boxes": np.ones((3, 3))})
    refused(r"`boxes` is float64 \(3, 3\); expected numbers \[N, 4\]", voc, tmp_path, file)


def official_boxes(root, name):
    """The boxes of VOC's annotation, as it has them: xmin, ymin, xmax, ymax, the first pixel 1."""
    path = root / "Annotations" / f"{name}.xml"
    if not path.is_file():
        return []
    boxes = xml.etree.ElementTree.parse(path).iterfind("object/bndbox")
    return [[int(float(box.find(side).text)) for side in ("xmin", "ymin", "xmax", "ymax")] for box in boxes]


def test_the_official_boxes_of_real_images_are_those_of_their_objects(real_data, tmp_path):
    """Boxes were drawn apart from outlines, whose void border belongs to no object; read alike, they nearly agree."""
    root, sbd = real_data / "voc/VOCdevkit/VOC2012", real_data / "sbd/benchmark_RELEASE/dataset"
    names = [path.stem for path in (root / "Annotations").glob("*.xml")]
    rows = [",".join(map(str, [name, *box])) for name in names for box in official_boxes(root, name)]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    convert_voc.main([
        "--voc", str(root), "--sbd", str(sbd), "--instances", "--allow-missing",
        "--proposals", str(tmp_path / "boxes.csv"), "--output", str(tmp_path / "out"),
    ])  # fmt: skip
    overlaps = []
    for split in ("train", "val"):
        for path in records.shard_paths(tmp_path / "out", split):
            for record in tf.data.TFRecordDataset(str(path)):
                sample = records.parse(record, channels=3, objects=True, proposals=True)
                boxes = official_boxes(root, sample["key"].numpy().decode())
                assert len(sample["proposals"]) == len(boxes)
                if boxes:
                    overlaps += augment.iou(sample["objects"], sample["proposals"]).numpy().max(axis=1).tolist()
    assert len(overlaps) > 30
    assert np.median(overlaps) > 0.9


def test_sbd_takes_proposals_as_well(real_data, tmp_path):
    root = real_data / "sbd/benchmark_RELEASE/dataset"
    names = [path.stem for path in (root / "img").iterdir()]
    (tmp_path / "boxes.csv").write_text("\n".join(f"{name} 0 0 100 100" for name in names))
    convert_sbd.main([
        "--sbd", str(root), "--output", str(tmp_path / "out"), "--splits", "train", "--allow-missing",
        "--proposals", str(tmp_path / "boxes.csv"), "--proposals-order", "xywh", "--proposals-base", "0",
    ])  # fmt: skip
    for example in records.read(tmp_path / "out", "train"):
        height, width = example.mask.shape
        np.testing.assert_allclose(example.proposals, [[0, 0, 100 / height, 100 / width]], rtol=1e-6)
