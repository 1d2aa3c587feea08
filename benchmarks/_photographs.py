"""Photographs with masks for the benchmarks of data: real ones of VOC where they are there, else generated ones."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from kerasseg import records
from kerasseg._opencv import cv2
from kerasseg.spec import VOC_CLASS_NAMES, DatasetSpec, voc_palette

ROOT = Path(__file__).resolve().parent.parent
TEST_DATA = Path(os.environ.get("KERASSEG_TEST_DATA", ROOT.parent / "shared"))
VOC = TEST_DATA / "data" / "voc" / "VOCdevkit" / "VOC2012"


def photographs() -> tuple[str, list[tuple[bytes, np.ndarray]]]:
    """Returns what they are, and for each its JPEG file and its mask uint8 [H, W]."""
    if paths := _voc_images():
        pairs = [(path.read_bytes(), records.read_mask(_voc_mask(path))) for path in paths]
        return f"{len(pairs)} photographs of VOC 2012, {_mean_kb(pairs)} KB of JPEG on average", pairs
    pairs = [_generated(np.random.default_rng(i)) for i in range(24)]
    return f"{len(pairs)} generated pictures of 500x375, {_mean_kb(pairs)} KB of JPEG on average", pairs


def photograph_records(directory: Path, count: int, num_shards: int = 4) -> str:
    """Converts `count` photographs, one split "train", unless that was done before; returns what they are."""
    what, pairs = photographs()
    if not directory.exists():
        examples = [photograph_example(i, *pairs[i % len(pairs)]) for i in range(count)]
        spec = DatasetSpec("photographs", VOC_CLASS_NAMES)
        records.write(directory, spec, {"train": examples}, num_shards=num_shards, progress=False)
    return what


def photograph_example(index: int, data: bytes, mask: np.ndarray):
    """Returns a call that decodes a photograph, for `records.write`."""

    def make():
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        return records.Example(f"{index:05}", image, mask, image_bytes=data, image_format="jpeg")

    return make


def voc_tree(folder: Path, count: int) -> str:
    """Lays out `count` photographs as VOC does (palette PNGs, one list "train") and returns what they are."""
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    what, pairs = photographs()
    files = [(data, _palette_png(mask)) for data, mask in pairs]
    if paths := _voc_images():
        files = [(path.read_bytes(), _voc_mask(path).read_bytes()) for path in paths]
    names = [f"{i:06}" for i in range(count)]
    for i, name in enumerate(names):
        image, mask = files[i % len(files)]
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(image)
        (folder / "SegmentationClass" / f"{name}.png").write_bytes(mask)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names) + "\n")
    return what


def _palette_png(mask):
    image, data = Image.fromarray(mask), io.BytesIO()
    image.putpalette(voc_palette().ravel().tolist())
    image.save(data, "png")
    return data.getvalue()


def _voc_images():
    return sorted((VOC / "JPEGImages").glob("*.jpg")) if VOC.is_dir() else []


def _voc_mask(path):
    return VOC / "SegmentationClassAug" / (path.stem + ".png")


def _mean_kb(pairs):
    return round(np.mean([len(data) for data, _ in pairs]) / 1024)


def _generated(rng, height=375, width=500):
    """Noise of a photograph's spectrum (amplitude falls with frequency), and smooth regions with a void border."""
    image = np.full((height, width, 3), 110.0, np.float32)
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        noise = rng.normal(size=(cells * height // width + 1, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) * 60 / cells**0.35
    image = np.clip(image + rng.normal(scale=3, size=image.shape), 0, 255).astype(np.uint8)
    field = cv2.resize(rng.normal(size=(5, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.where(field > 0.6, rng.integers(1, 21), 0).astype(np.uint8)
    mask[cv2.dilate(mask, np.ones((5, 5))) != cv2.erode(mask, np.ones((5, 5)))] = 255
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes(), mask
