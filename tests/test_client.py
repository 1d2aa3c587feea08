"""The client against a server that speaks TensorFlow Serving's REST format and runs a real export."""

import base64
import contextlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import segment as segment_tool
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from kerasseg.client import Client, ServerError
from kerasseg.export import saved_model
from kerasseg.inference import Segmenter
from kerasseg.spec import DataError

KNOWN = {"/v1/models/tiny:predict", "/v1/models/tiny/versions/1:predict"}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as tensorflow_model_server does: rows in, rows out, `*_bytes` outputs in base64."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with contextlib.suppress(BrokenPipeError):  # The client gave up waiting.
            self._answer(*self.server.predict(self.path, request))

    def _answer(self, status, content):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Servable:
    """An exported model, run from its graph by TensorFlow's loader; no Keras."""

    def __init__(self, directory):
        self.requests = []
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            self._signatures = tf.compat.v1.saved_model.load(self._session, ["serve"], str(directory)).signature_def

    def predict(self, path, request):
        self.requests.append(request)
        if path not in KNOWN:
            name = path.split("/")[3].split(":")[0]
            return 404, {"error": f"Servable not found for request: Latest({name})"}
        signature = self._signatures.get(request["signature_name"])
        if signature is None:
            return 400, {"error": f'Serving signature name: "{request["signature_name"]}" not found in signature def'}
        ((name, info),) = signature.inputs.items()
        values = [base64.b64decode(row[name]["b64"]) for row in request["instances"]]
        ((_, output),) = signature.outputs.items()
        try:
            result = self._session.run(output.name, {info.name: values})
        except tf.errors.InvalidArgumentError as error:
            return 400, {"error": error.message}
        return 200, {"predictions": [{"b64": base64.b64encode(data).decode()} for data in result]}


@contextlib.contextmanager
def serving(predict):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.predict = predict
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Conv2D(4, 5, padding="same")(image))


@pytest.fixture(scope="module")
def export(model, tmp_path_factory):
    names, palette = list("abcd"), np.arange(12).reshape(4, 3) * 20
    return saved_model(model, tmp_path_factory.mktemp("export") / "tiny", class_names=names, palette=palette)


@pytest.fixture(scope="module")
def servable(export):
    return Servable(export)


@pytest.fixture(scope="module")
def address(servable):
    with serving(servable.predict) as address:
        yield address


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_masks_are_the_models(address, model, servable, tmp_path):
    arrays = [random_image(*size, 3, seed=i) for i, size in enumerate([(8, 9), (20, 5), (1, 1), (7, 30), (6, 6)])]
    Image.fromarray(arrays[0]).save(tmp_path / "a.png")
    Image.fromarray(arrays[1]).save(tmp_path / "b.bmp")
    images = [*arrays, arrays[0].astype(np.uint16) * 257, tmp_path / "a.png", str(tmp_path / "b.bmp")]
    images += [(tmp_path / "a.png").read_bytes(), np.dstack([arrays[0], arrays[0][..., 0]]), arrays[2][..., 0]]
    expected = [Segmenter(model).segment(image) for image in [*arrays, *arrays[:1], *arrays[:2], *arrays[:1] * 2]]
    expected.append(Segmenter(model).segment(arrays[2][..., 0]))
    servable.requests.clear()
    masks = Client(address, model="tiny", batch_size=3).segment(images)
    assert sorted(len(request["instances"]) for request in servable.requests) == [2, 3, 3, 3]
    assert len(masks) == len(expected)
    for mask, wanted in zip(masks, expected, strict=True):
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, wanted)
    assert Client(f"http://{address}/", model="tiny", version=1).segment([]) == []
    np.testing.assert_array_equal(Client(address, "tiny", version=1).segment(arrays[:1])[0], expected[0])


def test_a_model_or_version_that_is_not_served(address):
    with pytest.raises(ServerError, match=rf"{address} does not serve a model 'other' .*Servable not found"):
        Client(address, model="other").segment([random_image(4, 4, 3)])
    with pytest.raises(ServerError, match="does not serve a model 'tiny' in that version"):
        Client(address, model="tiny", version=9).segment([random_image(4, 4, 3)])


def test_a_model_without_our_signature():
    error = {"error": 'Serving signature name: "predict_bytes" not found in signature def'}
    with serving(lambda *_: (400, error)) as address, pytest.raises(ServerError, match="has no signature 'predict_by"):
        Client(address, model="x").segment([random_image(4, 4)])


def test_a_refused_image(address):
    with pytest.raises(ServerError, match=r"model 'tiny' at 127.0.0.1:\d+ answers 400: .*expected a JPEG or PNG file"):
        Client(address, model="tiny").segment([b"no image"])


def test_no_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=rf"no connection to 127\.0\.0\.1:{port} .*refused.*8500 is gRPC"):
        Client(f"127.0.0.1:{port}", model="tiny", patience_s=0).segment([random_image(4, 4)])


def test_a_server_that_is_too_slow():
    def slow(*_):
        time.sleep(1)
        return 200, {}

    with serving(slow) as address, pytest.raises(ServerError, match=r"no answer within 0\.2 s"):
        Client(address, model="tiny", timeout_s=0.2).segment([random_image(4, 4)])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((200, b"<html>"), "expected JSON, got 200"),
        ((200, {"predictions": []}), "expected 1 masks, got 0"),
        ((200, {"outputs": 3}), "expected masks in the answer"),
        ((200, {"predictions": [{"b64": "?"}]}), "expected masks in the answer"),
        ((200, {"predictions": [{"b64": base64.b64encode(b"x").decode()}]}), "expected masks as PNGs"),
        ((503, {"error": "busy"}), "answers 503: busy"),
    ],
)
def test_answers_that_are_not_masks(answer, text):
    with serving(lambda *_: answer) as address, pytest.raises(ServerError, match=text):
        Client(address, model="tiny", patience_s=0).segment([random_image(4, 4)])


def test_arguments_are_checked(tmp_path):
    for server in ("localhost", "localhost:", ":8501", "localhost:http", "localhost:99999"):
        with pytest.raises(ValueError, match='expected the server as "host:port"'):
            Client(server, model="x")
    with pytest.raises(ValueError, match="must be positive"):
        Client("localhost:8501", model="x", timeout_s=0)
    client = Client("localhost:1", model="x")
    with pytest.raises(TypeError, match="expected a list of images, got one ndarray"):
        client.segment(random_image(4, 4))
    with pytest.raises(ValueError, match="expected images uint8 or uint16, .* got float64"):
        client.segment([np.zeros((4, 4))])
    with pytest.raises(ValueError, match="images of 2 channels can be sent over gRPC only"):
        client.segment([random_image(4, 4, 2)])
    with pytest.raises(DataError, match=r"none\.png: cannot be read \(No such file"):
        client.segment([tmp_path / "none.png"])
    (tmp_path / "text.tif").write_text("x")
    with pytest.raises(DataError, match=r"text\.tif: cannot be read as an image"):
        client.segment([tmp_path / "text.tif"])


def test_the_tool_writes_masks_and_names_bad_files(address, model, export, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    image = random_image(11, 13, 3)
    Image.fromarray(image).save(images / "good.png")
    (images / "bad.tif").write_text("x")
    (images / "cut.png").write_bytes((images / "good.png").read_bytes()[:60])
    arguments = ["--server", address, "--model", "tiny", "--images", str(images), "--output", str(tmp_path / "out")]
    with pytest.raises(DataError, match="2 of 3 images could not be segmented"):
        segment_tool.main([*arguments, "--classes", str(export.parent / "kerasseg.json")])
    shown = capsys.readouterr().err
    assert "bad.tif: cannot be read as an image" in shown
    assert "cut.png: model 'tiny' at" in shown
    mask = Image.open(tmp_path / "out" / "masks" / "good.png")
    np.testing.assert_array_equal(np.array(mask), Segmenter(model).segment(image))
    assert mask.getpalette()[:12] == (np.arange(12) * 20).tolist()


def test_the_tool_loads_no_tensorflow_and_reports_in_one_line(address, tmp_path):
    Image.fromarray(random_image(5, 6, 3)).save(tmp_path / "a.png")
    code = (
        "import sys; sys.path.insert(0, 'tools'); import _cli, segment\n"
        f"segment.main(['--server', {address!r}, '--model', 'tiny', '--images', {str(tmp_path / 'a.png')!r}, "
        f"'--output', {str(tmp_path / 'out')!r}])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
        "_cli.run(segment.main, ['--server', '127.0.0.1:1', '--model', 'x', '--images', "
        f"{str(tmp_path / 'a.png')!r}, '--output', {str(tmp_path / 'out')!r}])"
    )
    root = segment_tool.__file__.rsplit("/tools/", 1)[0]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert result.returncode == 1, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no connection to 127.0.0.1:1")
    assert (tmp_path / "out" / "masks" / "a.png").exists()
