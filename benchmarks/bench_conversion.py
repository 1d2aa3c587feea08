"""Images a second of the conversion of VOC against usual ways of writing its records.

    python benchmarks/bench_conversion.py

Each converts the same photographs with palette masks from the page cache into record files: ours as the tool
does it, with all its checks and counts; the others as loops in one thread.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import _rates

PILLOW, DEEPLAB = "Pillow, mask decoded and encoded", "TensorFlow DeepLab's scripts"


def ours(tree: Path, output: Path, workers: int) -> None:
    import convert_voc

    options = ["--voc", tree, "--output", output, "--splits", "train", "--overwrite", "--workers", workers]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        convert_voc.main([str(option) for option in options])


def pillow(tree: Path, output: Path) -> None:
    """Copies the JPEG and has Pillow turn the palette PNG into a grey one."""
    from PIL import Image

    def record(image_path, mask_path):
        with Image.open(image_path) as image:
            width, height = image.size
        mask = io.BytesIO()
        Image.fromarray(_labels(mask_path)).save(mask, "png")
        return _example(image_path, image_path.read_bytes(), mask.getvalue(), height, width)

    _write(tree, output, record)


def tensorflow_deeplab(tree: Path, output: Path) -> None:
    """Both its steps: colours are taken off the masks into new files, then all is decoded to compare sizes.

    Source: tensorflow/models `research/deeplab/datasets` `remove_gt_colormap.py`, `build_data.py`. Decodes eagerly
    where these run a session.
    """
    import tensorflow as tf
    from PIL import Image

    grey = output.with_suffix(".masks")
    grey.mkdir(exist_ok=True)

    def record(image_path, mask_path):
        mask_file = grey / mask_path.name
        with tf.io.gfile.GFile(str(mask_file), "wb") as file:
            Image.fromarray(_labels(mask_path)).save(file, "png")
        data, mask = (tf.io.gfile.GFile(str(path), "rb").read() for path in (image_path, mask_file))
        height, width = tf.io.decode_jpeg(data, channels=3).shape[:2]
        if tf.io.decode_png(mask, channels=1).shape[:2] != (height, width):
            raise RuntimeError("Shape mismatched between image and label.")
        return _example(image_path, data, mask, height, width)

    _write(tree, output, record)


def original(tree: Path, output: Path) -> None:
    """sthalles/deeplab_v3's: everything decoded and stored raw."""
    import numpy as np
    from PIL import Image

    def record(image_path, mask_path):
        image, mask = np.array(Image.open(image_path)), _labels(mask_path)
        arrays = {"image_raw": image.tobytes(), "annotation_raw": mask.tobytes()}
        return _serialized(arrays | {"height": mask.shape[0], "width": mask.shape[1]})

    _write(tree, output, record)


def _labels(path):
    import numpy as np
    from PIL import Image

    return np.array(Image.open(path))


def _example(path, data, mask, height, width) -> bytes:
    return _serialized(
        {
            "image/encoded": data,
            "image/filename": path.stem.encode(),
            "image/format": b"jpeg",
            "image/height": height,
            "image/width": width,
            "image/channels": 3,
            "image/segmentation/class/encoded": mask,
            "image/segmentation/class/format": b"png",
        }
    )


def _serialized(features) -> bytes:
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = tf.train.Features(feature={name: feature(value) for name, value in features.items()})
    return tf.train.Example(features=features).SerializeToString()


def _write(tree, output, record) -> None:
    import tensorflow as tf

    names = (tree / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    with tf.io.TFRecordWriter(str(output)) as writer:
        for name in names:
            writer.write(record(tree / "JPEGImages" / f"{name}.jpg", tree / "SegmentationClass" / f"{name}.png"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="conversions of each (default: 5)")
    parser.add_argument("--images", type=int, default=1000, help="to convert; photographs repeat (default: 1000)")
    parser.add_argument("--only", default="", help="only those with one of these, parted by commas, in their name")
    parser.add_argument("--json", type=Path, help="file to write all samples to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        tree = folder / "VOC2012"
        from _photographs import voc_tree

        what = voc_tree(tree, options.images)
        calls = {
            "kerasseg, 1 worker": lambda: ours(tree, folder / "one", 1),
            "kerasseg, 2 workers": lambda: ours(tree, folder / "two", 2),
            PILLOW: lambda: pillow(tree, folder / "pillow.tfrecord"),
            DEEPLAB: lambda: tensorflow_deeplab(tree, folder / "deeplab.tfrecord"),
            "original project's, raw": lambda: original(tree, folder / "original.tfrecord"),
        }
        wanted = options.only.split(",")
        calls = {name: call for name, call in calls.items() if any(part in name for part in wanted)}
        samples = _rates.repeated(calls, options.images, options.rounds)
    rows = _rates.summary(samples, (PILLOW, DEEPLAB))
    print(f"\n### VOC to records: {options.images} from {what}\n\n{_rates.table(rows, {})}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"data": what, "sources": rows}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
    main()
