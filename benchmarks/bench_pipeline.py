"""Images a second of the input pipeline against its peers and against decoding alone.

    python benchmarks/bench_pipeline.py                     (all that can be imported here: pip install -e ".[bench]")
    python benchmarks/bench_pipeline.py --only kerasseg --rounds 5

Training batches for DeepLab: JPEG and PNG in records to 8 x 513x513, scale 0.5-2, random crop, flip, with and without
colour distortion. Everything reads the same photographs and masks, from the page cache. Photographs of VOC 2012 are
taken where they are there (KERASSEG_TEST_DATA), else generated ones; the output says which.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib
import itertools
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _rates
import numpy as np

BATCH, SIZE = 8, (513, 513)
TF_CEILING, CV_CEILING, ORIGINAL = "decode only, tf.data", "decode only, OpenCV, 2 threads", "original, AUTOTUNE"
ALBUMENTATIONS = "albumentations, DataLoader, 2 workers"
COLOURED = ALBUMENTATIONS + ", colour"


class Data:
    """The same photographs as records of this package, as raw records of the original project, and as files."""

    def __init__(self, folder: Path, images: int):
        from _photographs import photograph_example, photograph_records, photographs

        from kerasseg import records

        self.directory = folder / "photographs"
        self.what = photograph_records(self.directory, images)
        _, pairs = photographs()
        examples = [photograph_example(i, *pairs[i % len(pairs)]) for i in range(images)]
        self.records = [str(path) for path in records.shard_paths(self.directory, "train")]
        self.encoded = [_encoded(serialized) for serialized in _serialized(self.records)]
        self.files = [_as_files(folder, i, *parts) for i, parts in enumerate(self.encoded)]
        self.raw = [_as_raw(folder, examples)]


def _serialized(files):
    import tensorflow as tf

    return tf.data.TFRecordDataset(files).as_numpy_iterator()


def _encoded(serialized) -> tuple[bytes, bytes]:
    import tensorflow as tf

    features = tf.train.Example.FromString(serialized).features.feature
    return tuple(features[name].bytes_list.value[0] for name in ("image/encoded", "image/segmentation/class/encoded"))


def _as_files(folder, index, image, mask) -> tuple[str, str]:
    paths = folder / f"{index:05}.jpg", folder / f"{index:05}.png"
    for path, data in zip(paths, (image, mask), strict=True):
        path.write_bytes(data)
    return tuple(map(str, paths))


def _as_raw(folder, examples) -> str:
    import tensorflow as tf

    path = str(folder / "raw.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for make in examples:
            example = make()
            sides = {name: [side] for name, side in zip(("height", "width"), example.mask.shape, strict=True)}
            arrays = {"image_raw": [example.image.tobytes()], "annotation_raw": [example.mask.tobytes()]}
            feature = {name: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for name, v in sides.items()}
            feature |= {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)) for name, v in arrays.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    return path


def opencv_decode_only(encoded, threads=2):
    """The ceiling of what OpenCV decodes: whole images and masks, a batch at a time, nothing done with them."""
    from kerasseg._opencv import cv2

    def decode(pair):
        image, mask = (np.frombuffer(data, np.uint8) for data in pair)
        return cv2.imdecode(image, cv2.IMREAD_COLOR_RGB), cv2.imdecode(mask, cv2.IMREAD_UNCHANGED)

    with ThreadPoolExecutor(threads) as pool:
        for start in itertools.count(step=BATCH):
            list(pool.map(decode, (encoded[(start + i) % len(encoded)] for i in range(BATCH))))
            yield


def ours(data):
    """Returns the sources made of this package."""
    from kerasseg.augment import ColourRange
    from kerasseg.pipeline import presets, train_batches

    coloured = dataclasses.replace(presets.deeplab_paper, colour=ColourRange())
    batches = functools.partial(train_batches, data.directory, "train", BATCH, SIZE, seed=0)
    sources = {"kerasseg, the original's preset, exact colour": batches(presets.deeplab_original)}
    for engine, title in (("opencv", "OpenCV"), ("tensorflow", "TensorFlow")):
        for compact, dtype in ((True, "uint8"), (False, "float32")):
            for preset, colour in ((presets.deeplab_paper, ""), (coloured, ", colour")):
                made = batches(preset, engine=engine, compact=compact)
                sources[f"kerasseg, {title}, {dtype}{colour}"] = made
    return sources


def peers(data):
    """Returns the sources of the others in TensorFlow."""
    import _tensorflow_pipelines as pipelines
    import tensorflow as tf

    return {
        TF_CEILING: pipelines.decode_only(data.records, BATCH),
        "original, as it was": pipelines.original(data.raw, BATCH, SIZE),
        ORIGINAL: pipelines.original(data.raw, BATCH, SIZE, tf.data.AUTOTUNE),
        "TensorFlow DeepLab": pipelines.tensorflow_deeplab(data.records, BATCH, SIZE),
        "TensorFlow DeepLab, colour": pipelines.tensorflow_deeplab(data.records, BATCH, SIZE, colour=True),
    }


def optional_peers(data, closing: contextlib.ExitStack):
    """Returns sources that need more than this package does, and why others cannot run; `closing` ends processes."""
    sources, skipped = {}, {}
    with _skipping(skipped, "Keras Random* layers"):
        import _tensorflow_pipelines as pipelines

        layers = pipelines.keras_layers(data.records, BATCH, SIZE)
        sources["Keras Random* layers, colour"] = lambda: iter(layers)
    with _skipping(skipped, "albumentations with PyTorch"):
        peer = importlib.import_module("_albumentations_pipeline")
        for name, colour in ((ALBUMENTATIONS, False), (COLOURED, True)):
            loaded = closing.enter_context(contextlib.closing(peer.loader(data.files, BATCH, SIZE, 2, colour)))
            sources[name] = lambda loaded=loaded: loaded
    return sources, skipped


@contextlib.contextmanager
def _skipping(skipped, name):
    try:
        yield
    except (ImportError, AttributeError) as error:
        skipped[name] = str(error).splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="samples of each source (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a sample (default: 2)")
    parser.add_argument("--images", type=int, default=1000, help="records; photographs repeat (default: 1000)")
    parser.add_argument("--only", default="", help="only sources with one of these, parted by commas, in their name")
    parser.add_argument("--json", type=Path, help="file to write all samples to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as closing:
        data = Data(Path(folder), options.images)
        sources = {name: lambda batches=batches: iter(batches) for name, batches in (peers(data) | ours(data)).items()}
        sources[CV_CEILING] = lambda: opencv_decode_only(data.encoded)
        optional, skipped = optional_peers(data, closing)
        sources |= optional
        wanted = options.only.split(",")
        sources = {name: source for name, source in sources.items() if any(part in name for part in wanted)}
        samples = _rates.sampled(sources, BATCH, options.rounds, options.seconds)
    rows = _rates.summary(samples, (CV_CEILING, ORIGINAL, ALBUMENTATIONS, COLOURED))
    title = f"Batches of {BATCH} x {SIZE[0]}x{SIZE[1]} from {data.what}"
    print(f"\n### {title}\n\n{_rates.table(rows, skipped)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"data": data.what, "sources": rows, "skipped": skipped}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
