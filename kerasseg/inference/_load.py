"""Trained models from files."""

import json
import zipfile
from pathlib import Path

from tensorflow import keras

import kerasseg.layers  # noqa: F401  (registers the layers of saved models)
from kerasseg.spec import DataError

_OTHER_KERAS = (
    "should another one run here, TF_USE_LEGACY_KERAS=1 takes Keras 2 and without it TensorFlow takes Keras 3; the "
    "weights alone go from one to the other with kerasseg.weights.load"
)


def load_model(path: str | Path) -> keras.Model:
    """Loads a model saved by Keras (`.keras`), for inference only.

    Raises:
        DataError: The file is missing, is not such a model, or another generation of Keras saved it (what
            the file says of that is told).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such model file; expected one such as runs/NAME/best.keras")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises what the damaged part happens to raise: zipfile, json, h5py, its own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        saved = _saved_by(path)
        hint = f". Keras {saved} saved it: {_OTHER_KERAS}" if saved else ""
        raise DataError(f"{path}: cannot be loaded as a Keras model ({reason}){hint}") from error


def _saved_by(path: Path) -> str | None:
    """Returns the version of the Keras that saved a file; None where that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError):
        return None
