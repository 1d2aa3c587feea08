"""Damages files at random and reads them, in a process of its own: what crashes or hangs takes no test with it.

    PYTHONPATH=.:tools python tests/_damages.py FIRST LAST [KIND]    damages of these numbers

Damage i is of the kind i modulo the number of kinds, and drawn from the seed i: each is repeated by its number.
"""

import contextlib
import dataclasses
import faulthandler
import functools
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _convert
import cv2
import numpy as np
import scipy.io
import scipy.sparse
import tensorflow as tf
import tifffile
from PIL import Image

from kerasseg import pipeline, records
from kerasseg.spec import DataError, DatasetSpec, voc_palette

MEMORY = 2**30
"""Bytes by which reading one damaged file may raise the peak: what the largest legal picture takes is not asked for."""

CLASSES = "background 0 0 0\ncell 128 0 0\nrim 0 128 0\n"


@dataclasses.dataclass(frozen=True)
class Kind:
    """Files of one sort.

    Attributes:
        data: A whole file.
        suffix: Of its name.
        read: Takes a path, returns arrays or values; what is read of a damaged file must pass `legal`.
        legal: Whether a result keeps the promises of the function that read it.
        exact: Whether checksums guard every byte: then what is read of a damaged file must be what was written.
        has_end: Whether a file that is cut off can be told from a whole one.
    """

    data: bytes
    suffix: str
    read: Callable
    legal: Callable
    exact: bool = False
    has_end: bool = True


def smooth(channels, dtype=np.uint8, height=37, width=45):
    """A picture with some noise, [H, W, C], or [H, W] of one channel."""
    rng = np.random.default_rng(0)
    top = 65535 if dtype == np.uint16 else 255
    planes = [
        cv2.resize(rng.random((5, 6)), (width, height)) + rng.random((height, width)) / 9 for _ in range(channels)
    ]
    image = (np.stack(planes, -1).clip(0, 1) * top).astype(dtype)
    return image[..., 0] if channels == 1 else image


def labels(dtype=np.uint8, values=(0, 1, 2, 255)):
    """Smooth regions, [H, W]."""
    return np.array(values, dtype)[(smooth(1) // 64).clip(0, 3)]


def saved(array, form, mode=None, **options):
    """Returns a file's bytes as Pillow writes them."""
    image = Image.fromarray(array)
    if mode == "P":
        image = Image.fromarray(array, "P")
        image.putpalette(voc_palette().ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(pages, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pages, **options)
    return buffer.getvalue()


def pages_lzw():
    pages = [Image.fromarray(labels(np.uint16, (0, 3, 700, 9)) + i) for i in range(3)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    return buffer.getvalue()


def mat(field):
    mask = labels(values=(0, 1, 2, 15))
    boundaries = np.empty((3, 1), object)
    for i in range(3):
        boundaries[i, 0] = scipy.sparse.csc_matrix(np.diff(mask, prepend=0) != 0)
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.array([[1], [15]], np.uint8)}
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {field: content}, do_compression=True)
    return buffer.getvalue()


def examples():
    mask = labels()
    more = {"instances": labels(np.uint16, (0, 3, 700, 9)), "weight": (mask / 9).astype(np.float32)}
    jpeg = saved(smooth(3), "JPEG")
    image = np.asarray(Image.open(io.BytesIO(jpeg)))
    return [
        records.Example("a", image, mask, image_bytes=jpeg, image_format="jpeg", **more),
        records.Example("b", smooth(3), mask, **more),
    ]


@functools.cache
def shard() -> tuple[bytes, bytes]:
    """Returns a record file and its dataset.json."""
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent) / "tiny"
        spec = DatasetSpec("tiny", ("background", "cell", "rim"))
        records.write(path, spec, {"train": examples()}, num_shards=1, progress=False)
        return records.shard_paths(path, "train")[0].read_bytes(), (path / "dataset.json").read_bytes()


def read_shard(path):
    """All the ways in which a record file is read; they have to agree."""
    (path.parent / "dataset.json").write_bytes(shard()[1])
    path.rename(path.with_name("tiny-train.tfrecord-00000-of-00001"))
    (name,) = DatasetSpec.load(path.parent).splits["train"].files
    counted = sum(isinstance(record, bytes) for record in records.scan(path.with_name(name)))
    try:
        found = list(records.read(path.parent, "train"))
    except DataError:
        if counted % 2:  # building a pipeline takes longer than all the rest
            raise
        with contextlib.suppress(DataError), pipeline.naming_damage(path.parent):
            for _ in pipeline.eval_images(path.parent, "train"):
                pass
            raise ValueError("eval_images reads what read refuses") from None
        raise
    if counted != len(found):
        raise ValueError(f"scan gives {counted} records, read {len(found)}")
    return [array for e in found for array in (e.image, e.mask, e.instances, e.weight)]


def read_record(path):
    """A record whose checksum fits, whatever it holds: in NumPy, in a graph and by OpenCV.

    In a graph only where it is a tf.train.Example at all: TensorFlow's own parser crashes on some that are none, where
    a length within claims more than is there. On disk the checksum guards against that; a faulty writer's records
    have to go through check_data.py, which does without that parser.
    """
    serialized = path.read_bytes()
    example = records.from_record(serialized, 3)
    with contextlib.suppress(tf.errors.OpError, UnicodeDecodeError):
        parsed = records.parse(tf.constant(serialized), channels=3, weight=True, instances=True)
        if len({tuple(parsed[name].shape[:2]) for name in ("image", "mask", "weight", "instances")}) > 1:
            raise ValueError("parse gives arrays of several sizes")
    features = tf.train.Example.FromString(serialized).features.feature
    for name, stored in (("image", "image"), ("mask", "image/segmentation/class")):
        if getattr(example, name) is None:
            continue
        encoded = b"".join(features[f"{stored}/encoded"].bytes_list.value[:1])
        decoded = records.decode_image_cv(encoded, 3, 8) if name == "image" else records.decode_map_cv(encoded, name)
        if not np.array_equal(decoded, getattr(example, name)):
            raise ValueError(f"OpenCV decodes another {name}")
    return [getattr(example, name) for name in ("image", "mask", "instances", "weight")]


def read_spec(path):
    path.rename(path.with_name("dataset.json"))
    return DatasetSpec.load(path.parent)


def legal_image(image):
    return image.ndim == 3 and image.size and image.dtype in (np.uint8, np.uint16, np.float32)


def legal_arrays(arrays):
    sizes = {array.shape[:2] for array in arrays if array is not None}
    return legal_image(arrays[0]) and (len(sizes) == 1 or len(arrays) > 4)


def legal_map(array):
    return array.ndim == 2 and array.size and array.dtype.kind in "iu"


def legal_mask(array):
    return array.ndim == 2 and array.size and array.dtype == np.uint8


def legal_spec(spec):
    names = all(isinstance(name, str) for name in (spec.name, *spec.class_names))
    counts = [n for s in spec.splits.values() for n in (s.num_examples, s.ignored_pixels, *s.class_pixels)]
    files = [file for s in spec.splits.values() for file in s.files]
    return (
        names
        and all(isinstance(n, int) and n >= 0 for n in counts)
        and all(isinstance(file, str) for file in files)
        and spec.palette_256().shape == (256, 3)
        and spec.ignore_label == 255
        and spec.bit_depth in (8, 16, 32)
        and isinstance(spec.channels, int)
        and spec.channels >= 1
    )


def _or_fault(read, *arguments):
    try:
        return read(*arguments)
    except DataError as fault:
        return fault


def kinds() -> dict[str, Kind]:
    def image(path):
        return records.read_image(path).image

    def three(path):
        with_pixels, without = (_or_fault(records.read_image, path, 3, pixels) for pixels in (True, False))
        if isinstance(with_pixels, DataError) != isinstance(without, DataError):
            raise ValueError(f"without pixels: {without!r:.200}; with them: {with_pixels!r:.200}")
        if isinstance(with_pixels, DataError):
            raise with_pixels
        return with_pixels.image

    colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)])
    record = next(iter(tf.data.TFRecordDataset(str(_temporary(shard()[0]))).as_numpy_iterator()))
    spec = DatasetSpec("tiny", ("background", "cell"), splits={}).to_dict()
    spec["splits"] = {"train": {"num_examples": 2, "files": ["a", "b"], "class_pixels": [3, 4], "ignored_pixels": 0}}
    volume = np.stack([smooth(1)] * 3)
    return {
        "JPEG": Kind(saved(smooth(3), "JPEG", quality=90), ".jpg", three, legal_image),
        "progressive JPEG": Kind(saved(smooth(3), "JPEG", progressive=True), ".jpg", three, legal_image),
        "grey JPEG": Kind(saved(smooth(1), "JPEG"), ".jpg", three, legal_image),
        "PNG": Kind(saved(smooth(3), "PNG"), ".png", image, legal_image, exact=True),
        "RGBA PNG": Kind(saved(smooth(4), "PNG"), ".png", image, legal_image, exact=True),
        "16-bit PNG": Kind(saved(smooth(1, np.uint16), "PNG"), ".png", image, legal_image, exact=True),
        "palette PNG": Kind(saved(labels(), "PNG", "P"), ".png", records.read_mask, legal_mask, exact=True),
        "2-bit palette": Kind(
            saved(labels(values=range(4)), "PNG", "P", bits=2), ".png", records.read_mask, legal_mask, exact=True
        ),
        "grey PNG": Kind(saved(labels(), "PNG"), ".png", records.read_mask, legal_mask, exact=True),
        "16-bit labels": Kind(
            saved(labels(np.uint16, (0, 3, 700, 9)), "PNG"), ".png", records.read_labels, legal_map, exact=True
        ),
        "colour mask": Kind(
            saved(colours.astype(np.uint8)[labels(values=(0, 1, 2, 2))], "PNG"),
            ".png",
            lambda path: records.read_mask(path, colours=colours),
            legal_mask,
            exact=True,
        ),
        "LZW TIFF": Kind(pages_lzw(), ".tif", records.read_pages, lambda a: a.ndim in (3, 4) and a.size),
        "deflate TIFF": Kind(
            tiff(volume, compression="zlib"), ".tif", records.read_pages, lambda a: a.ndim in (3, 4) and a.size
        ),
        "TIFF": Kind(tiff(smooth(3, np.uint16), photometric="rgb"), ".tif", image, legal_image),
        "LZW RGB TIFF": Kind(cv2.imencode(".tif", smooth(3, np.uint16))[1].tobytes(), ".tif", image, legal_image),
        "TIFF labels": Kind(
            saved(labels(np.uint16, (0, 3, 700, 9)), "TIFF", compression="tiff_lzw"),
            ".tif",
            records.read_labels,
            legal_map,
        ),
        "BMP": Kind(saved(smooth(3), "BMP"), ".bmp", image, legal_image),
        "GIF": Kind(saved(smooth(1), "GIF"), ".gif", image, legal_image),
        "WebP": Kind(saved(smooth(3), "WEBP"), ".webp", image, legal_image),
        "PGM": Kind(saved(smooth(1), "PPM"), ".pgm", image, legal_image),
        "SBD classes": Kind(mat("GTcls"), ".mat", records.read_sbd, legal_mask),
        "SBD instances": Kind(mat("GTinst"), ".mat", lambda path: records.read_sbd(path, "GTinst"), legal_map),
        "list": Kind(
            b"2007_000032\n2007_000039 a\n/CamVid/b.png c\n",
            ".txt",
            _convert.read_list,
            lambda names: all(isinstance(n, str) for n in names),
            has_end=False,
        ),
        "classes": Kind(
            CLASSES.encode(),
            ".txt",
            _convert.read_classes,
            lambda found: len(found[0]) == len(set(found[0])) > 0,
            has_end=False,
        ),
        "dataset.json": Kind(json.dumps(spec, indent=1).encode(), ".json", read_spec, legal_spec),
        "record file": Kind(shard()[0], ".tfrecord", read_shard, legal_arrays, exact=True),
        "record": Kind(record, ".bin", read_record, legal_arrays, has_end=False),
    }


def _temporary(data: bytes) -> Path:
    path = Path(tempfile.mkdtemp()) / "file"
    path.write_bytes(data)
    return path


def damage(data: bytes, rng) -> tuple[str, bytes]:
    """Returns what is done to a file's bytes, and the damaged ones."""
    size = len(data)
    place = int(rng.integers(size)) if rng.random() < 0.7 else int(rng.integers(min(size, 64)))
    length = int(min(size - place, 2 ** rng.integers(1, 9)))
    rubbish = rng.integers(0, 256, length).astype(np.uint8).tobytes()
    what = rng.choice(["cut", "flip", "flip", "flips", "overwrite", "insert", "delete", "zero", "ones"])
    if what == "cut":
        return f"cut at {place}", data[:place]
    if what in ("flip", "flips"):
        broken = bytearray(data)
        places = [place] if what == "flip" else rng.integers(0, size, int(rng.integers(2, 9))).tolist()
        for i in places:
            broken[i] ^= 1 << int(rng.integers(8))
        return f"a bit flipped at {places}", bytes(broken)
    put = {"overwrite": rubbish, "insert": rubbish, "delete": b"", "zero": bytes(length), "ones": b"\xff" * length}[
        what
    ]
    return f"{what} {length} at {place}", data[:place] + put + data[place + (0 if what == "insert" else length) :]


def same(a, b) -> bool:
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return np.array_equal(a, b)


def wrong(kind: Kind, what: str, data: bytes, whole) -> str | None:
    """Reads a damaged file; returns what is wrong with how it was read, None where nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{kind.suffix}"
        path.write_bytes(data)
        before = _peak()
        try:
            found = kind.read(path)
        except DataError as error:
            if _peak() - before > MEMORY:
                return f"the peak of the memory rose by {(_peak() - before) >> 20} MiB"
            named = str(path.parent) in str(error) or kind.suffix == ".bin"
            return None if named else f"the error names no file: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if _peak() - before > MEMORY:
            return f"the peak of the memory rose by {(_peak() - before) >> 20} MiB"
    if not kind.legal(found):
        return f"illegal: {getattr(found, 'shape', found)} {getattr(found, 'dtype', '')}"
    if (kind.exact or (what.startswith("cut") and kind.has_end)) and not same(found, whole):
        return "other content was read than written"
    return None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(first: int, last: int, only: str = "") -> None:
    faulthandler.enable()
    table = {name: kind for name, kind in kinds().items() if name.startswith(only)}
    names, slowest = list(table), 0
    whole = {name: table[name].read(_named(kind)) for name, kind in table.items()}
    for number in range(first, last):
        name = names[number % len(names)]
        what, data = damage(table[name].data, np.random.default_rng(number))
        print(f"at {number} {name}: {what}", flush=True)
        started = time.process_time()
        fault = wrong(table[name], what, data, whole[name])
        took = time.process_time() - started
        slowest = max(slowest, took)
        if took > 3:
            print(f"slow: {took:.1f} s", flush=True)
        if fault:
            print(f"WRONG {number} {name}: {what}: {fault}", flush=True)
    print(f"done {last - first}, slowest {slowest:.1f}", flush=True)


def _named(kind: Kind) -> Path:
    path = _temporary(kind.data)
    return path.rename(path.with_suffix(kind.suffix))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
