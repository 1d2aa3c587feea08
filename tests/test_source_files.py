"""JPEG images and PNG masks as they are taken into records: as other readers see them, and never when damaged."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasseg import records
from kerasseg.records._jpeg import read_frame
from kerasseg.spec import DataError, DatasetSpec, voc_palette


def photograph(height=90, width=120, channels=3, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2).reshape(height, width, channels) * 3


def as_jpeg(image, **options):
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "JPEG", quality=85, **options)
    return buffer.getvalue()


def read(tmp_path, data, *arguments, **options):
    path = tmp_path / "file.jpg"
    path.write_bytes(data)
    return records.read_image(path, *arguments, **options)


def tensorflow_reads(data, channels=3):
    return tf.io.decode_jpeg(data, channels=channels, dct_method="INTEGER_ACCURATE").numpy()


def kinds_of_jpeg():
    colour, grey = photograph(), photograph(channels=1)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    plain = as_jpeg(colour)
    return {
        "colour": plain,
        "grey": as_jpeg(grey),
        "progressive": as_jpeg(colour, progressive=True),
        "not subsampled": as_jpeg(colour, subsampling=0),
        "stored as RGB": as_jpeg(colour, keep_rgb=True),
        "restart markers": as_jpeg(colour, restart_marker_blocks=3),
        "turned by a note": as_jpeg(colour, exif=rotated),
        "a comment": as_jpeg(colour, comment=b"\xff\xd9\xff\xda" * 20),
        "filled up": plain[:2] + b"\xff\xff\xff" + plain[2:],
        "something behind it": plain + b"more\xff\xd8",
        "odd size": as_jpeg(photograph(37, 41)),
        "one pixel": as_jpeg(photograph(1, 1)),
    }


@pytest.mark.parametrize("kind", kinds_of_jpeg())
def test_jpeg_files_of_all_kinds_as_tensorflow_and_pillow_read_them(tmp_path, kind):
    data = kinds_of_jpeg()[kind]
    with Image.open(io.BytesIO(data)) as image:
        expected = np.atleast_3d(np.asarray(image))
    source = read(tmp_path, data)
    np.testing.assert_array_equal(source.image, expected)
    np.testing.assert_array_equal(source.image, tensorflow_reads(data, expected.shape[2]))
    np.testing.assert_array_equal(read(tmp_path, data, 3).image, tensorflow_reads(data))
    assert source.data == data
    blank = read(tmp_path, data, pixels=False)
    assert (blank.image.shape, blank.image.dtype, blank.data) == (expected.shape, np.uint8, data)


def test_jpeg_files_of_four_inks_are_read_as_tensorflow_does(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).convert("CMYK").save(buffer, "JPEG")
    for pixels in (True, False):
        np.testing.assert_array_equal(
            read(tmp_path, buffer.getvalue(), pixels=pixels).image, tensorflow_reads(buffer.getvalue())
        )


def test_real_jpeg_files_bit_by_bit(real_data):
    paths = sorted((real_data / "voc/VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"))
    assert len(paths) == 35
    for path in paths:
        np.testing.assert_array_equal(records.read_image(path).image, tensorflow_reads(path.read_bytes()))


def damaged_files(data, rng):
    """Yields a file cut short, one with a part cut out, one with a part blanked, and with flipped bits and bytes."""
    at = int(rng.integers(2, len(data)))
    yield data[:at]
    yield data[:at] + data[at + int(rng.integers(1, 2000)) :]
    yield data[:at] + bytes(min(300, len(data) - at)) + data[at + 300 :]
    for position, value in ((at, 1 << rng.integers(8)), (int(rng.integers(2, 700)), rng.integers(1, 256))):
        changed = bytearray(data)
        changed[position] ^= int(value)
        yield bytes(changed)


def refuses(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except (DataError, tf.errors.OpError):
        return True
    return False


def test_whatever_tensorflow_refuses_of_a_damaged_jpeg_is_refused(tmp_path):
    """With the pixels or without, where only the headers and the markers are looked at."""
    rng = np.random.default_rng(0)
    kinds = ({}, {"progressive": True}, {"subsampling": 0, "optimize": True}, {"restart_marker_blocks": 3})
    files = [as_jpeg(photograph(), **options) for options in kinds]
    by_tensorflow = by_us = 0
    for i in range(80):
        for data in damaged_files(files[i % 4], rng):
            strict = refuses(tensorflow_reads, data)
            ours = refuses(read, tmp_path, data)
            assert ours == refuses(read, tmp_path, data, pixels=False)
            assert ours or not strict
            by_tensorflow, by_us = by_tensorflow + strict, by_us + ours
    assert by_us > by_tensorflow > 100


def test_checking_a_whole_jpeg_prints_nothing(tmp_path, capfd):
    for data in kinds_of_jpeg().values():
        read(tmp_path, data, pixels=False)
    assert capfd.readouterr() == ("", "")  # libjpeg would warn, on the standard error of the process


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_at_any_byte_is_refused(progressive):
    data = as_jpeg(photograph(20, 24), progressive=progressive)
    assert read_frame(data)[:3] == (20, 24, 3)
    for length in range(2, len(data)):
        with pytest.raises(ValueError, match=r"it ends at byte|no marker at byte|it holds no picture"):
            read_frame(data[:length])


# Masks


def unfiltered_png(ids):
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in ids))),
        (b"IEND", b""),
    )
    pack = ">I4s{}sI"
    packed = (struct.pack(pack.format(len(x)), len(x), name, x, zlib.crc32(name + x)) for name, x in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def save_mask(path, ids, kind):
    palette = kind.startswith("palette")
    image = Image.fromarray(ids, "P" if palette else "L")
    if palette:
        image.putpalette(voc_palette().ravel().tolist())
    more = {"transparency": 3} if kind == "palette with transparency" else {}
    if kind == "grey":
        path.write_bytes(unfiltered_png(ids))
    else:
        image.save(path, **more)


def features_of(directory):
    serialized = next(records.serialized_records(records.shard_paths(directory, "train")[0]))
    features = tf.train.Example.FromString(serialized).features.feature
    return features["image/segmentation/class/encoded"].bytes_list.value[0]


def packed(data):
    found, position = b"", 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found += data[position + 8 : position + 8 + length] if data[position + 4 : position + 8] == b"IDAT" else b""
        position += length + 12
    return found


@pytest.mark.parametrize("kind", ["palette", "palette with transparency", "grey", "filtered"])
def test_masks_are_taken_over_without_packing_them_again(tmp_path, kind):
    path = tmp_path / "a.png"
    ids = np.kron(np.random.default_rng(0).choice([0, 1, 2, 255], (12, 9)), np.ones((5, 6))).astype(np.uint8)
    save_mask(path, ids, kind)
    source = records.read_source_mask(path)
    np.testing.assert_array_equal(source.mask, ids)
    assert (source.data is None) == (kind == "filtered")
    example = records.Example("a", np.zeros((*ids.shape, 3), np.uint8), source.mask, mask_bytes=source.data)
    spec = DatasetSpec("tiny", ("a", "b", "c"))
    records.write(tmp_path / "tiny", spec, {"train": [example]}, progress=False)
    stored = features_of(tmp_path / "tiny")
    if kind != "filtered":
        assert packed(stored) == packed(path.read_bytes())
    width, height, bits, colour_type = struct.unpack(">IIBB", stored[16:26])
    assert (width, height, bits, colour_type) == (54, 60, 8, 0)
    assert not np.frombuffer(zlib.decompress(packed(stored)), np.uint8).reshape(60, 55)[:, 0].any()  # no filters
    with Image.open(io.BytesIO(stored)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), ids)
    np.testing.assert_array_equal(tf.io.decode_png(stored)[..., 0], ids)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_UNCHANGED), ids)
    # What is changed on the way has to be packed.
    mapped = records.read_source_mask(path, mapping={2: 1, 1: 0})
    np.testing.assert_array_equal(mapped.mask, np.where(ids == 2, 1, np.where(ids == 1, 0, ids)))
    assert mapped.data is None


def test_a_png_with_any_byte_changed_or_cut_is_refused(tmp_path):
    path = tmp_path / "a.png"
    ids = np.kron(np.random.default_rng(0).choice([0, 1, 2, 255], (4, 3)), np.ones((3, 3))).astype(np.uint8)
    Image.fromarray(ids).save(path)
    data = path.read_bytes()
    for position in range(len(data)):
        for changed in (data[:position], data[:position] + bytes([data[position] ^ 16]) + data[position + 1 :]):
            path.write_bytes(changed)
            for function in (records.read_mask, records.read_image):
                with pytest.raises(DataError, match=r"a.png (is damaged or cut short|is no picture|is empty)"):
                    function(path)


def test_all_real_masks_are_taken_over_as_they_are(real_data):
    paths = sorted((real_data / "voc/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))
    paths += sorted((real_data / "voc_labels_train1464").glob("*.png"))[::40]
    assert len(paths) == 59
    for path in paths:
        source = records.read_source_mask(path)
        with Image.open(path) as image:
            np.testing.assert_array_equal(source.mask, np.asarray(image))
        assert packed(source.data) == packed(path.read_bytes())
        np.testing.assert_array_equal(tf.io.decode_png(source.data, channels=1)[..., 0], source.mask)
