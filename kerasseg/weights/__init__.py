"""Weights from elsewhere into our models, with a report of what went where."""

from kerasseg.weights._report import LoadReport
from kerasseg.weights._tf1 import load_tf1

__all__ = ["LoadReport", "load_tf1"]
