"""Writing a version of a model, whole or not at all."""

import datetime
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorflow import keras

from kerasseg._version import versions
from kerasseg.export._baked import baked
from kerasseg.export._signatures import DECODABLE_CHANNELS, MAX_PIXELS, Signatures
from kerasseg.export._verify import TOLERANCES, sizes_compared, verify
from kerasseg.export._warmup import write_warmup
from kerasseg.layers import num_classes_of, size_rules
from kerasseg.spec import DataError

DESCRIPTION_FILE = "kerasseg.json"
_WARMUP_SIDE = 64


def saved_model(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    class_names: Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    training: dict | None = None,
    max_pixels: int = MAX_PIXELS,
    weights: str = "float32",
    freeze: bool | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    images: Sequence[np.ndarray] | None = None,
) -> Path:
    """Exports a model as the next version of a servable: `directory/<version>/`, beside it `directory/kerasseg.json`.

    What is written is loaded again without Keras and compared with the model before it gets its name, so a server
    that watches `directory` sees whole and right versions only. No version is ever overwritten.

    Args:
        model: Images float32 [B, H, W, C], 0-255 -> logits [B, h, w, K].
        directory: The servable's folder; its last part is the name that clients ask for by convention.
        class_names: K names (2 of a model of one logit), for `kerasseg.json`; default "0", "1", ...
        palette: RGB colours 0-255 [K, 3], for `kerasseg.json`; default: none.
        value_range: The values of 16-bit files that become 0 and 255 (`DatasetSpec.value_range` of the data that the
            model was trained on); None: 0 and 65535.
        training: What else is known of the model (data set, options, scores); plain values, for `kerasseg.json`.
        max_pixels: Images of more pixels are refused by the served model, files of them before they are decoded, so
            that a request of some bytes cannot take all memory. A forward pass takes from 100 bytes a pixel (U-Net with
            few filters) to several thousand, times the largest scale squared. With `tile_size`, a pass is one of a tile
            however large the image. Beside it, an RGB image takes 40 bytes a pixel (measured: 37 to 39), and with
            several views up to 16·K bytes more for each pixel of the largest (measured with K = 21: 290 for `flip`).
        weights: How kernels are stored: "float32", or "bfloat16" or "float16" in half the space; see `frozen`. Answers
            may then differ where two classes are nearly equal: by 5 % and 1 % of the largest logit.
        freeze: Whether the weights are constants of the graph (2 GiB at most), or variables beside it. Of a DeepLab-v3
            with 157 MB of weights, constants make the forward pass of an image on a CPU quicker by 7 to 13 % (of
            eight images by nothing), and a process that asked two signatures takes 3.3 GB, with variables 0.3 GB. None:
            constants of at most 256 MiB.
        scales, flip, tile_size, overlap: What `kerasseg.inference.Segmenter` takes, done within the graph: the mean of
            the probabilities over several scales and mirrored views; larger images cut into tiles.
        images: Images uint8 [H, W, C] to compare the export with the model on, of sizes up to the model's largest;
            default: random ones.

    Returns:
        The version's folder.

    Raises:
        ValueError: There are not K names or colours, the model's legal sizes cannot be found out, `max_pixels` is
            below 16384 or not more than a tile, `weights` is none of the three, the
            weights are too large to be frozen, a scale, tile or overlap is out of range, or an image has other channels
            than the model.
        DataError: `directory` is a file, or the model has several outputs.
        ExportError: The exported model answers otherwise than the Keras model; nothing is left.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory} is a file; expected a folder for the exported versions")
    description = _description(model, class_names, palette, value_range, training)
    looks = baked(scales, flip, tile_size, overlap)
    description |= {"max_pixels": max_pixels, "weights": weights, **looks.described()}
    signatures = Signatures(model, value_range, max_pixels, weights, freeze, looks)
    least = max(math.prod(size) for size in sizes_compared(model, looks))
    if max_pixels < least:
        raise ValueError(f"max_pixels must be at least {least}, for an image larger than a tile, got {max_pixels}")
    directory.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that the last step is a rename. Servers pass over names that are not numbers.
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory))
    try:
        written = partial / "model"
        signatures.save(str(written))
        options = {"scales": scales, "flip": flip, "tile_size": tile_size, "overlap": overlap}
        verify(model, written, images, tolerance=TOLERANCES[weights], **options)
        warmup_size = tuple(rule.legal(_WARMUP_SIDE) - rule.margin for rule in size_rules(model))
        files = model.input_shape[-1] in DECODABLE_CHANNELS
        write_warmup(written, model.input_shape[-1], warmup_size, files=files)
        description["files"] = _checksums(written)
        _write_json(written / "assets.extra" / DESCRIPTION_FILE, description)
        version = _publish(written, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _write_json(directory / DESCRIPTION_FILE, {**description, "version": int(version.name)})
    return version


def _description(model, class_names, palette, value_range, training):
    num_classes = max(num_classes_of(model), 2)
    for what, values in (("class names", class_names), ("colours", palette)):
        if values is not None and len(values) != num_classes:
            raise ValueError(f"expected {num_classes} {what}, one per class of the model, got {len(values)}")
    names = class_names if class_names is not None else range(num_classes)
    return {
        "format": 1,
        "model": model.name,
        "class_names": [str(name) for name in names],
        "palette": None if palette is None else np.asarray(palette).astype(int).tolist(),
        "channels": model.input_shape[-1],
        "value_range": value_range and list(value_range),
        "num_parameters": model.count_params(),
        "exported": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "training": training or {},
    }


def _checksums(directory: Path) -> dict:
    """Returns {file: SHA-256} of all files in a folder, as `sha256sum` prints them."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _publish(written: Path, directory: Path) -> Path:
    """Gives the folder the next free number; one that another process takes in between is passed over."""
    number = max((int(path.name) for path in directory.iterdir() if path.name.isdecimal()), default=0) + 1
    while True:
        target = directory / str(number)
        try:
            # A rename would replace an empty folder silently; making it first says whose it is.
            target.mkdir()
        except FileExistsError:
            number += 1
            continue
        os.replace(written, target)
        return target


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
