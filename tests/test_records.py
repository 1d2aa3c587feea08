"""Records: what is written is what is read, in every form, and what is wrong does not get in."""

import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
import tifffile
from PIL import Image

from kerasseg import records
from kerasseg.records._serialize import serialized_example
from kerasseg.spec import DataError, DatasetSpec, median_frequency_weights, voc_palette


def spec(**values):
    return DatasetSpec(**{"name": "tiny", "class_names": ("background", "cat", "dog"), **values})


def draw(rng, channels=3, dtype=np.uint8, height=11, width=14):
    values = rng.random((height, width, channels)) * (65535 if dtype == np.uint16 else 255)
    return values.astype(dtype)


def examples(count=5, channels=3, dtype=np.uint8, extras=False, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        image = draw(rng, channels, dtype, height=11 + i)
        size = image.shape[:2]
        more = {}
        if extras:
            more = {
                "instances": rng.integers(0, 65536, size).astype(np.uint16),
                "weight": (rng.random(size) * 63).astype(np.float32),
            }
        mask = rng.choice([0, 1, 2, 255], size).astype(np.uint8)
        made.append(records.Example(f"image{i}", image, mask, **more))
    return made


def write(directory, items, split="train", **values):
    arguments = {key: values.pop(key) for key in ("num_shards", "overwrite", "workers") if key in values}
    return records.write(directory, spec(**values), {split: items}, progress=False, **arguments)


FORMS = [(1, np.uint8, 8), (2, np.uint8, 8), (3, np.uint8, 8), (4, np.uint8, 8), (1, np.uint16, 16), (2, np.uint16, 16),
         (3, np.uint16, 16), (4, np.uint16, 16), (1, np.float32, 32), (7, np.float32, 32)]  # fmt: skip


@pytest.mark.parametrize(("channels", "dtype", "bit_depth"), FORMS)
def test_what_is_written_is_read_in_numpy_and_in_a_graph(tmp_path, channels, dtype, bit_depth):
    made = examples(channels=channels, dtype=dtype, extras=True)
    written = write(tmp_path / "tiny", made, channels=channels, bit_depth=bit_depth)
    assert written.has_instances
    assert written.has_weights

    for before, after in zip(made, records.read(tmp_path / "tiny", "train"), strict=True):
        assert after.key == before.key
        assert after.image.dtype == dtype
        for name in ("image", "mask", "instances"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        np.testing.assert_allclose(after.weight, before.weight, atol=0.5 / records.WEIGHT_SCALE + 1e-6)

    def parse(serialized):
        return records.parse(serialized, channels=channels, bit_depth=bit_depth, weight=True, instances=True)

    paths = [str(path) for path in records.shard_paths(tmp_path / "tiny", "train")]
    data = tf.data.TFRecordDataset(paths).map(parse)
    assert data.element_spec["image"].shape.as_list() == [None, None, channels]
    assert data.element_spec["mask"].shape.as_list() == [None, None]
    for before, after in zip(made, data.as_numpy_iterator(), strict=True):
        assert after["key"].decode() == before.key
        assert after["image"].dtype == dtype
        assert after["mask"].dtype == np.uint8
        for name in ("image", "mask", "instances"):
            np.testing.assert_array_equal(after[name], getattr(before, name))
        np.testing.assert_allclose(after["weight"], before.weight, atol=0.5 / records.WEIGHT_SCALE + 1e-6)


def test_missing_weight_and_instances_parse_as_ones_and_zeros(tmp_path):
    write(tmp_path / "tiny", examples(1))
    path = str(records.shard_paths(tmp_path / "tiny", "train")[0])
    parsed = next(
        iter(tf.data.TFRecordDataset(path).map(lambda s: records.parse(s, channels=3, weight=True, instances=True)))
    )
    assert set(np.unique(parsed["weight"])) == {1}
    assert set(np.unique(parsed["instances"])) == {0}


def test_order_is_kept_and_shards_are_balanced(tmp_path):
    made = examples(11)
    written = write(tmp_path / "tiny", [lambda e=e: e for e in made], num_shards=4, workers=3)
    assert written.splits["train"].files == tuple(f"tiny-train.tfrecord-{i:05d}-of-00004" for i in range(4))
    assert [e.key for e in records.read(tmp_path / "tiny", "train")] == [e.key for e in made]
    lengths = [len(list(records.read_files([path]))) for path in records.shard_paths(tmp_path / "tiny", "train")]
    assert sum(lengths) == 11
    assert max(lengths) - min(lengths) <= 1


def test_no_empty_shards(tmp_path):
    assert len(write(tmp_path / "tiny", examples(2), num_shards=8).splits["train"].files) == 2


def test_counts_are_those_of_a_hand_computed_case(tmp_path):
    masks = [np.array([[0, 0, 1], [1, 1, 255]], np.uint8), np.array([[0, 2], [255, 255]], np.uint8)]
    items = [records.Example(str(i), np.zeros((*m.shape, 3), np.uint8), m) for i, m in enumerate(masks)]
    split = write(tmp_path / "tiny", items).splits["train"]
    assert split.class_pixels == (3, 3, 1)
    assert split.ignored_pixels == 3
    assert split.class_image_pixels == (7, 5, 2)
    # Frequencies 3/7, 3/5, 1/2; their median is 1/2.
    loaded = DatasetSpec.load(tmp_path / "tiny")
    np.testing.assert_allclose(median_frequency_weights(loaded), [0.5 / (3 / 7), 0.5 / (3 / 5), 1], rtol=1e-6)


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_jpeg_bytes_stay_untouched(tmp_path):
    data = jpeg(cv2.GaussianBlur(draw(np.random.default_rng(0), height=40, width=50), (0, 0), 3))
    (tmp_path / "a.jpg").write_bytes(data)
    source = records.read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(source.image, np.asarray(Image.open(io.BytesIO(data))))
    mask = np.zeros((40, 50), np.uint8)
    write(tmp_path / "tiny", [records.Example("a", source.image, mask, image_bytes=source.data, image_format="jpeg")])
    path = str(records.shard_paths(tmp_path / "tiny", "train")[0])
    features = tf.train.Example.FromString(next(tf.data.TFRecordDataset(path).as_numpy_iterator())).features.feature
    assert features["image/encoded"].bytes_list.value[0] == data
    assert features["image/format"].bytes_list.value[0] == b"jpeg"
    np.testing.assert_array_equal(next(records.read(tmp_path / "tiny", "train")).image, source.image)


def by_protobuf(features):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, np.ndarray) and value.dtype == np.float32:
            return tf.train.Feature(float_list=tf.train.FloatList(value=value))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=np.atleast_1d(value)))

    return tf.train.Example(
        features=tf.train.Features(feature={name: feature(value) for name, value in features.items()})
    ).SerializeToString(deterministic=True)


def test_a_message_put_together_by_hand_is_protobufs():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = [
            rng.bytes(rng.choice([0, 1, 100, 127, 128, 16383, 16384, 70000])),
            int(rng.choice([0, 1, -1, 127, 128, 16384, 2**62, -(2**63)])),
            rng.normal(size=rng.integers(0, 40)).astype(np.float32),
            rng.integers(-5, 2**40, rng.integers(0, 40)),
        ]
        # Protobuf sorts a name behind those that begin with it: these are of one length.
        names = {"".join(rng.choice(list("ab/_Zé"), 5)) * int(rng.choice([1, 30])) + "." for _ in range(8)}
        features = {name: values[rng.integers(4)] for name in names}
        assert serialized_example(features) == by_protobuf(features)


def test_masks_are_stored_as_unfiltered_one_channel_png(tmp_path):
    write(tmp_path / "tiny", examples(1))
    path = str(records.shard_paths(tmp_path / "tiny", "train")[0])
    features = tf.train.Example.FromString(next(tf.data.TFRecordDataset(path).as_numpy_iterator())).features.feature
    data = features["image/segmentation/class/encoded"].bytes_list.value[0]
    width, height, bits, colour_type = struct.unpack(">IIBB", data[16:26])
    assert (width, height, bits, colour_type) == (14, 11, 8, 0)
    packed, position = b"", 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IDAT":
            packed += data[position + 8 : position + 8 + length]
        position += length + 12
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()


def test_records_of_the_original_project_are_exact(oracle):
    expected = np.load(oracle / "data" / "three_decoded.npz")
    path = oracle / "data" / "three.tfrecord"
    parsed = tf.data.TFRecordDataset(str(path)).map(lambda s: records.parse(s, channels=3)).as_numpy_iterator()
    for i, (example, in_graph) in enumerate(zip(records.read_files([path]), parsed, strict=True)):
        for image, mask in ((example.image, example.mask), (in_graph["image"], in_graph["mask"])):
            np.testing.assert_array_equal(image, expected[f"rec{i}_image"])
            np.testing.assert_array_equal(mask, expected[f"rec{i}_annotation"][..., 0])
            assert image.shape[:2] == tuple(expected[f"rec{i}_shape"])
    assert i == 2


def tensorflow_deeplab_record(image_data, form, mask_data, name="a"):
    """As `build_data.image_seg_to_tfexample` of TensorFlow's models repository writes it."""
    values = {
        "image/encoded": image_data,
        "image/filename": name.encode(),
        "image/format": form,
        "image/height": 20,
        "image/width": 30,
        "image/channels": 3,
        "image/segmentation/class/encoded": mask_data,
        "image/segmentation/class/format": b"png",
    }
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v]))
        if isinstance(v, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[v]))
        for key, v in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_records_of_tensorflows_deeplab_are_read():
    rng = np.random.default_rng(0)
    data = jpeg(draw(rng, height=20, width=30))
    mask = rng.choice([0, 15, 255], (20, 30)).astype(np.uint8)
    serialized = tensorflow_deeplab_record(data, b"jpg", cv2.imencode(".png", mask)[1].tobytes())
    example = records.from_record(serialized)
    parsed = records.parse(tf.constant(serialized), channels=3)
    for image, labels in ((example.image, example.mask), (parsed["image"].numpy(), parsed["mask"].numpy())):
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(data))))
        np.testing.assert_array_equal(labels, mask)
    assert (example.key, example.image_format) == ("a", "jpeg")


def test_a_palette_mask_inside_a_record_is_refused():
    image = Image.fromarray(np.ones((20, 30), np.uint8), "L").convert("P")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    serialized = tensorflow_deeplab_record(jpeg(np.zeros((20, 30, 3), np.uint8)), b"jpg", buffer.getvalue())
    with pytest.raises(DataError, match="is no one-channel PNG"):
        records.from_record(serialized)


def test_parse_refuses_a_mask_of_another_size():
    mask = cv2.imencode(".png", np.zeros((20, 29), np.uint8))[1].tobytes()
    serialized = tensorflow_deeplab_record(jpeg(np.zeros((20, 30, 3), np.uint8)), b"jpg", mask)
    with pytest.raises(tf.errors.InvalidArgumentError, match="mask and image of a record differ in size"):
        list(tf.data.Dataset.from_tensors(serialized).map(lambda s: records.parse(s, channels=3)))
    with pytest.raises(DataError, match="mask is 29x20, but the image 30x20"):
        records.from_record(serialized)


def bad(**values):
    good = examples(1)[0]
    return [
        good,
        records.Example(**{"key": "bad", "image": good.image, "mask": good.mask, "source": "x.png", **values}),
    ]


ONE = np.zeros((11, 14), np.uint8)
BAD = {
    "a label outside the classes": (bad(mask=ONE + 7), r"bad \(x.png\): the mask holds 7 \(154 pixels\); expected"),
    "another size": (bad(mask=ONE[:, :-1]), r"the mask is 13x11 pixels, but the image 14x11"),
    "channels": (bad(image=ONE[..., None]), r"the image has 1 channels, but the data set 3"),
    "bits": (bad(image=examples(1, dtype=np.uint16)[0].image), r"the image is uint16, but the data set has 8 bits"),
    "a mask of floats": (bad(mask=ONE.astype(np.float32)), r"expected a mask of type uint8, received float32"),
    "no mask": (bad(mask=None), r"has no mask, but image0 has mask; all images"),
    "weights too large": (bad(weight=ONE + np.float32(64)), r"weights must lie between 0 and 63.999, received 64.0"),
    "no image": (bad(image=ONE), r"expected an image \[H, W, C\], received shape \(11, 14\)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_example_stops_the_writing_and_leaves_nothing(tmp_path, fault):
    items, message = BAD[fault]
    with pytest.raises(DataError, match=message):
        write(tmp_path / "tiny", items)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_callable_comes_through_and_leaves_nothing(tmp_path):
    def fail():
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        write(tmp_path / "tiny", [*examples(3), fail, *examples(30)])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="split 'val' .* is empty"):
        records.write(tmp_path / "tiny", spec(), {"train": examples(1), "val": iter(())}, progress=False)
    with pytest.raises(DataError, match="no split was given"):
        records.write(tmp_path / "tiny", spec(), {}, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_overwritten_on_request(tmp_path):
    write(tmp_path / "tiny", examples(5))
    (tmp_path / "tiny" / "contact_sheet.png").write_bytes(b"mine")
    with pytest.raises(DataError, match="exists already.*--overwrite"):
        write(tmp_path / "tiny", examples(2))
    assert len(list(records.read(tmp_path / "tiny", "train"))) == 5
    with pytest.raises(DataError, match="the mask holds 7"):
        write(tmp_path / "tiny", bad(mask=ONE + 7), overwrite=True)
    assert len(list(records.read(tmp_path / "tiny", "train"))) == 5  # the old one is whole
    write(tmp_path / "tiny", examples(2), overwrite=True)
    assert len(list(records.read(tmp_path / "tiny", "train"))) == 2
    names = sorted(path.name for path in (tmp_path / "tiny").iterdir())
    assert names == ["contact_sheet.png", "dataset.json", *(f"tiny-train.tfrecord-0000{i}-of-00002" for i in range(2))]


def test_what_a_killed_run_left_does_not_open_and_is_replaced(tmp_path):
    write(tmp_path / "tiny", examples(5))
    (tmp_path / "tiny" / "dataset.json").rename(tmp_path / "kept.json")  # killed before the last step
    (tmp_path / "tiny.partial").mkdir()
    (tmp_path / "tiny.partial" / "rubbish").write_bytes(b"x")
    with pytest.raises(DataError, match=r"dataset.json is missing: .* is not a complete converted data set"):
        next(records.read(tmp_path / "tiny", "train"))
    write(tmp_path / "tiny", examples(3))
    assert len(list(records.read(tmp_path / "tiny", "train"))) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "tiny"]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="num_shards and workers must be at least 1; received 0"):
        records.write("/nowhere/x", spec(), {"train": []}, num_shards=0)
    with pytest.raises(ValueError, match="kind must be one of ridge, rim, semantic; received 'x'"):
        records.instance_targets(ONE, "x")


def record_starts(data):
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 16 + int.from_bytes(data[starts[-1] : starts[-1] + 8], "little"))
    return starts


def test_a_damaged_record_is_named_and_the_rest_still_scanned(tmp_path):
    write(tmp_path / "tiny", examples(6), num_shards=1)
    path = records.shard_paths(tmp_path / "tiny", "train")[0]
    data = bytearray(path.read_bytes())
    for number in (1, 4):
        data[record_starts(data)[number] + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path.name}, record 1: the file is damaged"):
        list(records.read(tmp_path / "tiny", "train"))
    assert [isinstance(record, bytes) for record in records.scan(path)] == [True, False, True, True, False, True]
    path.write_bytes(path.read_bytes()[:-9])
    assert [isinstance(record, bytes) for record in records.scan(path)] == [True, False, True, True, False, False]
    path.write_bytes(b"hello")
    assert [isinstance(record, bytes) for record in records.scan(path)] == [False]


def test_missing_and_surplus_records_are_told(tmp_path):
    write(tmp_path / "tiny", examples(4), num_shards=2)
    first, second = records.shard_paths(tmp_path / "tiny", "train")
    content = json.loads((tmp_path / "tiny" / "dataset.json").read_text())
    content["splits"]["train"]["num_examples"] = 5
    (tmp_path / "tiny" / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="holds 4 records, but dataset.json says 5"):
        list(records.read(tmp_path / "tiny", "train"))
    second.unlink()
    with pytest.raises(DataError, match=f"{second.name} is missing although dataset.json names it"):
        records.shard_paths(tmp_path / "tiny", "train")
    with pytest.raises(DataError, match="has no split 'test'; it has: train"):
        records.shard_paths(tmp_path / "tiny", "test")


# Source files


def save_palette(path, ids, **options):
    image = Image.fromarray(ids, "P")
    image.putpalette(voc_palette().ravel().tolist())
    image.save(path, **options)


def test_palette_masks_give_their_indices(tmp_path):
    ids = np.random.default_rng(0).choice([0, 1, 15, 20, 255], (9, 13)).astype(np.uint8)
    save_palette(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(records.read_mask(tmp_path / "a.png"), ids)
    few = np.minimum(ids, 3)
    for bits in (2, 4):
        save_palette(tmp_path / "few.png", few, bits=bits)
        np.testing.assert_array_equal(records.read_mask(tmp_path / "few.png"), few)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_masks_of_any_depth_give_their_values(tmp_path, bits):
    top = min(2**bits, 250)
    ids = np.random.default_rng(0).integers(0, top, (9, 13)).astype(np.uint16 if bits == 16 else np.uint8)
    path = tmp_path / "a.png"
    if bits >= 8:
        Image.fromarray(ids).save(path)
    else:  # no library at hand writes these: put the PNG together
        rows = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel()).tobytes() for row in ids]
        header = struct.pack(">IIBBBBB", 13, 9, bits, 0, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    np.testing.assert_array_equal(records.read_mask(path), ids)
    mapped = records.read_mask(path, mapping={0: 1, 1: 0})
    np.testing.assert_array_equal(mapped, np.where(ids == 0, 1, np.where(ids == 1, 0, ids)))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_tiff_labels_and_stacks(tmp_path, compression):
    labels = np.random.default_rng(0).integers(0, 900, (3, 9, 13)).astype(np.uint16)
    pages = [Image.fromarray(page) for page in labels]
    pages[0].save(tmp_path / "one.tif", compression=compression)
    pages[0].save(tmp_path / "all.tif", compression=compression, save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(records.read_labels(tmp_path / "one.tif"), labels[0])
    np.testing.assert_array_equal(records.read_pages(tmp_path / "all.tif"), labels)
    np.testing.assert_array_equal(records.read_image(tmp_path / "one.tif").image, labels[0][..., None])
    with pytest.raises(DataError, match="holds 3 pages"):
        records.read_labels(tmp_path / "all.tif")
    with pytest.raises(DataError, match="holds 3 pages"):
        records.read_image(tmp_path / "all.tif")
    with pytest.raises(DataError, match=r"holds labels from \d+ to 8\d\d; .*instance numbers"):
        records.read_mask(tmp_path / "one.tif")


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_truncated_tiff_is_found(tmp_path, compression):
    labels = np.kron(np.random.default_rng(0).integers(0, 900, (3, 30, 30)), np.ones((1, 4, 4))).astype(np.uint16)
    pages = [Image.fromarray(page) for page in labels]
    path = tmp_path / "cut.tif"
    pages[0].save(path, compression=compression, save_all=True, append_images=pages[1:])
    data = path.read_bytes()
    for length in (len(data) - 300, len(data) // 2, 300, 20, 5):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut.tif is damaged or cut short \("):
            records.read_pages(path)
    if compression:
        path.write_bytes(data[:200] + bytes(800) + data[1000:])
        with pytest.raises(DataError, match=r"cut.tif is damaged or cut short \("):
            records.read_pages(path)


def test_tiff_images_of_other_kinds(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.tif"
    rgb = draw(rng, dtype=np.uint16)
    tifffile.imwrite(path, rgb, photometric="rgb", byteorder=">")
    np.testing.assert_array_equal(records.read_image(path).image, rgb)
    cv2.imwrite(str(path), rgb[..., ::-1])  # LZW
    np.testing.assert_array_equal(records.read_image(path).image, rgb)
    rgba = draw(rng, 4)
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(records.read_image(path).image, rgba[..., :3])
    tifffile.imwrite(path, rgba, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(records.read_image(path).image, rgba)
    seven = draw(rng, 7, np.uint16)
    tifffile.imwrite(path, np.moveaxis(seven, -1, 0), photometric="minisblack", metadata={"axes": "CYX"})
    read = records.read_image(path).image
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, seven / 257, rtol=1e-6)
    depth = rng.random((5, 6)).astype(np.float32)
    tifffile.imwrite(path, depth)
    np.testing.assert_array_equal(records.read_image(path).image, depth[..., None])
    tifffile.imwrite(path, np.arange(30, dtype=np.int32).reshape(5, 6))
    assert records.read_image(path).image.dtype == np.uint16
    tifffile.imwrite(path, depth)
    with pytest.raises(DataError, match="holds fractions.*resized with interpolation"):
        records.read_labels(path)


def test_channels_of_png_images(tmp_path):
    rgba = draw(np.random.default_rng(0), 4)
    path = tmp_path / "a.png"
    Image.fromarray(rgba).save(path)
    assert records.image_channels(path) == 3
    source = records.read_image(path)
    np.testing.assert_array_equal(source.image, rgba[..., :3])  # the alpha channel is dropped
    assert source.data == path.read_bytes()
    np.testing.assert_array_equal(records.read_image(path, 4).image, rgba)
    grey = records.read_image(path, 1)
    assert grey.data is None
    np.testing.assert_allclose(grey.image[..., 0], np.asarray(Image.open(path).convert("L")), atol=1)
    with pytest.raises(DataError, match=r"a.png has 3 channels; expected 2"):
        records.read_image(path, 2)
    Image.fromarray(rgba[..., 0]).save(path)
    assert records.image_channels(path) == 1
    np.testing.assert_array_equal(records.read_image(path, 3).image, np.repeat(rgba[..., :1], 3, axis=2))
    wide = draw(np.random.default_rng(0), 3, np.uint16)
    cv2.imwrite(str(path), wide[..., ::-1])
    np.testing.assert_array_equal(records.read_image(path).image, wide)
    save_palette(path, rgba[..., 0], transparency=3)
    np.testing.assert_array_equal(records.read_image(path).image, voc_palette()[rgba[..., 0]])
    Image.fromarray(rgba[..., :3]).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(records.read_image(tmp_path / "a.bmp").image, rgba[..., :3])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_found_wherever_it_is_cut(tmp_path, progressive):
    buffer = io.BytesIO()
    image = cv2.GaussianBlur(draw(np.random.default_rng(0), height=200, width=240), (0, 0), 2)
    Image.fromarray(image).save(buffer, "JPEG", progressive=progressive)
    data, path = buffer.getvalue(), tmp_path / "cut.jpg"
    for length in (len(data) - 1, len(data) - 2, len(data) - 20, len(data) // 2, 700, 20, 2, 1):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"cut.jpg (is damaged or cut short|is no picture)"):
            records.read_image(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cut.jpg is empty"):
        records.read_image(path)
    with pytest.raises(DataError, match=r"none.jpg is missing; complete the data set"):
        records.read_image(tmp_path / "none.jpg")


def test_a_truncated_or_damaged_png_is_found(tmp_path):
    path = tmp_path / "cut.png"
    save_palette(path, np.random.default_rng(0).integers(0, 21, (60, 70)).astype(np.uint8))
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[-30] ^= 4
    for broken in (data[:-12], data[: len(data) // 2], data[:30], data[:9], bytes(damaged)):
        path.write_bytes(broken)
        for read in (records.read_mask, records.read_image):
            with pytest.raises(DataError, match=r"cut.png is (damaged or cut short|no picture)"):
                read(path)


def test_masks_that_are_none_are_refused_by_name(tmp_path, real_data):
    odd = real_data / "odd"
    cases = {
        odd / "rgba_label_other_size/SegmentationClass/42.png": "RGBA picture of 1209x680 pixels with 62614 colours",
        odd / "rgb_coded_labels/image_0_label.png": r"coded in colours: \(0, 0, 0\) in 143868 pixels, \(128, 0, 0\)",
        odd / "bbbc039_rgb_tif_onehot_label/label.png": r"3 channels of 0 and 1.*\(argmax\)",
        odd / "nifti_3d/anatomical.nii": "no picture that can be read.*NIfTI",
        odd / "nifti_3d/anatomical_label.nii.gz": "no picture that can be read.*NIfTI",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=message):
            records.read_mask(path)


def test_colour_masks_are_decoded_by_their_palette(tmp_path):
    ids = np.random.default_rng(0).choice([0, 1, 2, 255], (9, 13)).astype(np.uint8)
    palette = voc_palette()
    path = tmp_path / "a.png"
    Image.fromarray(palette[ids]).save(path)
    np.testing.assert_array_equal(records.read_mask(path, colours=palette[:3]), ids)
    with pytest.raises(DataError, match=r"1 colours that belong to no class: \(0, 128, 0\) in \d+ pixels"):
        records.read_mask(path, colours=palette[:2])
    tifffile.imwrite(tmp_path / "a.tif", palette[ids], photometric="rgb")
    np.testing.assert_array_equal(records.read_mask(tmp_path / "a.tif", colours=palette[:3]), ids)
    # A palette file with other colours is read by its indices, black and white by their colours.
    save_palette(path, ids)
    np.testing.assert_array_equal(records.read_mask(path, colours=[(9, 9, 9), (1, 2, 3), (7, 7, 7)]), ids)
    Image.fromarray(np.where(ids == 1, 255, 0).astype(np.uint8)).save(path)
    np.testing.assert_array_equal(records.read_mask(path, colours=[(0, 0, 0), (255, 255, 255)]), ids == 1)


def test_instance_targets_against_brute_force():
    rng = np.random.default_rng(0)
    instances = np.kron(rng.integers(0, 5, (7, 8)), np.ones((3, 4), int)).astype(np.uint16)
    height, width = instances.shape
    touching = np.zeros(instances.shape, bool)
    rim = np.zeros(instances.shape, bool)
    for y in range(height):
        for x in range(width):
            for dy, dx in np.argwhere(np.ones((3, 3))) - 1:
                v, u = y + dy, x + dx
                if not (0 <= v < height and 0 <= u < width) or instances[y, x] in (0, instances[v, u]):
                    continue
                rim[y, x] = True
                touching[y, x] |= instances[v, u] != 0 and (dy, dx) < (0, 0)
    np.testing.assert_array_equal(records.touching(instances), touching)
    cells = instances > 0
    np.testing.assert_array_equal(records.instance_targets(instances, "semantic"), cells)
    np.testing.assert_array_equal(records.instance_targets(instances, "ridge"), cells & ~touching)
    np.testing.assert_array_equal(records.instance_targets(instances, "rim"), np.where(cells, 1 + rim, 0))


def test_the_ridge_parts_all_touching_cells():
    rng = np.random.default_rng(1)
    instances = rng.integers(0, 4, (30, 30))
    mask = records.instance_targets(instances, "ridge")
    for component in scipy.ndimage.value_indices(
        scipy.ndimage.label(mask, np.ones((3, 3)))[0], ignore_value=0
    ).values():
        assert len(np.unique(instances[component])) == 1
