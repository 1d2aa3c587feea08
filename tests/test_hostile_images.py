"""Images that nobody hopes for give a mask, or one line that names the file."""

import struct
import warnings
import zlib

import numpy as np
import predict
import pytest
import tifffile
from PIL import Image
from tensorflow import keras

from kerasseg.inference import Segmenter, monte_carlo, predict_tiled
from kerasseg.spec import DataError


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(image))


def claim(path, width, height, bits, colour_type):
    """Writes a PNG of a kilobyte whose header says what it likes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


def good_files(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for mode, names in (
        ("L", "g.png"),
        ("RGBA", "a.png"),
        ("CMYK", "c.jpg c.tif"),
        ("1", "b.png b.tif"),
        ("P", "p.png"),
    ):
        for name in names.split():
            Image.fromarray(pixels).convert(mode).save(folder / name)
    Image.fromarray(pixels[:1, :1]).save(folder / "one.jpg")
    tifffile.imwrite(folder / "deep.tif", pixels.astype(np.uint16) * 257, photometric="rgb")
    tifffile.imwrite(folder / "float.tif", pixels[..., 0].astype(np.float32))
    np.save(folder / "array.npy", pixels)


def bad_files(folder):
    """Returns {name: what the line has to say}."""
    for name in ("empty.png", "empty.tif"):
        (folder / name).touch()
    (folder / "text.jpg").write_text("hello")
    (folder / "short.tif").write_bytes(b"II*\0")
    claim(folder / "bomb.png", 65500, 65500, 8, 2)
    claim(folder / "deep_bomb.png", 65500, 65500, 16, 2)
    claim(folder / "cut.png", 13000, 13000, 8, 2)
    Image.new("RGB", (8, 8)).save(folder / "bomb.jpg")
    data = bytearray((folder / "bomb.jpg").read_bytes())
    frame = data.find(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 65500, 65500)
    (folder / "bomb.jpg").write_bytes(data)
    tifffile.imwrite(folder / "bomb.tif", np.zeros((9, 9), np.uint8), compression="zlib")
    data = bytearray((folder / "bomb.tif").read_bytes())
    with tifffile.TiffFile(folder / "bomb.tif") as file:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tag = file.pages[0].tags[tag]
            data[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", 65500)
    (folder / "bomb.tif").write_bytes(data)
    for name, value in (("nan", np.nan), ("inf", -np.inf)):
        tifffile.imwrite(folder / f"{name}.tif", np.full((9, 9), value, np.float32))
    np.save(folder / "four.npy", np.zeros((2, 3, 4, 5)))
    tifffile.imwrite(
        folder / "five.tif", np.zeros((9, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    unreadable = dict.fromkeys(
        ("empty.png", "empty.tif", "text.jpg", "short.tif", "cut.png"), "cannot be read as an image"
    )
    bombs = dict.fromkeys(("bomb.png", "deep_bomb.png", "bomb.jpg"), "exceeds limit of 178956970 pixels")
    infinite = dict.fromkeys(("nan.tif", "inf.tif"), "not finite")
    rest = {"bomb.tif": "claims 65500x65500 pixels", "four.npy": "expected one image", "five.tif": "3 channels"}
    return {**unreadable, **bombs, **infinite, **rest}


def test_good_files_have_masks(tmp_path, model):
    good_files(tmp_path)
    segmenter = Segmenter(model)
    expected = segmenter.segment(tmp_path / "array.npy")
    for path in sorted(tmp_path.iterdir()):
        mask = segmenter.segment(path)
        assert mask.shape == ((1, 1) if path.stem == "one" else (20, 30)), path
        segmenter.segment_file(path, tmp_path / "mask.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), mask)
        if path.stem in ("a", "deep"):
            np.testing.assert_array_equal(mask, expected)
        (tmp_path / "mask.npy").unlink()


def test_bad_files_are_named_in_one_line(tmp_path, model, capsys):
    (tmp_path / "in").mkdir()
    reasons = bad_files(tmp_path / "in")
    segmenter = Segmenter(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, reason in reasons.items():
            for call in (segmenter.segment, lambda path: segmenter.segment_file(path, tmp_path / "mask.npy")):
                with pytest.raises(DataError, match=rf"{name}: .*{reason}") as error:
                    call(tmp_path / "in" / name)
                assert "\n" not in str(error.value)
                assert str(error.value).count(name) == 1
    assert not list(tmp_path.glob("mask*"))
    model.save(tmp_path / "m.keras")
    Image.new("RGB", (8, 8)).save(tmp_path / "in" / "good.png")
    files = [str(tmp_path / "in" / name) for name in [*reasons, "good.png"]]
    with pytest.raises(DataError, match=f"{len(reasons)} of {len(reasons) + 1} images could not be segmented"):
        predict.main(["--model", str(tmp_path / "m.keras"), "--output", str(tmp_path / "out"), "--images", *files])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == len(reasons)
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["good.png"]


def test_one_logit_is_two_classes():
    """Class 1 where the logit is above 0, with the sigmoid as its probability."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(keras.layers.Dropout(1e-6)(image)))
    pixels = np.random.default_rng(0).uniform(-255, 255, (40, 50, 1)).astype(np.float32)
    logits = predict_tiled(model, pixels)
    assert logits.shape == (40, 50, 1)
    sigmoid = 1 / (1 + np.exp(-logits[..., 0].astype(np.float64)))
    segmenter = Segmenter(model)
    np.testing.assert_array_equal(segmenter.segment(pixels), logits[..., 0] > 0)
    np.testing.assert_allclose(segmenter.probabilities(pixels), np.stack([1 - sigmoid, sigmoid], -1), atol=1e-6)
    mean, _ = monte_carlo(model, pixels[None], samples=2)
    np.testing.assert_allclose(mean[0, ..., 1], sigmoid, atol=1e-3)
