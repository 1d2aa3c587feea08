"""Any folders of images and masks: matching, ids, palettes and colours, CamVid for one, and bad input."""

from pathlib import Path

import convert_pairs
import numpy as np
import pytest
from PIL import Image

from kerasseg import records
from kerasseg.spec import DataError, DatasetSpec, voc_palette

COLOURS = [(0, 0, 0), (10, 20, 30), (200, 0, 5)]


def save(path: Path, array: np.ndarray, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array, "P") if palette is not None else Image.fromarray(array)
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    image.save(path)


@pytest.fixture
def folders(tmp_path):
    """Six images in `images`, ids 0, 1, 2 and 9 in `masks`, the list of three classes."""
    rng = np.random.default_rng(0)
    for i in range(6):
        size = (12 + i, 15)
        save(tmp_path / f"images/{i}.{'jpg' if i % 2 else 'png'}", rng.integers(0, 256, (*size, 3)).astype(np.uint8))
        save(tmp_path / f"masks/{i}.png", rng.choice([0, 1, 2, 9], size).astype(np.uint8))
    (tmp_path / "classes.txt").write_text("# mine\nsky\n\nroad\nbig car\n")
    return tmp_path


def convert(root, *arguments, images="images", masks="masks", output="out"):
    convert_pairs.main(
        ["--images", str(root / images), "--masks", str(root / masks), "--output", str(root / output)]
        + (["--classes", str(root / "classes.txt")] if "--classes" not in arguments else [])
        + [str(value) for value in arguments]
    )
    spec = DatasetSpec.load(root / output)
    return spec, {split: {e.key: e for e in records.read(root / output, split)} for split in spec.splits}


def pixels(path):
    return np.asarray(Image.open(path))


def test_ids_with_an_ignored_label(folders):
    spec, data = convert(folders, "--ignore", "9")
    assert spec.class_names == ("sky", "road", "big car")
    assert list(data) == ["train"]
    assert list(data["train"]) == [str(i) for i in range(6)]
    for key, example in data["train"].items():
        path = next((folders / "images").glob(f"{key}.*"))
        np.testing.assert_array_equal(example.image, pixels(path))
        assert example.image_bytes == path.read_bytes()
        ids = pixels(folders / f"masks/{key}.png")
        np.testing.assert_array_equal(example.mask, np.where(ids == 9, 255, ids))


def test_labels_are_mapped_all_at_once(folders):
    _, data = convert(folders, "--map", "0=1,1=0,9=2")
    for key, example in data["train"].items():
        np.testing.assert_array_equal(
            example.mask, np.array([1, 0, 2, 0, 0, 0, 0, 0, 0, 2])[pixels(folders / f"masks/{key}.png")]
        )


def test_a_share_for_validation_lists_and_folders(folders):
    _, data = convert(folders, "--ignore", "9", "--val-share", "0.34", output="a")
    assert (len(data["train"]), len(data["val"])) == (4, 2)
    assert not set(data["train"]) & set(data["val"])
    (folders / "train.txt").write_text("/data/train/4.png /data/trainannot/4.png\n/data/train/1.png /x/1.png\n")
    (folders / "val.txt").write_text("0\n")
    _, data = convert(
        folders, "--ignore", "9", "--train-list", folders / "train.txt", "--val-list", folders / "val.txt", output="b"
    )
    assert (list(data["train"]), list(data["val"])) == (["4", "1"], ["0"])
    more = ["--val-images", folders / "images", "--val-masks", folders / "masks"]
    _, data = convert(folders, "--ignore", "9", *more, output="c")
    assert (len(data["train"]), len(data["val"])) == (6, 6)
    with pytest.raises(DataError, match="choose one of --val-images"):
        convert(folders, "--val-share", "0.5", *more, output="d")
    with pytest.raises(DataError, match="--val-images and --val-masks belong together"):
        convert(folders, *more[:2], output="d")
    (folders / "val.txt").write_text("0\n77\n")
    with pytest.raises(DataError, match=r"val.txt names '77', which is not in .*images \(1 such in all\)"):
        convert(folders, "--val-list", folders / "val.txt", output="d")


def test_suffixes_one_folder_and_folders_below(folders):
    rng = np.random.default_rng(0)
    for key in ("a/1", "a/2", "b/1"):
        image, ids = rng.integers(0, 256, (9, 8)).astype(np.uint8), rng.integers(0, 3, (9, 8)).astype(np.uint8)
        save(folders / f"city/{key}_left.png", image)
        save(folders / f"city/{key}_ids.png", ids)
    spec, data = convert(folders, "--image-suffix", "_left", "--mask-suffix", "_ids", images="city", masks="city")
    assert spec.channels == 1
    assert list(data["train"]) == ["a/1", "a/2", "b/1"]
    for key, example in data["train"].items():
        np.testing.assert_array_equal(example.image[..., 0], pixels(folders / f"city/{key}_left.png"))
        np.testing.assert_array_equal(example.mask, pixels(folders / f"city/{key}_ids.png"))


def test_grey_and_colour_images_become_colour(folders):
    save(folders / "images/0.png", np.full((12, 15), 77, np.uint8))
    spec, data = convert(folders, "--ignore", "9")
    assert spec.channels == 3
    assert set(np.unique(data["train"]["0"].image)) == {77}
    spec, data = convert(folders, "--ignore", "9", "--channels", "1", "--overwrite")
    assert data["train"]["1"].image.shape[2] == 1


@pytest.mark.parametrize("form", ["{} {}", "{},{}", "{}: {}"])
def test_masks_in_the_colours_of_the_list(folders, form):
    lines = [
        form.format(name, " ".join(map(str, c))) for name, c in zip(("sky", "road", "big car"), COLOURS, strict=True)
    ]
    (folders / "classes.txt").write_text("\n".join(lines))
    ids = {}
    for i in range(6):
        ids[i] = pixels(folders / f"masks/{i}.png") % 3
        save(folders / f"masks/{i}.png", np.array(COLOURS, np.uint8)[ids[i]])
    spec, data = convert(folders)
    assert spec.class_names == ("sky", "road", "big car")
    assert spec.palette == tuple(COLOURS)
    for key, example in data["train"].items():
        np.testing.assert_array_equal(example.mask, ids[int(key)])


def test_colours_before_the_names_as_in_camvids_list(folders):
    (folders / "classes.txt").write_text("0 0 0\tsky\n10 20 30\t\troad\n200 0 5 big car\n")
    spec, _ = convert(folders, "--ignore", "9")
    assert spec.class_names == ("sky", "road", "big car")
    assert spec.palette == tuple(COLOURS)


def test_masks_in_voc_colours(folders, real_data):
    odd = real_data / "odd"
    (folders / "rgb").mkdir()
    for i in (0, 4):
        (folders / f"rgb/image_{i}.jpg").write_bytes((odd / f"rgb_coded_labels/image_{i}.jpg").read_bytes())
        (folders / f"rgb/image_{i}_label.png").write_bytes((odd / f"rgb_coded_labels/image_{i}_label.png").read_bytes())
    more = ["--mask-suffix", "_label", "--classes", odd / "labelme_voc_instances/class_names.txt"]
    with pytest.raises(DataError, match=r"image_0_label.png is coded in colours: \(0, 0, 0\).*--voc-colours"):
        convert(folders, *more, images="rgb", masks="rgb")
    _, data = convert(folders, *more, "--voc-colours", images="rgb", masks="rgb")
    for key, name in (("image_0", "2007_000033"), ("image_4", "2007_000129")):
        mask = data["train"][key].mask
        np.testing.assert_array_equal(voc_palette()[mask], pixels(folders / f"rgb/{key}_label.png"))
        official = real_data / f"voc_labels_train1464/{name}.png"
        if official.is_file():
            np.testing.assert_array_equal(mask, pixels(official))


def test_black_and_white_masks_without_a_map_are_warned_of(folders, capsys):
    for i in range(6):
        ids = pixels(folders / f"masks/{i}.png")
        save(folders / f"masks/{i}.png", np.where(ids > 0, 255, 0).astype(np.uint8))
    convert(folders)
    assert "hold only 0 and 255" in capsys.readouterr().err
    spec, _ = convert(folders, "--map", "255=1", "--overwrite")
    assert spec.splits["train"].class_pixels[1] > 0


def test_bad_input(folders):
    def refused(message, *arguments, **places):
        with pytest.raises(DataError, match=message):
            convert(folders, *arguments, **places)
        assert not (folders / "out").exists()

    refused(r"0 \(.*masks/0.png\): the mask holds 9 \(\d+ pixels\); expected class ids 0 to 2 or 255.*--ignore 9")
    refused("nowhere is no folder; expected images", images="nowhere")
    refused("nowhere is no folder; expected masks", masks="nowhere")
    refused("is given for images and masks; tell them apart with --mask-suffix", masks="images")
    refused("x.txt is missing; expected a text file with one class name per line", "--classes", folders / "x.txt")
    for text, message in {
        "\n# only this\n": "names no class",
        "sky\nsky\n": "names the class 'sky' twice",
        "sky 1 2 3\nroad\n": "gives a colour for 1 of 2 classes",
        "sky 1 2 300\n": "has a colour above 255",
    }.items():
        (folders / "bad.txt").write_text(text)
        refused(message, "--classes", folders / "bad.txt")
    (folders / "masks/2.png").unlink()
    refused(r"images/2.png has no mask: expected .*masks/2.png \(1 of 6 images lack theirs\)", "--ignore", "9")
    save(folders / "masks/2.png", np.zeros((14, 15), np.uint8))
    (folders / "images/2.bmp").write_bytes(b"")
    refused("2.png and 2.bmp have the same stem|2.bmp and 2.png have the same stem", "--ignore", "9")
    (folders / "images/2.bmp").unlink()
    with pytest.raises(DataError, match="name has letters, digits"):
        convert(folders, output="bad name")


def test_the_odd_real_cases(real_data, folders):
    odd = real_data / "odd"
    arguments = ["--classes", odd / "labelme_voc_instances/class_names.txt"]
    other = odd / "rgba_label_other_size"
    with pytest.raises(DataError, match="42.png is an RGBA picture of 1209x680 pixels with 62614 colours"):
        convert(folders, *arguments, images=other / "JPEGImages", masks=other / "SegmentationClass")
    nifti = {"images": odd / "nifti_3d", "masks": odd / "nifti_3d"}
    with pytest.raises(DataError, match="nifti_3d holds no image"):
        convert(folders, "--mask-suffix", "_label", *arguments, **nifti)
    (folders / "onehot").mkdir()
    for name in ("image.tif", "label.png"):
        (folders / "onehot" / name.replace("label", "image_label")).write_bytes(
            (odd / "bbbc039_rgb_tif_onehot_label" / name).read_bytes()
        )
    with pytest.raises(DataError, match=r"image_label.png has 3 channels of 0 and 1 \(one channel for each class\)"):
        convert(folders, "--mask-suffix", "_label", *arguments, images="onehot", masks="onehot")
    assert not (folders / "out").exists()
    labelme = odd / "labelme_voc_instances"
    spec, data = convert(folders, *arguments, images=labelme / "JPEGImages", masks=labelme / "SegmentationClass")
    assert spec.class_names[-1] == "tv/monitor"
    for key, example in data["train"].items():
        np.testing.assert_array_equal(example.mask, pixels(labelme / f"SegmentationClass/{key}.png"))


def test_real_camvid(real_data, tmp_path):
    root = real_data / "camvid/CamVid"
    names = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist Unlabelled"
    (tmp_path / "classes.txt").write_text(names.replace(" ", "\n"))
    more = ["--val-images", root / "val", "--val-masks", root / "valannot", "--ignore", "11"]
    spec, data = convert(tmp_path, *more, images=root / "train", masks=root / "trainannot")
    assert spec.num_classes == 11  # the last one is ignored, so it is no class
    assert (len(data["train"]), len(data["val"])) == (120, 40)
    for split, examples in data.items():
        shown = np.zeros(256, np.int64)
        for key, example in examples.items():
            assert example.image_bytes == (root / split / f"{key}.png").read_bytes()
            ids = pixels(root / f"{split}annot" / f"{key}.png")
            np.testing.assert_array_equal(example.mask, np.where(ids == 11, 255, ids))
            shown += np.bincount(ids.ravel(), minlength=256)
        assert spec.splits[split].class_pixels == tuple(shown[:11])
        assert spec.splits[split].ignored_pixels == shown[11]
    listed = ["--train-list", root / "train.txt", "--ignore", "11", "--overwrite"]
    _, again = convert(tmp_path, *listed, images=root / "train", masks=root / "trainannot")
    assert list(again["train"]) == list(data["train"])
