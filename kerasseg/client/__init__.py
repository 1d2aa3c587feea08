"""Asking a server for masks: NumPy in, masks out, TensorFlow nowhere."""

from kerasseg.client._client import Client
from kerasseg.client._errors import RefusedError, ServerError, UnavailableError

__all__ = ["Client", "RefusedError", "ServerError", "UnavailableError"]
