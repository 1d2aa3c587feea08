"""Reading by windows: every window of every kind of file holds the pixels that other readers find."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kerasseg.inference import open_windows, read_image
from kerasseg.inference._tiff import TiffWindows
from kerasseg.inference._windows import Prepared, release
from kerasseg.spec import DataError

WINDOWS = [(0, 7, 0, 5), (3, 61, 10, 90), (60, 100, 64, 131), (0, 100, 0, 131), (99, 100, 130, 131), (70, 70, 0, 9)]


@pytest.fixture(scope="module")
def pixels():
    noise = np.random.default_rng(0).uniform(0, 65535, (100, 131, 3))
    return cv2.GaussianBlur(noise, (0, 0), 3).astype(np.uint16)


def check(path, expected, kind):
    """Windows from top to bottom and back again, against the whole."""
    image = open_windows(path)
    assert isinstance(image, kind), type(image)
    assert image.shape == expected.shape
    for top, bottom, left, right in WINDOWS + WINDOWS[::-1]:
        window = image[top:bottom, left:right]
        assert window.dtype == expected.dtype
        np.testing.assert_array_equal(window, expected[top:bottom, left:right])
    release(image)
    np.testing.assert_array_equal(image[2:9, 5:7], expected[2:9, 5:7])
    np.testing.assert_array_equal(read_image(path) if path.suffix == ".tif" else expected, expected)


def test_windows_of_arrays(tmp_path, pixels):
    path = tmp_path / "a.npy"
    np.save(path, pixels)
    check(path, pixels, np.memmap)
    np.save(path, pixels[..., 0])
    check(path, pixels[..., :1], np.memmap)


def test_windows_of_tiffs(tmp_path, pixels):
    path = tmp_path / "a.tif"
    grey, small = pixels[..., :1], (pixels >> 8).astype(np.uint8)
    tile = {"tile": (32, 48)}
    kinds = [
        (pixels, {}, np.memmap),
        (pixels, {"byteorder": ">"}, np.memmap),
        (grey[..., 0], {"bigtiff": True}, np.memmap),
        (np.moveaxis(pixels, 2, 0), {"planarconfig": "separate"}, np.memmap),
        (pixels, {**tile, "compression": "zlib"}, TiffWindows),
        (pixels, {**tile, "byteorder": ">", "bigtiff": True}, TiffWindows),
        (np.moveaxis(pixels, 2, 0), {**tile, "planarconfig": "separate", "compression": "zlib"}, TiffWindows),
        (small, {"rowsperstrip": 7, "compression": "zlib"}, TiffWindows),
        (grey[..., 0].astype(np.float32), {"rowsperstrip": 100, "compression": "zlib"}, TiffWindows),
        (small[..., 0] > 127, {}, TiffWindows),
    ]
    for array, how, kind in kinds:
        photometric = "rgb" if 3 in (array.shape[0], array.shape[-1]) else "minisblack"
        writing = {name: how.pop(name) for name in ("byteorder", "bigtiff") if name in how}
        tifffile.imwrite(path, array, photometric=photometric, **writing, **how)
        expected = np.moveaxis(array, 0, 2) if "planarconfig" in how else array.reshape(100, 131, -1)
        check(path, expected.astype(expected.dtype.newbyteorder(writing.get("byteorder", "="))), kind) if (
            kind is np.memmap
        ) else check(path, expected, kind)


def test_windows_of_pyramids_are_of_the_full_resolution(tmp_path, pixels):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb", tile=(64, 64), subifds=1, compression="zlib")
        file.write(pixels[::2, ::2], photometric="rgb", tile=(64, 64), compression="zlib", subfiletype=1)
    check(path, pixels, TiffWindows)


def test_windows_of_packings_that_other_libraries_know(tmp_path, pixels):
    """LZW and JPEG, with and without tables apart, which Pillow and OpenCV write and read whole by libtiff."""
    path, small = tmp_path / "a.tif", (pixels >> 8).astype(np.uint8)
    for array, options in (
        (small, {"compression": "tiff_lzw"}),
        (small[..., 0], {"compression": "tiff_lzw"}),
        (small, {"compression": "jpeg", "quality": 90}),
        (small[..., 0], {"compression": "jpeg"}),
        (small, {"compression": "packbits"}),
        (pixels[..., 0], {"compression": "tiff_lzw"}),
    ):
        Image.fromarray(array).save(path, tiffinfo={278: 16}, **options)
        with Image.open(path) as image:
            check(path, np.asarray(image).reshape(100, 131, -1), TiffWindows)
        assert open_windows(path)._grid[0] > 1
    for order in ("predicted", "plain"):
        cv2.imwrite(str(path), pixels[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5,
                    cv2.IMWRITE_TIFF_PREDICTOR, 2 if order == "predicted" else 1])  # fmt: skip
        check(path, pixels, TiffWindows)


def test_colours_of_tiffs_are_those_that_others_see(tmp_path, pixels):
    path, small = tmp_path / "a.tif", Image.fromarray((pixels >> 8).astype(np.uint8))
    for mode, how in (("CMYK", {}), ("CMYK", {"compression": "tiff_lzw"}), ("1", {"compression": "group4"}), ("1", {})):
        small.convert(mode).save(path, **how)
        with Image.open(path) as image:
            seen = np.asarray(image.convert("RGB") if mode == "CMYK" else image).reshape(100, 131, -1)
        window = open_windows(path)[20:50, 30:90]
        assert window.dtype == seen.dtype
        np.testing.assert_allclose(window.astype(int), seen[20:50, 30:90].astype(int), atol=1)
        np.testing.assert_array_equal(read_image(path)[20:50, 30:90], window)
    grey = np.asarray(small.convert("L"))
    for compression in (None, "zlib"):
        tifffile.imwrite(path, grey, photometric="miniswhite", compression=compression)
        with Image.open(path) as image:
            np.testing.assert_array_equal(open_windows(path)[:, :][..., 0], np.asarray(image))
    small.convert("LAB").save(path)
    with pytest.raises(DataError, match=r"a\.tif: expected grey values or RGB, got CIELAB; convert it"):
        open_windows(path)


def test_files_that_have_no_windows_are_read_whole_or_refused(tmp_path, pixels):
    small = (pixels >> 8).astype(np.uint8)
    Image.fromarray(small).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_windows(tmp_path / "a.png"), small)
    tifffile.imwrite(tmp_path / "a.tif", small, compression="zlib", tile=(32, 32))
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[:-2000])
    (tmp_path / "head.tif").write_bytes(data[:4])
    damaged = bytearray(data)
    damaged[-1500:-1400] = bytes(100)
    (tmp_path / "damaged.tif").write_bytes(damaged)
    np.save(tmp_path / "cut.npy", small)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-9])
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    np.save(tmp_path / "none.npy", np.zeros((0, 4)))
    for name in ("cut.tif", "head.tif", "cut.npy", "text.npy", "none.npy", "no.tif"):
        with pytest.raises(DataError, match=f"{name}: (cannot be read|expected one image|there is no)") as error:
            open_windows(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"damaged\.tif: cannot be read as an image \(block"):
        open_windows(tmp_path / "damaged.tif")[:, :]


def test_prepared_windows_name_their_file(pixels):
    values = pixels.astype(np.float32)
    values[50, 60] = np.nan
    image = Prepared(values, 3, None, "slide.tif")
    np.testing.assert_array_equal(image[:50, :60], values[:50, :60])
    with pytest.raises(DataError, match=r"slide\.tif: the image holds values that are not finite"):
        image[40:60, 40:80]
    with pytest.raises(DataError, match=r"slide\.tif: the model takes images of 5 channels, got one of 3"):
        Prepared(values, 5, None, "slide.tif")
    assert Prepared(pixels, 3)[0:1, 0:1].max() <= 255


def test_released_pages_keep_what_was_written(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((64, 1024), np.uint8))
    for mode in ("r+", "c"):
        image = np.load(tmp_path / "a.npy", mmap_mode=mode)
        image[3, 5] = 7
        release(image)
        assert image[3, 5] == 7
