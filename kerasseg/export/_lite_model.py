"""Running a `.tflite` file that `kerasseg.export.lite` wrote."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kerasseg.export._comparison import by_windows
from kerasseg.export._portable import CLASSES
from kerasseg.spec import DataError


class LiteModel:
    """A `.tflite` file with its `.json`.

        mask = LiteModel("exported/cells.tflite").segment(image)

    Args:
        path: The file.
        num_threads: Of the processor; None: as many as LiteRT takes.
    Attributes:
        description: What the `.json` says: class names, palette, scores, ...
        size: Height and width of the images that it takes; None: any.
    Raises:
        DataError: One of the two files is missing, or they do not belong together.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int | None = None):
        path = Path(path)
        try:
            content = path.read_bytes()
            self.description = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            expected, size = self.description["sha256"], self.description["size"]
            self._channels = self.description["channels"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected a .tflite file with its .json beside it ({error})") from error
        if hashlib.sha256(content).hexdigest() != expected:
            raise DataError(
                f"{path}: this is not the file that {path.with_suffix('.json').name} describes; export again"
            )
        self.size = size and tuple(size)
        self._run = runner(content, num_threads)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Returns the most probable class of each pixel, uint8 [H, W].

        Args:
            image: uint8 [H, W, C], 0-255, or [H, W] for a model of one channel. Other sizes than `size` are seen
                through windows of it, or mirrored at the bottom and the right.
        Raises:
            ValueError: It is none.
        """
        image = image[..., None] if image.ndim == 2 and self._channels == 1 else image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self._channels or not image.size:
            raise ValueError(f"expected an image uint8 [H, W, {self._channels}], got {image.dtype} {image.shape}")
        return by_windows(lambda window: self._run(images=window[None])[CLASSES][0], image, self.size)


def runner(content: bytes, num_threads: int | None = None) -> Callable:
    """Returns a function of `images` that gives {output: array}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # That LiteRT is to leave TensorFlow.
        return tf.lite.Interpreter(model_content=content, num_threads=num_threads).get_signature_runner()
