"""A stand-in for tensorflow_model_server, for tests: TensorFlow's own loader behind the official gRPC stubs, and REST.

    python tests/model_server.py NAME=DIRECTORY [NAME=DIRECTORY ...] [--grpc-port N] [--rest-port N]

Serves every version in each directory from its graph and checkpoint alone; Keras cannot even be imported. Prints one
line of JSON with the ports, and ends when its standard input does.
"""

import argparse
import base64
import http.server
import json
import os
import re
import sys
import threading
from concurrent import futures
from pathlib import Path

sys.modules["keras"] = None  # An import of it fails from here on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

HTTP_STATUS = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "UNAVAILABLE": 503}


class RefusalError(Exception):
    """What the server answers in place of a prediction."""

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code, self.text = code, text


class Servable:
    """One version of a model."""

    def __init__(self, directory: Path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(directory))
        self.signatures = dict(loaded.signature_def)

    def predict(self, signature: str, inputs: dict) -> dict:
        """Runs a signature on {input: array}."""
        definition = self.signatures.get(signature or "serving_default")
        if definition is None:
            raise RefusalError("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
        if set(inputs) != set(definition.inputs):
            expected, got = sorted(definition.inputs), sorted(inputs)
            raise RefusalError("INVALID_ARGUMENT", f"input size does not match signature: {got}, expected {expected}")
        feed = {definition.inputs[name].name: value for name, value in inputs.items()}
        try:
            return self._session.run({name: info.name for name, info in definition.outputs.items()}, feed)
        except tf.errors.OpError as error:
            raise RefusalError(grpc_name(error.error_code), error.message) from error
        except (ValueError, TypeError) as error:  # The session checks shapes and types before it runs.
            raise RefusalError("INVALID_ARGUMENT", str(error)) from error


def grpc_name(code):
    return next(status.name for status in grpc.StatusCode if status.value[0] == code)


class Models:
    """The versions of each model by name."""

    def __init__(self, directories: dict):
        self.versions = {}
        for name, directory in directories.items():
            folders = sorted((p for p in Path(directory).iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
            self.versions[name] = {int(folder.name): Servable(folder) for folder in folders}

    def find(self, name: str, version: int | None) -> tuple[int, Servable]:
        """Returns the version's number and itself; the newest where none is given."""
        versions = self.versions.get(name, {})
        number = max(versions, default=None) if version is None else version
        if number not in versions:
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RefusalError("NOT_FOUND", f"Servable not found for request: {wanted}")
        return number, versions[number]


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self._models = models

    def Predict(self, request, context):  # noqa: N802
        spec = request.model_spec
        try:
            version = spec.version.value if spec.HasField("version") else None
            number, servable = self._models.find(spec.name, version)
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            outputs = servable.predict(spec.signature_name, inputs)
        except RefusalError as refusal:
            context.abort(grpc.StatusCode[refusal.code], refusal.text)
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = spec.name, number
        response.model_spec.signature_name = spec.signature_name
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


class Status(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self._models = models

    def GetModelStatus(self, request, context):  # noqa: N802
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in self._models.versions.get(request.model_spec.name, ()):
            response.model_version_status.add(version=number, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        if not response.model_version_status:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {request.model_spec.name}")
        return response


class Rest(http.server.BaseHTTPRequestHandler):
    """Rows in, rows out; `*_bytes` outputs in base64."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path)
        try:
            if not match:
                raise RefusalError("NOT_FOUND", f"Malformed request: POST {self.path}")
            _, servable = self.server.models.find(match[1], match[2] and int(match[2]))
            rows = request["instances"]
            inputs = {name: _column([row[name] for row in rows]) for name in rows[0]}
            ((name, values),) = servable.predict(request.get("signature_name", ""), inputs).items()
            encoded = [_row(value) if name.endswith("_bytes") else value.tolist() for value in values]
            self._answer(200, {"predictions": encoded})
        except RefusalError as refusal:
            self._answer(HTTP_STATUS.get(refusal.code, 500), {"error": refusal.text})

    def do_GET(self):
        match = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?", self.path)
        versions = self.server.models.versions.get(match[1], {}) if match else {}
        versions = [number for number in versions if match[2] in (None, str(number))]
        content = {"model_version_status": [{"version": str(n), "state": "AVAILABLE"} for n in versions]}
        self._answer(200 if versions else 404, content if versions else {"error": f"no model at {self.path}"})

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _column(values):
    if isinstance(values[0], dict):
        return np.array([base64.b64decode(value["b64"]) for value in values], object)
    return np.array(values)


def _row(value):
    return {"b64": base64.b64encode(value).decode()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--rest-port", type=int, default=0)
    parser.add_argument("--max-message-bytes", type=int, default=-1)
    options = parser.parse_args()
    models = Models(dict(pair.split("=", 1) for pair in options.models))

    limit = [("grpc.max_receive_message_length", options.max_message_bytes), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[*limit, ("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Status(models), server)
    grpc_port = server.add_insecure_port(f"127.0.0.1:{options.grpc_port}")
    server.start()
    http.server.ThreadingHTTPServer.request_queue_size = 128
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", options.rest_port), Rest)
    rest.models = models
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    print(json.dumps({"grpc": grpc_port, "rest": rest.server_address[1]}), flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
