"""Training around `model.fit`: rates and optimisers, a run folder that survives being killed, validation by mIoU.

    with training.strategy().scope():
        model = kerasseg.models.unet(2)
        optimizer = training.optimizer("sgd", training.schedule("poly", 0.01, steps=2000), weight_decay=1e-4)
        training.compile(model, optimizer, CrossEntropy())
    with training.RunFolder("runs/cells").open(options) as run:
        state = training.fit(model, batches, run, steps=2000, validate_every=200, val_data=images)

It is handed a model and data sets, and names none.
"""

from kerasseg.training._batch_norm import recalculate_batch_norm
from kerasseg.training._curves import plot_curves
from kerasseg.training._fit import compile, fit
from kerasseg.training._optimizers import SGD, Adam, optimizer
from kerasseg.training._run_folder import RunFolder
from kerasseg.training._schedules import Schedule, schedule
from kerasseg.training._state import TrainingState
from kerasseg.training._strategy import strategy
from kerasseg.training._validation import Validation
from kerasseg.training._workers import naming_lost_workers, wait_for_workers

__all__ = [
    "SGD",
    "Adam",
    "RunFolder",
    "Schedule",
    "TrainingState",
    "Validation",
    "compile",
    "fit",
    "naming_lost_workers",
    "optimizer",
    "plot_curves",
    "recalculate_batch_norm",
    "schedule",
    "strategy",
    "wait_for_workers",
]
