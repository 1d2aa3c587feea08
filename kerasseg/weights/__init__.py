"""Weights from elsewhere into our models, with a report of what went where."""

from kerasseg.weights._by_name import load_by_name
from kerasseg.weights._keras_application import load_keras_application
from kerasseg.weights._load import load
from kerasseg.weights._report import LoadReport
from kerasseg.weights._tf1 import load_tf1

__all__ = ["LoadReport", "load", "load_by_name", "load_keras_application", "load_tf1"]
