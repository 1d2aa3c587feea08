"""TensorFlow Serving's REST interface."""

import base64
import http.client
import json
from urllib.parse import quote

from kerasseg.client._errors import RefusedError, ServerError, UnavailableError
from kerasseg.client._server import Server

# Busy, behind a proxy that has no server at the moment, or too slow for it.
_UNAVAILABLE = (
    http.client.TOO_MANY_REQUESTS,
    http.client.BAD_GATEWAY,
    http.client.SERVICE_UNAVAILABLE,
    http.client.GATEWAY_TIMEOUT,
)


class Rest:
    """A model behind a REST port (8501 by default)."""

    def __init__(self, server: Server, timeout_s: float):
        self._server, self._timeout_s = server, timeout_s
        self._path = f"/v1/models/{quote(server.model, safe='')}"
        if server.version is not None:
            self._path += f"/versions/{server.version}"
        if server.label is not None:
            self._path += f"/labels/{quote(server.label, safe='')}"

    def predict(self, signature: str, files: list[bytes]) -> list[bytes]:
        """Returns the mask files of image files."""
        instances = [{"image_bytes": {"b64": base64.b64encode(data).decode()}} for data in files]
        answer = self._post({"signature_name": signature, "instances": instances}, signature)
        try:
            return [base64.b64decode(prediction["b64"], validate=True) for prediction in answer.get("predictions")]
        except (TypeError, KeyError, ValueError) as error:
            raise ServerError(f"{self._server}: expected masks in the answer, got {str(answer)[:200]}") from error

    def close(self) -> None:
        """Nothing is kept open between requests."""

    def _post(self, request: dict, signature: str) -> dict:
        connect = http.client.HTTPSConnection if self._server.tls else http.client.HTTPConnection
        connection = connect(self._server.host, self._server.port, timeout=self._timeout_s)
        try:
            connection.request("POST", f"{self._path}:predict", json.dumps(request))
            response = connection.getresponse()
            status, body = response.status, response.read()
        except TimeoutError as error:
            raise ServerError(self._server.too_slow(self._timeout_s)) from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(
                self._server.no_connection(reason, "REST port (8501 by default, 8500 is gRPC)")
            ) from error
        finally:
            connection.close()
        try:
            answer = json.loads(body)
        except ValueError as error:
            kind = UnavailableError if status in _UNAVAILABLE else ServerError
            raise kind(f"{self._server}: expected JSON, got {status} {body[:100]!r}") from error
        if status != http.client.OK or not isinstance(answer, dict) or "error" in answer:
            raise self._error(status, answer, signature)
        return answer

    def _error(self, status, answer, signature):
        error = " ".join(str(answer.get("error", answer) if isinstance(answer, dict) else answer).split())
        if status == http.client.NOT_FOUND or "Servable not found" in error:
            return ServerError(self._server.not_served(error))
        if "signature" in error.lower():
            return ServerError(self._server.no_signature(signature, error))
        if status == http.client.REQUEST_ENTITY_TOO_LARGE:
            return RefusedError(self._server.too_large(error))
        text = f"{self._server} answers {status}: {error[:500]}"
        if status in _UNAVAILABLE:
            return UnavailableError(text)
        return RefusedError(text) if status == http.client.BAD_REQUEST else ServerError(text)
