"""OpenCV decodes what records may hold to the same pixels as TensorFlow does."""

import io

import numpy as np
import pytest
from PIL import Image

from kerasseg import records
from kerasseg.spec import DataError

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 255, (4, 5, 3)).astype(np.uint8)).resize((64, 47), Image.Resampling.BICUBIC)
DEEP = Image.fromarray((np.arange(64 * 47).reshape(47, 64) * 20).astype(np.uint16))
TURNED = Image.Exif()
TURNED[0x112] = 6  # orientation: readers of masks do not know of it


def encoded(picture, form, **options):
    data = io.BytesIO()
    picture.save(data, form, **options)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "channels", "bits"),
    [
        (encoded(PICTURE, "JPEG"), 3, 8),
        (encoded(PICTURE, "JPEG"), 1, 8),
        (encoded(PICTURE, "JPEG", progressive=True, subsampling=2), 3, 8),
        (encoded(PICTURE, "JPEG", subsampling=0, exif=TURNED), 3, 8),
        (encoded(PICTURE.convert("L"), "JPEG"), 3, 8),
        (encoded(PICTURE.convert("L"), "JPEG"), 1, 8),
        (encoded(PICTURE, "PNG"), 3, 8),
        (encoded(PICTURE.convert("RGBA"), "PNG"), 3, 8),
        (encoded(PICTURE.convert("RGBA"), "PNG"), 4, 8),
        (encoded(PICTURE.convert("P"), "PNG"), 3, 8),
        (encoded(PICTURE.convert("P"), "PNG", transparency=3), 3, 8),
        (encoded(PICTURE.convert("LA"), "PNG"), 3, 8),
        (encoded(PICTURE.convert("LA"), "PNG"), 2, 8),
        (encoded(PICTURE.convert("L"), "PNG"), 3, 8),
        (encoded(PICTURE.convert("1"), "PNG"), 1, 8),
        (encoded(PICTURE.convert("1"), "PNG"), 3, 8),
        (encoded(DEEP, "PNG"), 1, 16),
        (encoded(DEEP, "PNG"), 3, 16),
        (encoded(DEEP, "PNG"), 1, 8),
    ],
)
def test_the_pixels_are_tensorflows(data, channels, bits):
    ours, expected = records.decode_image_cv(data, channels, bits), records.decode_image(data, channels, bits).numpy()
    assert ours.shape == expected.shape == (47, 64, channels)
    assert ours.dtype == expected.dtype
    np.testing.assert_array_equal(ours, expected)


def test_inks_are_within_a_level():
    data = encoded(PICTURE.convert("CMYK"), "JPEG")
    ours, expected = records.decode_image_cv(data, 3, 8), records.decode_image(data, 3, 8).numpy()
    assert np.abs(ours.astype(int) - expected).max() <= 1


def test_maps_keep_their_values():
    ids = np.arange(64 * 47, dtype=np.uint16).reshape(47, 64) * 21
    np.testing.assert_array_equal(records.decode_map_cv(encoded(Image.fromarray(ids), "PNG"), "instances"), ids)
    weight = records.decode_map_cv(encoded(Image.fromarray(ids), "PNG"), "weight")
    np.testing.assert_array_equal(weight, ids.astype(np.float32) / records.WEIGHT_SCALE)
    mask = records.decode_map_cv(encoded(Image.fromarray(ids.astype(np.uint8)), "PNG"), "mask")
    np.testing.assert_array_equal(mask, ids.astype(np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "does not decode"), (b"no picture", "does not decode"), (encoded(PICTURE, "PNG"), "no one-channel PNG")],
)
def test_what_is_no_map_is_refused(data, message):
    with pytest.raises(DataError, match=f"the mask .*{message}"):
        records.decode_map_cv(data, "mask")
