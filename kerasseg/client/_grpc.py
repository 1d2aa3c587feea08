"""TensorFlow Serving's gRPC interface."""

import grpc
import numpy as np

from kerasseg._predict_messages import STRING, UINT8, PredictRequest, PredictResponse
from kerasseg.client._errors import RefusedError, ServerError, UnavailableError
from kerasseg.client._server import Server

_METHOD = "/tensorflow.serving.PredictionService/Predict"
# Without these, gRPC refuses answers of more than 4 MiB and waits up to two minutes before it connects anew.
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 2000),
]


class Grpc:
    """A model behind a gRPC port (8500 by default)."""

    def __init__(self, server: Server, timeout_s: float):
        self._server, self._timeout_s = server, timeout_s
        if server.tls:
            self._channel = grpc.secure_channel(server.address, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            self._channel = grpc.insecure_channel(server.address, _OPTIONS)
        self._call = self._channel.unary_unary(
            _METHOD,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )

    def predict(self, signature: str, files: list[bytes]) -> list[bytes]:
        """Returns the mask files of image files."""
        request = self._request(signature, "image_bytes", STRING, (len(files),))
        request.inputs[0].value.string_val.extend(files)
        return list(self._ask(request, signature, "mask_bytes").string_val)

    def predict_array(self, signature: str, image: np.ndarray) -> np.ndarray:
        """Returns the class map, uint8 [H, W], of an image uint8 [H, W, C]."""
        request = self._request(signature, "images", UINT8, (1, *image.shape))
        request.inputs[0].value.content = np.ascontiguousarray(image).tobytes()
        tensor = self._ask(request, signature, "segmentation_map")
        # A server may send the values packed or one by one.
        values = np.frombuffer(tensor.content, np.uint8) if tensor.content else np.array(tensor.int_val, np.uint8)
        if values.size != image.shape[0] * image.shape[1]:
            raise ServerError(f"{self._server}: expected a mask of {image.shape[:2]}, got {values.size} values")
        return values.reshape(image.shape[:2])

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _request(self, signature, name, dtype, shape):
        request = PredictRequest()
        spec = request.model_spec
        spec.name, spec.signature_name = self._server.model, signature
        if self._server.version is not None:
            spec.version.value = self._server.version
        if self._server.label is not None:
            spec.version_label = self._server.label
        tensor = request.inputs.add(key=name).value
        tensor.dtype = dtype
        for side in shape:
            tensor.shape.dim.add(size=side)
        return request

    def _ask(self, request, signature, output):
        try:
            response = self._call(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._error(error, signature) from error
        for named in response.outputs:
            if named.key == output:
                return named.value
        raise ServerError(f"{self._server}: expected {output!r} in the answer, got {[n.key for n in response.outputs]}")

    def _error(self, error, signature):
        code, details = error.code(), " ".join((error.details() or "").split())
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerError(self._server.too_slow(self._timeout_s))
        if code == grpc.StatusCode.UNAVAILABLE:
            return UnavailableError(
                self._server.no_connection(details[:200], "gRPC port (8500 by default, 8501 is REST)")
            )
        if code == grpc.StatusCode.NOT_FOUND or "Servable not found" in details:
            return ServerError(self._server.not_served(details))
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return RefusedError(self._server.too_large(details))
        if "signature" in details.lower():
            return ServerError(self._server.no_signature(signature, details))
        text = f"{self._server} answers {code.name}: {details[:500]}"
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return UnavailableError(text)
        return RefusedError(text) if code == grpc.StatusCode.INVALID_ARGUMENT else ServerError(text)
