"""From a trained model to a folder that TensorFlow Serving, or any TensorFlow without Keras, runs."""

from kerasseg.export._frozen import WEIGHTS, frozen
from kerasseg.export._saved_model import saved_model
from kerasseg.export._signatures import Signatures
from kerasseg.export._verify import ExportError, verify

__all__ = ["WEIGHTS", "ExportError", "Signatures", "frozen", "saved_model", "verify"]
