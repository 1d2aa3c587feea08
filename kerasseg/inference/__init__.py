"""From a trained model to masks: images of any size, kind and number.

`Segmenter` for people who only want masks, `predict_tiled` for the logits of one array, `evaluate` for a split.
"""

from kerasseg.inference._evaluate import Prediction, evaluate, predictions
from kerasseg.inference._reading import prepared, read_image
from kerasseg.inference._segmenter import Segmenter, load_model
from kerasseg.inference._tiled import predict_tiled

__all__ = [
    "Prediction",
    "Segmenter",
    "evaluate",
    "load_model",
    "predict_tiled",
    "predictions",
    "prepared",
    "read_image",
]
