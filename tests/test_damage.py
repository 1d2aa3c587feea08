"""Damaged files: an error that names them, or what was written; no crash, no hang, no memory without end.

What cannot be told: a bit that flips in JPEG's entropy-coded data, or in an uncompressed TIFF, BMP or PGM, where there
is no checksum, gives another legal picture. PNG, record files and the data of .mat files carry checksums; of these only
what was written is accepted.
"""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tensorflow as tf
import tifffile
from PIL import Image

from kerasseg import pipeline, records
from kerasseg.spec import DataError, DatasetSpec

ROOT = Path(__file__).resolve().parent.parent
SLOWEST_S = 30
"""Seconds of computing that no single file may take."""


def read_damaged(first, last, processes=1):
    """Reads damaged files of these numbers in processes of their own; fails at a crash, a hang and a wrong result."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}", "CUDA_VISIBLE_DEVICES": "-1"}
    bounds = [first + (last - first) * i // processes for i in range(processes + 1)]
    running = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "_damages.py"), str(start), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        for start, stop in zip(bounds, bounds[1:], strict=False)
    ]
    for process, start, stop in zip(running, bounds, bounds[1:], strict=False):
        try:
            out, err = process.communicate(timeout=120 + 0.1 * (stop - start))
        except subprocess.TimeoutExpired:
            for other in running:
                other.kill()
            out, _ = process.communicate()
            pytest.fail(f"hangs {out.splitlines()[-1]}")
        lines = out.splitlines()
        assert process.returncode == 0, f"ended with {process.returncode} {lines[-1:]}: {err[-3000:]}"
        assert not [line for line in lines if line.startswith("WRONG")]
        done, slowest = lines[-1].split(", slowest ")
        assert done == f"done {stop - start}"
        assert float(slowest) < SLOWEST_S


def test_damaged_files_are_refused_or_read_as_they_were():
    read_damaged(0, 300)


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_refused_or_read_as_they_were():
    read_damaged(300, 10300, processes=2)


# Headers that claim what is not there


def png(width, height, bits=8, colour_type=0, data=b""):
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def saved(form, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, form)
    return bytearray(buffer.getvalue())


def large_jpeg():
    data = saved("JPEG")
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def large_bmp():
    data = saved("BMP")
    data[18:26] = struct.pack("<ii", 60000, 60000)
    return bytes(data)


def large_gif():
    data = saved("GIF")
    data[6:10] = struct.pack("<HH", 65500, 65500)
    place = data.index(b"\x2c", 13)
    data[place + 5 : place + 9] = struct.pack("<HH", 65500, 65500)
    return bytes(data)


def large_tiff(compression=None):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((30, 40), np.uint8), compression=compression)
    data = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            data[tag.valueoffset : tag.valueoffset + 2] = struct.pack("<H", 65500)
    return bytes(data)


LARGE = {
    "a.png": lambda: png(65500, 65500),
    "b.png": lambda: png(65500, 65500, 16, 6),
    "a.jpg": large_jpeg,
    "a.bmp": large_bmp,
    "a.gif": large_gif,
    "a.tif": large_tiff,
    "b.tif": lambda: large_tiff("zlib"),
    "a.pgm": lambda: b"P5 65500 65500 255\n" + bytes(100),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("read", [records.read_image, records.read_labels, records.read_mask])
def test_a_header_that_claims_four_billion_pixels_is_refused_at_once(tmp_path, name, read):
    (tmp_path / name).write_bytes(LARGE[name]())
    started = time.monotonic()
    with pytest.raises(DataError, match=rf"{name} (claims|is damaged).*(178,?956,?970|cut short)"):
        read(tmp_path / name)
    assert time.monotonic() - started < 5


def record(**changes):
    values = {
        "image/encoded": bytes(saved("JPEG")),
        "image/segmentation/class/encoded": png(40, 30, data=bytes(30 * 41)),
        **changes,
    }
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for name, v in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image/encoded": large_jpeg()}, "claims 65500x65500 pixels; at most 178,956,970 are read|exceeds limit"),
        ({"image/encoded": png(65500, 65500)}, "claims 65500x65500 pixels; at most 178,956,970 are read"),
        ({"image/encoded": b"hello"}, "does not decode as JPEG or PNG \\(cannot identify image file"),
        ({"image/segmentation/class/encoded": png(65500, 65500)}, "claims 65500x65500 pixels"),
        ({"image/segmentation/class/encoded": png(0, 30)}, r"is damaged \(0x30 pixels\)"),
        # TensorFlow's decoder would divide the ids by 256, and multiply those of 4 bits by 17.
        ({"image/segmentation/class/encoded": png(40, 30, 16, data=bytes(30 * 81))}, "a PNG of 16 bits; expected 8"),
        ({"image/segmentation/class/encoded": png(40, 30, 4, data=bytes(30 * 21))}, "a PNG of 4 bits; expected 8"),
        ({"image/segmentation/instance/encoded": png(40, 30, data=bytes(30 * 41))}, "a PNG of 8 bits; expected 16"),
    ],
)
def test_what_a_record_holds_is_refused_too(changes, message):
    records.from_record(record(), 3)
    with pytest.raises(DataError, match=message):
        records.from_record(record(**changes), 3)


# Checksums


def test_a_wrong_checksum_is_refused_although_the_pixels_decode(tmp_path):
    data = bytearray(png(40, 30, data=bytes(30 * 41)))
    place = data.index(b"IEND") - 8  # the last byte of IDAT's checksum is 5 before
    data[place + 2] ^= 1
    for read in (records.read_image, records.read_mask, records.read_labels):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(DataError, match=r"a.png is (damaged or cut short|no picture)"):
            read(tmp_path / "a.png")
    with pytest.raises(DataError, match="does not decode"):
        records.from_record(record(**{"image/segmentation/class/encoded": bytes(data)}), 3)


def test_a_changed_byte_of_a_mat_file_is_refused(tmp_path):
    labels = np.kron(np.arange(20, dtype=np.uint8).reshape(4, 5), np.ones((8, 8), np.uint8))
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"GTcls": {"Segmentation": labels}}, do_compression=True)
    whole = path.read_bytes()
    for place in range(140, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"a.mat (is damaged|has no|is a MATLAB)"):
            records.read_sbd(path)


# Record files


@pytest.fixture
def data(tmp_path):
    """Six images in one file."""
    rng = np.random.default_rng(0)

    def example(i):
        return records.Example(
            str(i), rng.integers(0, 256, (12 + i, 9, 3)).astype(np.uint8), np.zeros((12 + i, 9), np.uint8)
        )

    spec = DatasetSpec("tiny", ("a", "b"))
    records.write(tmp_path / "tiny", spec, {"train": [example(i) for i in range(6)]}, num_shards=1, progress=False)
    return tmp_path / "tiny"


def scanned(path):
    """The numbers of the images in a file, None for each damage."""
    found = list(records.scan(path))
    return [None if isinstance(f, DataError) else int(records.from_record(f).key) for f in found]


@pytest.mark.parametrize("byte", range(12))
def test_after_a_damaged_length_the_next_record_is_found(data, byte):
    path = records.shard_paths(data, "train")[0]
    whole = path.read_bytes()
    start = records.frames(path)[2].start
    path.write_bytes(whole[: start + byte] + bytes([whole[start + byte] ^ 2]) + whole[start + byte + 1 :])
    assert scanned(path) == [0, 1, None, 3, 4, 5]
    assert [frame.sound for frame in records.frames(path)] == [True, True, False, True, True, True]
    with pytest.raises(DataError, match=f"{path.name}: record 2 is cut off or damaged"):
        pipeline.train_batches(data, "train", 1, 8)


def test_rubbish_between_and_after_records_is_one_damage_each(data):
    path = records.shard_paths(data, "train")[0]
    whole, found = path.read_bytes(), records.frames(path)
    zeros = bytes(3_000_000)
    path.write_bytes(
        whole[: found[2].start] + zeros + whole[found[2].start : found[4].start + 5] + whole[found[5].start :] + b"x"
    )
    started = time.monotonic()
    assert scanned(path) == [0, 1, None, 2, 3, None, 5, None]
    assert time.monotonic() - started < 20
    path.write_bytes(b"")
    assert scanned(path) == []
    path.write_bytes(b"hello")
    assert scanned(path) == [None]


def test_many_damages_in_one_file_are_each_found(data):
    path = records.shard_paths(data, "train")[0]
    whole = path.read_bytes()
    frames = records.frames(path)
    broken = bytearray(b"".join(whole for _ in range(20)))
    for i in range(20):
        broken[i * len(whole) + frames[1].start + 40] ^= 1
        broken[i * len(whole) + frames[4].start + 3] ^= 1
    path.write_bytes(broken)
    assert scanned(path) == [0, None, 2, 3, None, 5] * 20


def test_a_record_that_is_no_example_is_named_in_training(data):
    """TensorFlow quotes its bytes in a message that does not decode."""
    path = records.shard_paths(data, "train")[0]
    serialized = list(records.serialized_records(path))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, content in enumerate(serialized):
            writer.write(b"\xff\xfe\xc4" + content[7:] if i == 3 else content)
    with pytest.raises(DataError, match=f"{path.name}, record 3: is no tf.train.Example"), pipeline.naming_damage(data):
        for _ in pipeline.train_batches(data, "train", 2, 8).take(9):
            pass
