"""From a trained model to masks: images of any size, kind and number.

`Segmenter` for people who only want masks: it carries tiles, views, heads, samples and proposals as options, and
`Ensemble` joins several. `predict_tiled` for the logits of one array, `segment_file` for images larger than memory,
`memory_needed` for what either takes, `predict_proposals` and `shift_and_stitch` for scores in other ways, `evaluate`
for a split, `monte_carlo` for the uncertainty of a network with dropout.
"""

from kerasseg.inference._edge_boxes import EdgeBoxes
from kerasseg.inference._ensemble import Ensemble
from kerasseg.inference._evaluate import Prediction, evaluate, predictions
from kerasseg.inference._load import load_model
from kerasseg.inference._monte_carlo import monte_carlo
from kerasseg.inference._proposals import Proposals, predict_proposals
from kerasseg.inference._reading import prepared, read_image
from kerasseg.inference._segment_file import segment_file
from kerasseg.inference._segmenter import Segmentation, Segmenter
from kerasseg.inference._shift_and_stitch import shift_and_stitch
from kerasseg.inference._tiled import predict_tiled, segment_tiled
from kerasseg.inference._tiling import Tiling, memory_needed
from kerasseg.inference._windows import open_windows

__all__ = [
    "EdgeBoxes",
    "Ensemble",
    "Prediction",
    "Proposals",
    "Segmentation",
    "Segmenter",
    "Tiling",
    "evaluate",
    "load_model",
    "memory_needed",
    "monte_carlo",
    "open_windows",
    "predict_proposals",
    "predict_tiled",
    "predictions",
    "prepared",
    "read_image",
    "segment_file",
    "segment_tiled",
    "shift_and_stitch",
]
