"""Asking a server for masks: NumPy in, masks out, TensorFlow nowhere."""

from kerasseg.client._rest import Client, ServerError

__all__ = ["Client", "ServerError"]
