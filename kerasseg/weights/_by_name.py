"""Weights of one of our models into another."""

from collections.abc import Sequence
from pathlib import Path

from tensorflow import keras

from kerasseg.weights._keras_source import open_keras
from kerasseg.weights._report import LoadReport
from kerasseg.weights._transfer import transfer


def load_by_name(model: keras.Model, source: keras.Model | str | Path, *, exclude: Sequence[str] = ()) -> LoadReport:
    """Loads the weights of layers that have the same name in another model.

    This is how FCN is trained in stages: fcn_32s into fcn_16s, fcn_16s into fcn_8s. Layers that the source lacks stay
    as they were. Nothing is changed unless everything of the same name fits. Where the source reads RGB images and the
    model those of other channels, the first kernel is fitted as `load_keras_application` does.

    Args:
        model: Whose weights are loaded.
        source: A model, or a `.keras` file of one, saved by this Keras, tf_keras, Keras 2.15 or Keras 3.
        exclude: Layers that stay as they are, by the start of their names.
    Returns:
        LoadReport: What was loaded, what stayed, and what was left over.
    Raises:
        DataError: There is no such file, a shape differs (both shapes are named), or no name is the same.
    """
    return transfer(
        model,
        open_keras(source),
        lambda layer, variable: f"{layer}/{variable}",
        exclude=exclude,
        expected="a model of the same network, width and number of classes",
    )
