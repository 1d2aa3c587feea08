"""TensorFlow Serving's REST interface."""

import base64
import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from kerasseg.spec import DataError

_SIGNATURE = "predict_bytes"
# What the exported model decodes by itself; other files are converted here.
_SENT_AS_THEY_ARE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


class ServerError(ConnectionError):
    """The server cannot be reached, or does not answer with masks."""


class Client:
    """A model behind TensorFlow Serving, exported by `kerasseg.export.saved_model`.

        masks = Client("localhost:8501", model="unet").segment([image, "photo.jpg"])

    Args:
        server: "host:port" of the REST interface.
        model: The name that it is served by.
        version: A version of it; None: the newest that is served.
        timeout_s: Seconds to wait for the connection, and for each answer.
        batch_size: Images sent in one request.
    Raises:
        ValueError: `server` is no "host:port", or a number is not positive.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        version: int | None = None,
        timeout_s: float = 60.0,
        batch_size: int = 4,
    ):
        host, _, port = server.removeprefix("http://").rstrip("/").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f'expected the server as "host:port", for instance "localhost:8501", got {server!r}')
        if timeout_s <= 0 or batch_size < 1:
            raise ValueError(f"timeout_s and batch_size must be positive, got {timeout_s} and {batch_size}")
        self._host, self._port = host, int(port)
        self._model, self._timeout_s, self._batch_size = model, timeout_s, batch_size
        self._path = f"/v1/models/{quote(model, safe='')}" + ("" if version is None else f"/versions/{version}")

    def segment(self, images: Sequence[np.ndarray | bytes | str | Path]) -> list[np.ndarray]:
        """Asks for the masks of images of any sizes.

        Args:
            images: Arrays uint8 or uint16, [H, W] or [H, W, C] in RGB order; or paths of image files; or the bytes of
                such files.

        Returns:
            For each image its class ids, uint8 [H, W].

        Raises:
            ServerError: The server is down or slow, does not have the model, or refuses the images.
            DataError: A file cannot be read.
            ValueError: An array is no image.
        """
        if isinstance(images, (np.ndarray, bytes, str, Path)):
            raise TypeError(f"expected a list of images, got one {type(images).__name__}; put it into a list")
        masks = []
        for start in range(0, len(images), self._batch_size):
            files = [_file_bytes(image) for image in images[start : start + self._batch_size]]
            masks += [_decode_mask(data) for data in self._predict(files)]
        return masks

    def _predict(self, files: list[bytes]) -> list[bytes]:
        instances = [{"image_bytes": {"b64": base64.b64encode(data).decode()}} for data in files]
        answer = self._post({"signature_name": _SIGNATURE, "instances": instances})
        predictions = answer.get("predictions")
        try:
            masks = [base64.b64decode(prediction["b64"], validate=True) for prediction in predictions]
        except (TypeError, KeyError, ValueError) as error:
            raise ServerError(f"{self._name}: expected masks in the answer, got {str(answer)[:200]}") from error
        if len(masks) != len(files):
            raise ServerError(f"{self._name}: expected {len(files)} masks, got {len(masks)}")
        return masks

    def _post(self, request: dict) -> dict:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.request("POST", f"{self._path}:predict", json.dumps(request))
            response = connection.getresponse()
            status, body = response.status, response.read()
        except TimeoutError as error:
            raise ServerError(
                f"{self._name}: no answer within {self._timeout_s:g} s; give it more time, or send smaller images"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ServerError(
                f"no connection to {self._host}:{self._port} ({reason}); does a server run there, and is this its REST "
                "port (8501 by default, 8500 is gRPC)?"
            ) from error
        finally:
            connection.close()
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise ServerError(f"{self._name}: expected JSON, got {status} {body[:100]!r}") from error
        if status != http.client.OK or not isinstance(answer, dict) or "error" in answer:
            raise ServerError(self._explained(status, answer))
        return answer

    @property
    def _name(self):
        return f"model {self._model!r} at {self._host}:{self._port}"

    def _explained(self, status, answer):
        error = " ".join(str(answer.get("error", answer) if isinstance(answer, dict) else answer).split())
        if status == http.client.NOT_FOUND or "Servable not found" in error:
            return f"{self._host}:{self._port} does not serve a model {self._model!r} in that version ({error[:200]})"
        if "signature" in error.lower():
            return (
                f"{self._name} has no signature {_SIGNATURE!r} ({error[:200]}); export it with tools/export.py (models "
                "of 2 or of 5 and more channels have none)"
            )
        return f"{self._name} answers {status}: {error[:500]}"


def _file_bytes(image) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, (str, Path)):
        return _encode(np.asarray(image))
    try:
        data = Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror})") from error
    if data.startswith(_SENT_AS_THEY_ARE):
        return data
    from kerasseg._opencv import cv2

    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if decoded is None:
        raise DataError(f"{image}: cannot be read as an image")
    return _png(decoded)


def _encode(image):
    """Encodes an array as PNG: lossless, 8 or 16 bits."""
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or not image.size:
        raise ValueError(
            f"expected images uint8 or uint16, [H, W] or [H, W, C], got {image.dtype} of the shape {image.shape}"
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(channels)  # OpenCV takes blue first.
    if order is None:
        raise ValueError(f"only images of 1, 3 or 4 channels can be sent, got {channels}")
    return _png(image if image.ndim == 2 else image[..., order])


def _png(image):
    from kerasseg._opencv import cv2

    return cv2.imencode(".png", image)[1].tobytes()


def _decode_mask(data):
    from kerasseg._opencv import cv2

    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise ServerError("expected masks as PNGs of one channel of 8 bits, got something else")
    return mask
