"""Asking an exported model and the Keras model the same, and comparing the answers."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from kerasseg.export._baked import Baked, baked
from kerasseg.export._reference import Reference
from kerasseg.export._signatures import DECODABLE_CHANNELS
from kerasseg.layers import size_rules, tile_and_step

SIZES = ((61, 47), (96, 80))
"""Of the images compared: odd and even, none of which a network without padding takes as it is."""

TOLERANCES = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}
"""How far, in parts of the largest logit, the chosen class may lie below the best, by how weights are stored.

Of several views, the difference is that of the log of the mean probabilities.
"""


class ExportError(RuntimeError):
    """The exported model does not answer as the Keras model does."""


def verify(
    model: keras.Model,
    directory: str | Path,
    images: Sequence[np.ndarray] | None = None,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCES["float32"],
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    tile_size: int | tuple[int, int] | None = None,
    overlap: int | None = None,
) -> None:
    """Loads a SavedModel in a fresh graph, without Keras, and compares every signature with the model.

    A class may differ where the model's logits of both classes are the same but for rounding.

    Args:
        model: What was exported.
        directory: The SavedModel.
        images: Images uint8 [H, W, C] to ask about; None: random ones of `SIZES`, cut to what models of one fixed size
            take; with tiles, one of them larger than a tile on both sides.
        seed: Of random images.
        tolerance: See `TOLERANCES`.
        scales, flip, tile_size, overlap: What the model was exported with.

    Raises:
        ValueError: An image is of another type, or has other channels than the model.
        ExportError: An answer differs in value, type or size.
    """
    channels = model.input_shape[-1]
    for image in images or []:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
            raise ValueError(f"expected images uint8 [H, W, {channels}], got {image.dtype} {image.shape}")
    looks = baked(scales, flip, tile_size, overlap)
    images = list(_random_images(model, looks, seed)) if images is None else images
    reference = Reference(model, looks)
    expectations = [reference(image.astype(np.float32)) for image in images]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = _load(session, directory)

        def ask(signature, **inputs):
            definition = loaded.signature_def[signature]
            feed = {definition.inputs[name].name: value for name, value in inputs.items()}
            return session.run({name: info.name for name, info in definition.outputs.items()}, feed)

        for image, expected in zip(images, expectations, strict=True):
            inputs = {"images": image[None].astype(np.float32), "height": [0], "width": [0]}
            _compare(
                "predict_images", ask("predict_images", **inputs)["segmentation_map"], expected, np.int64, tolerance
            )
            batch = ask("serving_default", images=np.stack([image, image]))["segmentation_map"]
            _compare("serving_default", batch[1:], expected, np.uint8, tolerance)
        if channels in DECODABLE_CHANNELS:
            files = ask("predict_bytes", image_bytes=[_png(image) for image in images])["mask_bytes"]
            for data, expected in zip(files, expectations, strict=True):
                mask = np.array(Image.open(io.BytesIO(data)))
                _compare("predict_bytes", mask[None], expected, np.uint8, tolerance)


def sizes_compared(model: keras.Model, looks: Baked) -> list[tuple[int, int]]:
    """Returns height and width of the random images that an export is compared on."""
    rules = size_rules(model)
    if looks.tile_size is not None:
        tiles = [tile_and_step(r, tile, looks.overlap)[0] for r, tile in zip(rules, looks.tile_size, strict=True)]
        return [SIZES[0], tuple(n - rule.margin + more for n, rule, more in zip(tiles, rules, (13, 6), strict=True))]
    largest = max(1.0, *looks.scales)
    limits = [int((rule.maximum - rule.margin - 1) / largest) + 1 if rule.maximum else None for rule in rules]
    return [tuple(n if m is None else min(n, m) for n, m in zip(size, limits, strict=True)) for size in SIZES]


def _random_images(model, looks, seed):
    rng = np.random.default_rng(seed)
    for size in sizes_compared(model, looks):
        yield rng.integers(0, 256, (*size, model.input_shape[-1]), np.uint8)


def _load(session, directory):
    """Loads as TensorFlow's C++ loader does, from the graph and the checkpoint alone."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # It advises the TensorFlow 2 function, which is not what servers do.
    try:
        return tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], str(directory))
    finally:
        logger.setLevel(level)


def _png(image):
    data = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(data, "png")
    return data.getvalue()


def _compare(signature, classes, expectation, dtype, tolerance):
    expected, largest = expectation
    if classes.dtype != dtype or classes.shape != (1, *expected.shape[:2]):
        raise ExportError(
            f"{signature}: expected a class map {np.dtype(dtype)} {(1, *expected.shape[:2])}, got {classes.dtype} "
            f"{classes.shape}"
        )
    chosen = np.take_along_axis(expected, classes[0][..., None].astype(np.int64), axis=2)[..., 0]
    short = expected.max(axis=2) - chosen
    wrong = short > tolerance * largest
    if wrong.any():
        raise ExportError(
            f"{signature}: {wrong.sum()} of {wrong.size} pixels differ from the Keras model on an image of "
            f"{expected.shape[0]} x {expected.shape[1]} pixels (logits differ by up to {short.max():.3g})"
        )
