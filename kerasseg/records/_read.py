"""Reading records as NumPy arrays, for tools and tests; training reads them with `parse` in `tf.data`."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kerasseg.records._example import SIDES, WEIGHT_SCALE, Example
from kerasseg.records._files import check_size
from kerasseg.records._frames import scan
from kerasseg.records._parse import decode_image
from kerasseg.spec import DataError, DatasetSpec

_PNG = b"\x89PNG"


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
            (height, width), (rows, columns) = example.image.shape[:2], array.shape
            swapped = ": width and height are swapped" if (rows, columns) == (width, height) else ""
            raise DataError(f"{example.key}: {name} is {columns}x{rows}, but the image {width}x{height}{swapped}")
    return example


def _from_features(features, channels, default_key) -> Example:
    key = (_bytes(features, "image/filename") or default_key.encode()).decode(errors="replace")
    encoded = _bytes(features, "image/encoded")
    if encoded is None:
        raise DataError(f"{key}: image/encoded holds no bytes; expected a JPEG or PNG file")
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
        image_format=None
        if is_raw
        else "png"
        if encoded[:4] == _PNG
        else "jpeg",  # TensorFlow's scripts say "png" of both
    )


def _image(features, encoded, channels, key) -> np.ndarray:
    if channels is None:
        channels = _integer(features, "image/channels") or 3
    is_16_bit = encoded[:4] == _PNG and encoded[24:25] == b"\x10"
    _check_size(encoded, key)
    try:
        return decode_image(encoded, channels, 16 if is_16_bit else 8).numpy()
    except tf.errors.OpError as error:
        raise DataError(f"{key}: the image does not decode ({_brief(error)})") from error


def _check_size(encoded: bytes, key: str) -> None:
    """Refuses pictures of more pixels than are read, before memory is asked for them."""
    if encoded[:4] == _PNG:
        check_size(key, int.from_bytes(encoded[16:20], "big"), int.from_bytes(encoded[20:24], "big"))
        return
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            check_size(key, *image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{key}: the image does not decode as JPEG or PNG ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).split(": <_io")[0]


def _raw_image(features, encoded, key) -> np.ndarray:
    shape = [_integer(features, f"image/{name}") for name in ("height", "width", "channels")]
    if None in shape or len(encoded) != 4 * np.prod(shape):
        raise DataError(f"{key}: {len(encoded)} bytes of raw float32 do not fill the shape {shape}")
    return np.frombuffer(encoded, "<f4").reshape(shape).astype(np.float32)


def _map(features, name, key, dtype) -> np.ndarray | None:
    encoded = _bytes(features, name)
    if not encoded:
        return None
    if encoded[:4] != _PNG or encoded[25:26] != b"\x00":
        raise DataError(
            f"{key}: {name} is no one-channel PNG (a palette or colour PNG is not decoded to class ids in a graph); "
            "store the ids themselves"
        )
    bits = 8 * dtype.size
    if encoded[24] != bits:  # a decoder would spread the values over the other range
        raise DataError(f"{key}: {name} is a PNG of {encoded[24]} bits; expected {bits}")
    _check_size(encoded, key)
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
