"""From a trained model to what runs without Keras.

`saved_model` writes a folder for TensorFlow Serving, or any TensorFlow; `lite` a file for LiteRT, and `LiteModel` runs
such a file; `onnx` one for the runtimes that read ONNX.
"""

from kerasseg.export._frozen import WEIGHTS, frozen
from kerasseg.export._lite import LITE_KINDS, lite
from kerasseg.export._lite_model import LiteModel
from kerasseg.export._onnx import onnx
from kerasseg.export._saved_model import saved_model
from kerasseg.export._signatures import Signatures
from kerasseg.export._verify import ExportError, verify

__all__ = [
    "LITE_KINDS",
    "WEIGHTS",
    "ExportError",
    "LiteModel",
    "Signatures",
    "frozen",
    "lite",
    "onnx",
    "saved_model",
    "verify",
]
