"""Reading records as NumPy arrays, for tools and tests; training reads them with `parse` in `tf.data`."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasseg.records._example import SIDES, WEIGHT_SCALE, Example
from kerasseg.records._parse import decode_image
from kerasseg.spec import DataError, DatasetSpec


def shard_paths(directory, split: str) -> list[Path]:
    """Returns the record files of a split, in order.

    Raises:
        DataError: `directory` is no complete data set, lacks the split, or lacks one of its files.
    """
    spec = DatasetSpec.load(directory)
    paths = [Path(directory) / name for name in spec.split(split).files]
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"{path} is missing although dataset.json names it; convert the data set again (--overwrite)"
            )
    return paths


def read(directory, split: str) -> Iterator[Example]:
    """Yields the examples of a split in the order in which they were written.

    Raises:
        DataError: As `read_files`; also where there are fewer or more records than `dataset.json` says.
    """
    spec = DatasetSpec.load(directory)
    paths = shard_paths(directory, split)
    count = 0
    for example in read_files(paths, channels=spec.channels):
        count += 1
        yield example
    expected = spec.split(split).num_examples
    if count != expected:
        raise DataError(
            f"{directory}: split {split!r} holds {count} records, but dataset.json says {expected}; "
            "convert the data set again (--overwrite)"
        )


def read_files(paths, channels: int | None = None) -> Iterator[Example]:
    """Yields the examples of record files: ours, TensorFlow DeepLab's, or the original DeepLab-v3 project's.

    Args:
        paths: TFRecord files.
        channels: C that the images are given with; default: what each record or file says.

    Raises:
        DataError: A record cannot be read, named by file and number.
    """
    for path in paths:
        for number, serialized in enumerate(serialized_records(path)):
            try:
                yield from_record(serialized, channels, default_key=f"{Path(path).stem}-{number}")
            except DataError as error:
                raise DataError(f"{path}, record {number}: {error}") from error


def serialized_records(path) -> Iterator[bytes]:
    """Yields the raw records of a file; raises `DataError` with file and number where one is damaged."""
    for number, record in enumerate(scan(path)):
        if isinstance(record, DataError):
            raise DataError(f"{path}, record {number}: {record}; convert the data set again (--overwrite)") from record
        yield record


def scan(path) -> Iterator[bytes | DataError]:
    """Yields the raw records of a file, a `DataError` in the place of each damaged one, and goes on after it."""
    offsets = _offsets(path)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        rest = path
        while done < len(offsets):
            try:
                for record in tf.data.TFRecordDataset(str(rest)).as_numpy_iterator():
                    yield record
                    done += 1
                if done == len(offsets):
                    return
            except (tf.errors.DataLossError, tf.errors.OutOfRangeError):
                pass
            yield DataError("the file is damaged there or cut short (wrong checksum)")
            done += 1
            # TensorFlow's reader does not go on within a file: it is given what follows the damage as another one.
            if done < len(offsets):
                rest = Path(folder) / "rest"
                with open(path, "rb") as source, open(rest, "wb") as target:
                    source.seek(offsets[done])
                    shutil.copyfileobj(source, target)


def _offsets(path) -> list[int]:
    """Returns where each record of a TFRecord file starts; the last may be cut short.

    A record is its length (8 bytes, little-endian), a checksum of that (4), the data and their checksum (4).
    """
    offsets, position, size = [], 0, Path(path).stat().st_size
    with open(path, "rb") as file:
        while position < size:
            offsets.append(position)
            file.seek(position)
            position += 16 + int.from_bytes(file.read(8), "little")
    return offsets


def from_record(serialized: bytes, channels: int | None = None, default_key: str = "") -> Example:
    """Decodes one record with the same operations as `parse`, and checks more.

    Raises:
        DataError: It cannot be decoded, is of no known schema, or its parts differ in size.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # protobuf's DecodeError has no public name that all its versions share
        raise DataError("is no tf.train.Example") from error
    if "image_raw" in features:
        return _from_original(features, default_key)
    if "image/encoded" not in features:
        raise DataError(f"is of no known schema: expected image/encoded or image_raw, found {sorted(features)}")
    example = _from_features(features, channels, default_key)
    for name in ("mask", "instances", "weight"):
        array = getattr(example, name)
        if array is not None and array.shape != example.image.shape[:2]:
            raise DataError(f"{example.key}: {name} is {array.shape}, but the image {example.image.shape[:2]}")
    return example


def _from_features(features, channels, default_key) -> Example:
    key = (_bytes(features, "image/filename") or default_key.encode()).decode(errors="replace")
    encoded = _bytes(features, "image/encoded")
    form = (_bytes(features, "image/format") or b"").decode(errors="replace").lower()
    is_raw = form == "raw"
    instances = _map(features, "image/segmentation/instance/encoded", key, tf.uint16)
    weight = _map(features, "image/segmentation/weight/encoded", key, tf.uint16)
    return Example(
        key=key,
        image=_raw_image(features, encoded, key) if is_raw else _image(features, encoded, channels, key),
        mask=_map(features, "image/segmentation/class/encoded", key, tf.uint8),
        instances=instances,
        weight=None if weight is None else weight.astype(np.float32) / WEIGHT_SCALE,
        proposals=_boxes(features, "image/proposal/bbox", key),
        image_bytes=None if is_raw else encoded,
        image_format=None if is_raw else {"jpg": "jpeg"}.get(form, form),
    )


def _image(features, encoded, channels, key) -> np.ndarray:
    if channels is None:
        channels = _integer(features, "image/channels") or 3
    is_16_bit = encoded[:4] == b"\x89PNG" and encoded[24:25] == b"\x10"
    try:
        return decode_image(encoded, channels, 16 if is_16_bit else 8).numpy()
    except tf.errors.OpError as error:
        raise DataError(f"{key}: the image does not decode ({_brief(error)})") from error


def _raw_image(features, encoded, key) -> np.ndarray:
    shape = [_integer(features, f"image/{name}") for name in ("height", "width", "channels")]
    if None in shape or len(encoded) != 4 * np.prod(shape):
        raise DataError(f"{key}: {len(encoded)} bytes of raw float32 do not fill the shape {shape}")
    return np.frombuffer(encoded, "<f4").reshape(shape).astype(np.float32)


def _map(features, name, key, dtype) -> np.ndarray | None:
    encoded = _bytes(features, name)
    if not encoded:
        return None
    if encoded[:4] != b"\x89PNG" or encoded[25:26] != b"\x00":
        raise DataError(
            f"{key}: {name} is no one-channel PNG (a palette or colour PNG is not decoded to class ids in a graph); "
            "store the ids themselves"
        )
    try:
        return tf.io.decode_png(encoded, channels=1, dtype=dtype).numpy()[..., 0]
    except tf.errors.OpError as error:
        raise DataError(f"{key}: {name} does not decode ({_brief(error)})") from error


def _boxes(features, prefix, key) -> np.ndarray | None:
    names = [f"{prefix}/{side}" for side in SIDES]
    if not any(name in features for name in names):
        return None
    sides = [features[name].float_list.value if name in features else () for name in names]
    if len({len(side) for side in sides}) > 1:
        raise DataError(f"{key}: {prefix} has {', '.join(str(len(side)) for side in sides)} values of {SIDES}")
    return np.array(sides, np.float32).T.reshape(-1, 4)


def _from_original(features, key) -> Example:
    height, width = (_integer(features, name) for name in ("height", "width"))
    image, mask = (np.frombuffer(_bytes(features, name) or b"", np.uint8) for name in ("image_raw", "annotation_raw"))
    if None in (height, width) or image.size != height * width * 3 or mask.size != height * width:
        raise DataError(
            f"image_raw has {image.size} bytes and annotation_raw {mask.size}; expected H*W*3 and H*W, "
            f"height {height} and width {width}"
        )
    return Example(key=key, image=image.reshape(height, width, 3), mask=mask.reshape(height, width))


def _bytes(features, name) -> bytes | None:
    values = features[name].bytes_list.value if name in features else ()
    return values[0] if len(values) else None


def _integer(features, name) -> int | None:
    values = features[name].int64_list.value if name in features else ()
    return int(values[0]) if len(values) else None


def _brief(error) -> str:
    """TensorFlow's message without its preamble about nodes and devices."""
    text = getattr(error, "message", str(error)).split("}} ")[-1]
    return text.split("[Op:")[0].split("\n")[0].strip().rstrip(".")
