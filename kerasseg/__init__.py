"""Semantic segmentation networks as Keras models, with all that leads from raw data to a served model.

`import kerasseg` is light: a subpackage is imported when it is first touched, and TensorFlow with the first
one that needs it. `kerasseg.spec` and `kerasseg.client` never need it.
"""

import importlib

from kerasseg._version import __version__

_SUBPACKAGES = (
    "augment",
    "backbones",
    "client",
    "export",
    "inference",
    "inspection",
    "layers",
    "losses",
    "metrics",
    "models",
    "pipeline",
    "postprocess",
    "recipes",
    "records",
    "spec",
    "training",
    "weights",
)

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"kerasseg.{name}")
    raise AttributeError(f"module 'kerasseg' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
