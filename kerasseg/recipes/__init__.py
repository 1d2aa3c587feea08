"""How the networks' authors trained them: one function each, from a data set's `DatasetSpec` to a list of stages.

    from kerasseg import recipes
    from kerasseg.spec import DatasetSpec

    stages = recipes.fcn_staged(DatasetSpec.load("tfrecords/voc2012"))
    print(recipes.table(stages))
    recipes.run(stages, "tfrecords/voc2012", "runs/fcn", init="vgg16_weights.h5")

`tools/train.py --recipe fcn_staged --data tfrecords/voc2012 --output runs/fcn` does the same. `__all__` lists
the recipes; a `Stage` of one's own goes through `run` as well.
"""

from kerasseg.recipes._attention_unet import attention_unet
from kerasseg.recipes._change import change as change
from kerasseg.recipes._deconvnet import deconvnet_two_stage
from kerasseg.recipes._deeplab_v3 import deeplab_v3_original, deeplab_v3_paper
from kerasseg.recipes._deeplab_v3_plus import deeplab_v3_plus
from kerasseg.recipes._fcn import fcn_at_once, fcn_staged
from kerasseg.recipes._run import run as run
from kerasseg.recipes._samples import batches as batches
from kerasseg.recipes._segnet import segnet_camvid
from kerasseg.recipes._small_data import small_data
from kerasseg.recipes._stage import Solver as Solver
from kerasseg.recipes._stage import Stage as Stage
from kerasseg.recipes._table import table as table
from kerasseg.recipes._unet import unet_isbi
from kerasseg.recipes._unet_plus_plus import unet_plus_plus

__all__ = [
    "attention_unet",
    "deconvnet_two_stage",
    "deeplab_v3_original",
    "deeplab_v3_paper",
    "deeplab_v3_plus",
    "fcn_at_once",
    "fcn_staged",
    "segnet_camvid",
    "small_data",
    "unet_isbi",
    "unet_plus_plus",
]
