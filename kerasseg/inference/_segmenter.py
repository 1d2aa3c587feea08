"""From an image or a file to its mask in one call."""

import json
import zipfile
from pathlib import Path

import numpy as np
from tensorflow import keras

import kerasseg.layers  # noqa: F401  (registers the layers of saved models)
from kerasseg.inference._reading import prepared, read_image
from kerasseg.inference._rims import rim_model, softmax
from kerasseg.inference._tiled import predict_tiled
from kerasseg.layers import num_classes_of
from kerasseg.postprocess import objects, split_by_rims
from kerasseg.spec import DataError


def load_model(path: str | Path) -> keras.Model:
    """Loads a model saved by Keras (`.keras`), for inference only.

    Raises:
        DataError: The file is missing, is not such a model, or another generation of Keras saved it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such model file; expected one such as runs/NAME/best.keras")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what the damaged part happens to raise: zipfile, json, h5py, its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        saved, runs = _generation(path), "3" if hasattr(keras, "ops") else "2"
        if saved is not None and saved != runs:
            change = "set TF_USE_LEGACY_KERAS=1" if saved == "2" else "unset TF_USE_LEGACY_KERAS"
            raise DataError(f"{path}: was saved by Keras {saved}, and this is Keras {runs}; {change}") from error
        raise DataError(f"{path}: cannot be loaded as a Keras model ({reason})") from error


def _generation(path: Path) -> str | None:
    """Returns "2" or "3", as the Keras was that saved a file; None where that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])[0]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError):
        return None


class Segmenter:
    """A model that takes images of any size and kind.

        mask = Segmenter("runs/cells/best.keras").segment("image.png")

    Args:
        model: A `keras.Model` from images to logits, or the path of a saved one.
        tile_size, overlap, memory_budget, blend: As for `predict_tiled`.
        value_range: The values of 16-bit images that become 0 and 255: the `DatasetSpec.value_range` of the data that
            the model was trained on. None: 0 and 65535.
    Raises:
        DataError: The model's file cannot be loaded, or the model has several outputs.
    """

    def __init__(
        self,
        model: keras.Model | str | Path,
        *,
        tile_size: int | tuple[int, int] | None = None,
        overlap: int | None = None,
        memory_budget: int | None = None,
        blend: str = "gaussian",
        value_range: tuple[float, float] | None = None,
    ):
        self.model = model if isinstance(model, keras.Model) else load_model(model)
        num_classes_of(self.model)
        self._rims = rim_model(self.model)
        self.value_range = value_range
        self._tiling = {"tile_size": tile_size, "overlap": overlap, "memory_budget": memory_budget, "blend": blend}

    def logits(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns float32 [H, W, K] of an image.

        Args:
            image: [H, W] or [H, W, C], uint8 (0-255), uint16 (scaled to 0-255) or float (0-255), or a file's path.
                Grey images are repeated for a model of colour ones, and the like: see `prepared`.
        Raises:
            DataError: The file cannot be read, or its channels do not fit the model.
            ValueError: The array is no image, or its channels do not fit the model.
        """
        return self._logits(self.model, image)

    def _logits(self, model, image):
        if not isinstance(image, (str, Path)):
            return predict_tiled(model, self.prepared(image), **self._tiling)
        pixels = read_image(image)
        try:
            pixels = self.prepared(pixels)
        except ValueError as error:
            raise DataError(f"{image}: {error}") from error
        return predict_tiled(model, pixels, **self._tiling)

    def prepared(self, image: np.ndarray) -> np.ndarray:
        """Returns what the model is given for an image [H, W] or [H, W, C]: float32 [H, W, C], see `prepared`."""
        return prepared(image, self.model.input_shape[-1], self.value_range)

    def segment(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the most probable class of each pixel, uint8 [H, W], of an image as `logits` takes it."""
        return self.logits(image).argmax(-1).astype(np.uint8)

    def probabilities(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the softmax of the logits, float32 [H, W, K], of an image as `logits` takes it."""
        return softmax(self.logits(image))

    def objects(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Returns the single objects, int32 [H, W], 0 = none, of an image as `logits` takes it.

        A model that knows the rims of objects parts touching ones (`postprocess.split_by_rims`); of others, an object
        is a connected component of class 1.
        """
        if self._rims is None:
            return objects(self.segment(image))
        return split_by_rims(softmax(self._logits(self._rims, image)))
