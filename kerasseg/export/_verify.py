"""Asking an exported model and the Keras model the same, and comparing the answers."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from kerasseg.export._signatures import DECODABLE_CHANNELS
from kerasseg.layers import size_rules

SIZES = ((61, 47), (96, 80))
"""Of the images compared: odd and even, none of which a network without padding takes as it is."""

TOLERANCES = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.05}
"""How far, in parts of the largest logit, the chosen class may lie below the best, by how weights are stored."""


class ExportError(RuntimeError):
    """The exported model does not answer as the Keras model does."""


def verify(
    model: keras.Model,
    directory: str | Path,
    images: Sequence[np.ndarray] | None = None,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCES["float32"],
) -> None:
    """Loads a SavedModel in a fresh graph, without Keras, and compares every signature with the model.

    A class may differ where the model's logits of both classes are the same but for rounding.

    Args:
        model: What was exported.
        directory: The SavedModel.
        images: Images uint8 [H, W, C] to ask about; None: random ones of `SIZES`, cut to what models of one fixed size
            take.
        seed: Of random images.
        tolerance: See `TOLERANCES`.

    Raises:
        ValueError: An image is of another type, or has other channels than the model.
        ExportError: An answer differs in value, type or size.
    """
    channels = model.input_shape[-1]
    for image in images or []:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
            raise ValueError(f"expected images uint8 [H, W, {channels}], got {image.dtype} {image.shape}")
    images = list(_random_images(model, seed)) if images is None else images
    logits = [_reference(model, image.astype(np.float32)) for image in images]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = _load(session, directory)

        def ask(signature, **inputs):
            definition = loaded.signature_def[signature]
            feed = {definition.inputs[name].name: value for name, value in inputs.items()}
            return session.run({name: info.name for name, info in definition.outputs.items()}, feed)

        for image, expected in zip(images, logits, strict=True):
            inputs = {"images": image[None].astype(np.float32), "height": [0], "width": [0]}
            _compare(
                "predict_images", ask("predict_images", **inputs)["segmentation_map"], expected, np.int64, tolerance
            )
            batch = ask("serving_default", images=np.stack([image, image]))["segmentation_map"]
            _compare("serving_default", batch[1:], expected, np.uint8, tolerance)
        if channels in DECODABLE_CHANNELS:
            files = ask("predict_bytes", image_bytes=[_png(image) for image in images])["mask_bytes"]
            for data, expected in zip(files, logits, strict=True):
                mask = np.array(Image.open(io.BytesIO(data)))
                _compare("predict_bytes", mask[None], expected, np.uint8, tolerance)


def _random_images(model, seed):
    rng = np.random.default_rng(seed)
    limits = [rule.maximum - rule.margin if rule.maximum else None for rule in size_rules(model)]
    for size in SIZES:
        size = [side if limit is None else min(side, limit) for side, limit in zip(size, limits, strict=True)]
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


def _reference(model, image):
    """Returns the Keras model's logits [H, W, K], the border mirrored by NumPy."""
    rules = size_rules(model)
    pads = [
        (rule.margin // 2, rule.covering(n) - n - rule.margin // 2)
        for rule, n in zip(rules, image.shape[:2], strict=True)
    ]
    padded = np.pad(image, [*pads, (0, 0)], mode="reflect")
    logits = np.asarray(model(padded[None], training=False))[0, : image.shape[0], : image.shape[1]]
    return logits if logits.shape[-1] > 1 else np.concatenate([np.zeros_like(logits), logits], -1)


def _png(image):
    data = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(data, "png")
    return data.getvalue()


def _compare(signature, classes, logits, dtype, tolerance):
    if classes.dtype != dtype or classes.shape != (1, *logits.shape[:2]):
        raise ExportError(
            f"{signature}: expected a class map {np.dtype(dtype)} {(1, *logits.shape[:2])}, got {classes.dtype} "
            f"{classes.shape}"
        )
    chosen = np.take_along_axis(logits, classes[0][..., None].astype(np.int64), axis=2)[..., 0]
    short = logits.max(axis=2) - chosen
    wrong = short > tolerance * max(1.0, float(np.abs(logits).max()))
    if wrong.any():
        raise ExportError(
            f"{signature}: {wrong.sum()} of {wrong.size} pixels differ from the Keras model on an image of "
            f"{logits.shape[0]} x {logits.shape[1]} pixels (logits differ by up to {short.max():.3g})"
        )
