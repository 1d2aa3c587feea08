"""U-Net."""

from kerasseg import models
from kerasseg.losses import CrossEntropy
from kerasseg.recipes._parts import network, one_of
from kerasseg.recipes._stage import Solver, Stage
from kerasseg.spec import DatasetSpec


def unet_isbi(data: DatasetSpec, *, variant: str = "paper", **model_options) -> list[Stage]:
    """U-Net as in its paper: one large tile at a time, momentum 0.99, elastic deformation, weights between cells.

        python tools/convert_cells.py --layout isbi2012 --input isbi2012 --output tfrecords/isbi --border-weights
        python tools/train.py --recipe unet_isbi --data tfrecords/isbi --output runs/unet

    Tiles of 572 pixels, of which the 388 in the middle are predicted; mirrored at the image's borders. Weights for each
    pixel where the data set stores them: they balance the classes and stress what lies between touching cells.

    Machine and time: not stated in the release. Score: theirs on ISBI 2012: warping error 0.000353,
    Rand error 0.0382 (mean of 7 rotated copies); IoU 0.920 on PhC-U373, 0.775 on DIC-HeLa. Not reproduced.
    Reference: Ronneberger et al. 2015, arXiv:1505.04597, §3; lmb-freiburg/Unet-Segmentation at 870e503.
    Differs: the paper gives neither rate nor steps: 0.001, constant, and 20 000 are ours. Its loss is a sum over
        pixels, ours the mean, so that the rate does not hang on the tile. Turning, shifting and grey values are varied
        by our amounts, it gives none.

    Args:
        data: What it is to be trained on.
        variant: "paper", or "plugin": the authors' later Fiji plug-in, Adam at 1e-4 (its weight map, of another
            formula, is not stored by the converters).
        **model_options: Of `kerasseg.models.unet`.
    """
    paper = one_of("variant", variant, "paper", "plugin") == "paper"
    notes = ["the paper names no steps: 20 000 are ours"]
    if paper:
        notes.append("the paper names no learning rate: 0.001 is ours")
    if not data.has_weights:
        notes.append("the data set stores no weight maps (convert it with --border-weights): every pixel counts 1")
    return [
        Stage(
            "unet",
            network(models.unet, data, **model_options),
            CrossEntropy(data.ignore_label),
            Solver("sgd", 0.001, momentum=0.99) if paper else Solver("adam", 1e-4),
            20_000,
            1,
            572,
            "unet",
            pixel_weights=data.has_weights,
            notes=tuple(notes),
        )
    ]
