"""From file to file: the mask is the one of the whole image, and nothing half-written has its name."""

import cv2
import numpy as np
import predict
import pytest
import tifffile
from PIL import Image
from tensorflow import keras

from kerasseg.inference import Segmenter, memory_needed, predict_tiled, segment_file, segment_tiled
from kerasseg.inference._network import network
from kerasseg.models import unet
from kerasseg.spec import DataError, voc_palette


@pytest.fixture(scope="module", params=["valid", "same"])
def model(request):
    keras.utils.set_random_seed(1)
    return unet(3, input_shape=(None, None, 1), filters=2, depth=2, padding=request.param)


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(0).uniform(0, 255, (300, 421))
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def test_files_of_all_kinds_give_the_mask_of_the_whole(tmp_path, model, image):
    expected = predict_tiled(model, image[..., None], tile_size=100).argmax(-1)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(segment_tiled(model, image[..., None], tile_size=100), expected)
    np.save(tmp_path / "i.npy", image)
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(64, 64), compression="zlib")
    Image.fromarray(image).save(tmp_path / "i.png")
    sources = [
        tmp_path / "i.npy",
        tmp_path / "i.tif",
        str(tmp_path / "i.png"),
        np.load(tmp_path / "i.npy", mmap_mode="r"),
    ]
    for source in sources:
        seen = []
        how = segment_file(
            model, source, tmp_path / "m.npy", tile_size=100, on_progress=lambda *done, seen=seen: seen.append(done)
        )
        mask = np.load(tmp_path / "m.npy", mmap_mode="r")
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)
        assert seen[-1] == (how.num_tiles, how.num_tiles)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.npy", "i.png", "i.tif", "m.npy"]


def test_masks_as_tiffs_have_colours_that_other_readers_see(tmp_path, model, image):
    expected = segment_tiled(model, image[..., None])
    segment_file(model, image, tmp_path / "m.tif", palette=voc_palette())
    with Image.open(tmp_path / "m.tif") as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), expected)
        np.testing.assert_array_equal(np.asarray(file.convert("RGB")), voc_palette()[expected])
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].is_tiled
        assert not file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), expected)
    segment_file(model, image, tmp_path / "grey.tiff")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "grey.tiff"), cv2.IMREAD_UNCHANGED), expected)


def test_what_is_broken_off_leaves_no_file(tmp_path, model, image):
    values = image.astype(np.float32)
    values[-1, -1] = np.inf
    np.save(tmp_path / "i.npy", values)
    for name in ("m.npy", "m.tif"):
        (tmp_path / name).write_text("of an earlier run")
        with pytest.raises(DataError, match=r"i\.npy: the image holds values that are not finite"):
            segment_file(model, tmp_path / "i.npy", tmp_path / name, tile_size=100)
        assert (tmp_path / name).read_text() == "of an earlier run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.npy", "m.npy", "m.tif"]
    with pytest.raises(DataError, match=r"m\.png: masks are written by rows as \.npy, \.tif, \.tiff"):
        segment_file(model, image, tmp_path / "m.png")
    with pytest.raises(DataError, match=r"i\.npy: is the image itself"):
        segment_file(model, tmp_path / "i.npy", tmp_path / "i.npy")
    np.save(tmp_path / "i.npy", np.zeros((9, 9, 5)))
    with pytest.raises(DataError, match=r"i\.npy: the model takes images of 1 channels, got one of 5"):
        segment_file(model, tmp_path / "i.npy", tmp_path / "m.npy")


def test_batches_change_nothing_but_rounding(model, image):
    """The convolution of several images rounds otherwise than that of one."""
    single, batches = (predict_tiled(model, image[..., None], tile_size=100, batch_size=size) for size in (1, 5))
    np.testing.assert_allclose(batches, single, atol=1e-5)


def test_a_batch_holds_tiles_of_several_rows(monkeypatch, model, image):
    sizes = []
    forward = network(model).forward
    monkeypatch.setattr(network(model), "forward", lambda images: sizes.append(len(images)) or forward(images))
    tiling = memory_needed(model, image.shape, tile_size=200, batch_size=5)
    assert tiling.num_tiles % 5
    logits = predict_tiled(model, image[..., None], tile_size=200, batch_size=5)
    assert sizes == [5] * (tiling.num_tiles // 5) + [tiling.num_tiles % 5]
    assert len(tiling.columns) != 5
    np.testing.assert_allclose(logits, predict_tiled(model, image[..., None], tile_size=200, batch_size=1), atol=1e-5)


def test_segmenter_has_the_same_mask(tmp_path, model, image):
    segmenter = Segmenter(model, tile_size=100)
    segmenter.segment_file(image, tmp_path / "m.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), segmenter.segment(image))
    with pytest.raises(ValueError, match="segment_file sees an image once, as it is: no other views"):
        Segmenter(model, flip=True).segment_file(image, tmp_path / "m.npy")


def test_the_tool_writes_large_images_by_windows(tmp_path, model, image, monkeypatch, capsys):
    monkeypatch.setattr(predict, "LARGE_PIXELS", image.size - 1)
    model.save(tmp_path / "m.keras")
    tifffile.imwrite(tmp_path / "slide.tif", image)
    np.save(tmp_path / "array.npy", image)
    tifffile.imwrite(tmp_path / "small.tif", image[:99])
    files = [str(tmp_path / name) for name in ("slide.tif", "array.npy", "small.tif")]
    command = ["--model", str(tmp_path / "m.keras"), "--output", str(tmp_path / "out"), "--images", *files]
    predict.main(command)
    assert "slide: by windows, 1 tile of" in capsys.readouterr().out
    for name in ("slide.tif", "array.tif", "small.png"):
        with Image.open(tmp_path / "out" / "masks" / name) as mask:
            assert mask.mode == "P"
            expected = segment_tiled(model, (image if name != "small.png" else image[:99])[..., None])
            np.testing.assert_array_equal(np.asarray(mask), expected)
    assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["small.png"]
    with pytest.raises(DataError, match="2 of 3 images could not be segmented"):
        predict.main([*command, "--flip"])
    assert "slide.tif: 421x300 pixels are segmented by windows" in capsys.readouterr().err
