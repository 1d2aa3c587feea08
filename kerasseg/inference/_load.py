"""Trained models from files."""

import json
import zipfile
from pathlib import Path

from tensorflow import keras

import kerasseg.layers  # noqa: F401  (registers the layers of saved models)
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
