"""An export behind gRPC and REST, and the client that asks.

The server is a stand-in (model_server.py), and TensorFlow Serving where it can be had: with the addresses of a running
one in KERASSEG_SERVING_REST and KERASSEG_SERVING_GRPC and the folder that it watches in KERASSEG_SERVING_MODELS
(deploy/README.md says how to start it), or with tensorflow_model_server on PATH.
"""

import contextlib
import io
import itertools
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import grpc
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow import keras

from kerasseg import _predict_messages as messages
from kerasseg.client import Client, RefusedError, ServerError, UnavailableError
from kerasseg.export import saved_model
from kerasseg.inference import Segmenter

pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

STAND_IN = Path(__file__).with_name("model_server.py")
DEPLOY = STAND_IN.parents[1] / "deploy"
BINARY = "tensorflow_model_server"
ELSEWHERE = ("KERASSEG_SERVING_REST", "KERASSEG_SERVING_GRPC", "KERASSEG_SERVING_MODELS")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(server, name, version):
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://{server.address('rest')}/v1/models/{name}/versions/{version}") as reply,
    ):
        return "AVAILABLE" in reply.read().decode()
    return False


class Served:
    """Models by name, exported into a folder; two versions of "colour". All kinds of weights and of looks occur."""

    def __init__(self, folder):
        keras.utils.set_random_seed(1)
        self.old, self.colour = rounded(network(3, 4), np.float16), network(3, 4)
        self.spectral = rounded(network(5, 3), tf.bfloat16.as_numpy_dtype)
        self.old_looks = {"flip": True, "tile_size": 40, "overlap": 12}
        exports = [
            saved_model(self.old, folder / "colour", weights="float16", **self.old_looks),
            saved_model(self.colour, folder / "colour"),
            saved_model(self.spectral, folder / "spectral", weights="bfloat16"),
        ]
        self.versions = [(path.parent.name, int(path.name)) for path in exports]
        self.directories = {name: folder / name for name in ("colour", "spectral")}

    def wait(self, server):
        """Returns once the server has all versions."""
        for _ in range(1200):
            if all(answers(server, *version) for version in self.versions):
                return
            server.check()
            time.sleep(0.1)
        raise RuntimeError("the server does not come up within two minutes")


class Elsewhere:
    """A server that runs somewhere and is left alone."""

    def __init__(self, served):
        self.served = served
        served.wait(self)

    def address(self, protocol):
        return os.environ[f"KERASSEG_SERVING_{protocol.upper()}"]

    def resident_bytes(self):
        return 0

    def check(self):
        pass

    def kill(self):
        pass


class Running:
    """A server process on two ports of its own, which it keeps when it is started again."""

    def __init__(self, kind, served, *options):
        self.grpc, self.rest = free_port(), free_port()
        self.served, self._process = served, None
        if kind == "stand-in":
            models = [f"{name}={directory}" for name, directory in served.directories.items()]
            self._command = [sys.executable, str(STAND_IN), *models, *options]
            self._command += [f"--grpc-port={self.grpc}", f"--rest-port={self.rest}"]
        else:
            folder = served.directories["colour"].parent
            config = (DEPLOY / "tests.config").read_text().replace("/models", str(folder))
            (folder / "tests.config").write_text(config)
            self._command = [
                BINARY,
                f"--port={self.grpc}",
                f"--rest_api_port={self.rest}",
                f"--model_config_file={folder / 'tests.config'}",
            ]
        self.start()

    def start(self):
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.served.wait(self)

    def check(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"the server ended with {self._process.returncode}")

    def kill(self):
        self._process.kill()
        self._process.communicate()

    def resident_bytes(self):
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def address(self, protocol):
        return f"127.0.0.1:{self.grpc if protocol == 'grpc' else self.rest}"


def network(channels, num_classes):
    image = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(16, 5, padding="same", activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 1)(x))


def rounded(model, dtype):
    """Returns the model with weights that 16 bits hold, so that nothing is lost when they are stored so."""
    model.set_weights([weight.astype(dtype).astype(np.float32) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return Served(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module", params=["stand-in", "TensorFlow Serving"])
def server(request, served):
    if request.param == "stand-in":
        running = Running(request.param, served)
    elif all(name in os.environ for name in ELSEWHERE):
        running = Elsewhere(Served(Path(os.environ["KERASSEG_SERVING_MODELS"])))
    elif shutil.which(BINARY):
        running = Running(BINARY, served)
    else:
        pytest.skip(f"no {BINARY} on PATH, and {', '.join(ELSEWHERE)} are not all set (deploy/README.md)")
    yield running
    running.kill()


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def mixed_images(count):
    sizes = itertools.cycle([(8, 9), (64, 33), (1, 1), (7, 120), (40, 40)])
    return [random_image(*next(sizes), 3, seed=i) for i in range(count)]


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_masks_are_the_models(protocol, server, served):
    images = mixed_images(7)
    with Client(server.address(protocol), "colour", protocol=protocol, batch_size=3) as client:
        masks = client.segment(images)
    assert len(masks) == len(images)
    for image, mask in zip(images, masks, strict=True):
        np.testing.assert_array_equal(mask, Segmenter(served.colour).segment(image))
    first, _ = (number for name, number in server.served.versions if name == "colour")
    (mask,) = Client(server.address(protocol), "colour", protocol=protocol, version=first).segment(images[1:2])
    np.testing.assert_array_equal(mask, Segmenter(served.old, **served.old_looks).segment(images[1]))
    assert (mask != masks[1]).any()


def test_real_images_of_five_sizes_one_to_four_at_a_time(real_data, server, served):
    folder = real_data / "voc" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    by_size = {cv2.imread(str(path)).shape: path for path in sorted(folder.glob("*.jpg"))}
    files = list(by_size.values())[:5]
    assert len(files) == 5
    expected = [Segmenter(served.colour).segment(path) for path in files]
    for protocol, batch_size in (("rest", 1), ("grpc", 2), ("rest", 3), ("grpc", 4)):
        with Client(server.address(protocol), "colour", protocol=protocol, batch_size=batch_size) as client:
            for mask, wanted in zip(client.segment(files), expected, strict=True):
                assert (mask != wanted).mean() < 1e-4  # JPEGs are decoded by another build of the same library.


def test_the_original_clients_request_is_answered_with_its_map(server, served):
    image = random_image(31, 50, 3).astype(np.float32)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "colour", "predict_images"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(image, shape=[1, *image.shape]))
    request.inputs["height"].CopyFrom(tf.make_tensor_proto(31, shape=[1]))
    request.inputs["width"].CopyFrom(tf.make_tensor_proto(50, shape=[1]))
    with grpc.insecure_channel(server.address("grpc")) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, 30.0)
    found = tf.make_ndarray(response.outputs["segmentation_map"])
    assert found.dtype == np.int64
    assert ("colour", response.model_spec.version.value) == server.served.versions[1]
    np.testing.assert_array_equal(found[0], Segmenter(served.colour).segment(image.astype(np.uint8)))


def test_images_of_five_channels_go_as_arrays(server, served):
    image = random_image(20, 30, 5)
    expected = Segmenter(served.spectral).segment(image)
    with Client(server.address("grpc"), "spectral", protocol="grpc") as client:
        np.testing.assert_array_equal(client.segment([image])[0], expected)
    with Client(server.address("grpc"), "spectral", protocol="grpc", tile_size=12, overlap=6) as client:
        np.testing.assert_array_equal(client.segment([image])[0], expected)
    with pytest.raises(ServerError, match="has no signature 'predict_bytes'"):
        Client(server.address("grpc"), "spectral", protocol="grpc").segment([image[..., :3]])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_large_images_go_in_tiles(protocol, server, served, tmp_path):
    """The network sees two pixels around each; tiles that share eight know four beyond each cut."""
    image = random_image(70, 101, 3)
    expected = Segmenter(served.colour).segment(image)
    Image.fromarray(image).save(tmp_path / "image.png")
    with Client(server.address(protocol), "colour", protocol=protocol, tile_size=32, overlap=8) as client:
        for mask in client.segment([image, tmp_path / "image.png", (tmp_path / "image.png").read_bytes()]):
            np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(client.segment([image[:32, :32]])[0].shape, (32, 32))


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_broken_image_costs_itself_only(protocol, server, served, tmp_path):
    good = mixed_images(4)
    truncated = tmp_path / "truncated.jpg"
    Image.fromarray(random_image(50, 60, 3)).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:400])
    images = [good[0], b"no image", good[1], tmp_path / "none.png", good[2], truncated, good[3]]
    with Client(server.address(protocol), "colour", protocol=protocol, batch_size=7) as client:
        results = list(client.segment_each(images))
        for number, image in zip((0, 2, 4, 6), good, strict=True):
            np.testing.assert_array_equal(results[number], Segmenter(served.colour).segment(image))
        assert isinstance(results[1], RefusedError)
        assert "none.png: cannot be read" in str(results[3])
        assert isinstance(results[5], RefusedError)
        with pytest.raises(RefusedError):
            client.segment(images)


def hostile_files():
    """Returns files by what is wrong with them; to the last three nothing is."""
    small = random_image(40, 50, 3)
    jpeg, png = (cv2.imencode(kind, small)[1].tobytes() for kind in (".jpg", ".png"))
    frame = jpeg.index(b"\xff\xc0") + 5  # height and width in its header
    return {
        "truncated JPEG": jpeg[:300],
        "truncated PNG": png[:60],
        "JPEG of 65,500 x 65,500 pixels in its header": jpeg[:frame]
        + struct.pack(">HH", 65500, 65500)
        + jpeg[frame + 4 :],
        "PNG of 2^31 - 1 pixels a side in its header": png[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + png[24:],
        "JPEG of 0 x 50": jpeg[:frame] + struct.pack(">HH", 0, 50) + jpeg[frame + 4 :],
        "PNG of 0 x 0": png[:16] + struct.pack(">II", 0, 0) + png[24:],
        "JPEG of 65,500 x 300 pixels": cv2.imencode(".jpg", np.zeros((300, 65500, 3), np.uint8))[1].tobytes(),
        "GIF": b"GIF89a" + bytes(50),
        "nothing": b"",
        "wide JPEG": cv2.imencode(".jpg", np.tile(small[:4], (1, 1310, 1)))[1].tobytes(),
        "grey PNG with alpha": png_of(Image.fromarray(random_image(20, 31, 2), "LA")),
        "CMYK": png_of(Image.fromarray(random_image(9, 7, 4), "CMYK"), "jpeg"),
    }


def png_of(image, kind="png"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_hostile_images_cost_themselves_only(protocol, server, served):
    """All in one request with good ones; the server then goes on, and has not taken memory for them."""
    files, good = hostile_files(), mixed_images(2)
    channels = random_image(8, 9, 5)
    expected = [Segmenter(served.colour).segment(image) for image in good]
    with Client(server.address(protocol), "colour", protocol=protocol, batch_size=20) as client:
        client.segment(good)
        before = server.resident_bytes()
        results = list(client.segment_each([good[0], *files.values(), channels, good[1]]))
        np.testing.assert_array_equal(results[0], expected[0])
        np.testing.assert_array_equal(results[-1], expected[1])
        assert isinstance(results[-2], (ValueError, RefusedError))
        answered = {what for what, r in zip(files, results[1:], strict=False) if isinstance(r, np.ndarray)}
        assert answered == {"wide JPEG", "grey PNG with alpha", "CMYK"}
        for what, result in zip(files, results[1:], strict=False):
            assert what in answered or isinstance(result, RefusedError), (what, result)
        assert results[1 + list(files).index("wide JPEG")].shape == (4, 65500)
        assert server.resident_bytes() - before < 300 * 2**20
        np.testing.assert_array_equal(client.segment(good)[1], expected[1])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_two_hundred_concurrent_requests_are_neither_lost_nor_mixed_up(protocol, server, served):
    images = mixed_images(200)
    images[::10] = [random_image(300 + i, 260, 3, seed=i) for i in range(20)]
    expected = [Segmenter(served.colour).segment(image) for image in images]
    resident = []
    with Client(server.address(protocol), "colour", protocol=protocol, batch_size=1, concurrency=16) as client:
        for _ in range(2):
            for mask, wanted in zip(client.segment(images), expected, strict=True):
                np.testing.assert_array_equal(mask, wanted)
            resident.append(server.resident_bytes())
    # Each of the twenty large ones has 5 MB of feature maps.
    assert resident[1] - resident[0] < 50 * 2**20


@pytest.mark.slow
def test_a_server_restarted_in_the_middle_is_survived(served):
    running = Running("stand-in", served)
    images = mixed_images(60)
    try:
        for protocol in ("rest", "grpc"):
            client = Client(running.address(protocol), "colour", protocol=protocol, batch_size=2, patience_s=120)
            masks = []
            for mask in client.segment_each(images):
                masks.append(mask)
                if len(masks) == 20:
                    running.kill()
                    threading.Thread(target=running.start).start()
            for image, mask in zip(images, masks, strict=True):
                np.testing.assert_array_equal(mask, Segmenter(served.colour).segment(image))
    finally:
        running.kill()


def test_what_is_wrong_is_said_over_grpc(server):
    address, image = server.address("grpc"), random_image(9, 9, 3)

    def ask(**options):
        return Client(options.pop("address", address), options.pop("model", "colour"), protocol="grpc", **options)

    with pytest.raises(ServerError, match=r"does not serve a model 'other' in that version \(Servable not found"):
        ask(model="other").segment([image])
    with pytest.raises(ServerError, match="does not serve a model 'colour' in that version"):
        ask(version=9).segment([image])
    with pytest.raises(UnavailableError, match=r"no connection to .*is this its gRPC port \(8500 by default"):
        ask(address=f"127.0.0.1:{free_port()}", patience_s=0).segment([image])
    with pytest.raises(ServerError, match=r"no answer within 0\.01 s; give it more time"):
        ask(timeout_s=0.01).segment([random_image(2000, 2000, 3)])
    with pytest.raises(ValueError, match="sent as uint8, got uint16"):
        ask().segment([np.zeros((3, 3, 2), np.uint16)])


def test_a_message_beyond_the_servers_limit_goes_in_tiles(served):
    running = Running("stand-in", served, "--max-message-bytes=20000")
    image = random_image(100, 100, 3)
    try:
        with pytest.raises(
            RefusedError, match=r"the image is too large for the server .*send it in tiles \(tile_size\)"
        ):
            Client(running.address("grpc"), "colour", protocol="grpc").segment([image])
        client = Client(running.address("grpc"), "colour", protocol="grpc", tile_size=50, overlap=8)
        np.testing.assert_array_equal(client.segment([image])[0], Segmenter(served.colour).segment(image))
    finally:
        running.kill()


def test_the_servers_configuration_is_read_by_the_official_classes():
    text = (DEPLOY / "models.config").read_text()
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path) == ("unet", "/models/unet")
    assert model.model_version_policy.latest.num_versions == 2
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}
    text = (DEPLOY / "tests.config").read_text()
    models = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert {model.name: model.base_path for model in models} == {n: f"/models/{n}" for n in ("colour", "spectral")}
    assert all(model.model_version_policy.HasField("all") for model in models)


def test_messages_are_those_of_the_official_stubs():
    ours = messages.PredictRequest()
    ours.model_spec.name, ours.model_spec.signature_name, ours.model_spec.version.value = "m", "s", 3
    tensor = ours.inputs.add(key="x").value
    tensor.dtype, tensor.content = messages.UINT8, bytes(range(6))
    for side in (1, 2, 3):
        tensor.shape.dim.add(size=side)
    text = ours.inputs.add(key="y").value
    text.dtype = messages.STRING
    text.string_val.extend([b"a", b"\0b"])
    text.shape.dim.add(size=2)
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name, theirs.model_spec.version.value) == ("m", "s", 3)
    np.testing.assert_array_equal(tf.make_ndarray(theirs.inputs["x"]), np.arange(6, dtype=np.uint8).reshape(1, 2, 3))
    assert tf.make_ndarray(theirs.inputs["y"]).tolist() == [b"a", b"\0b"]

    spec = messages.PredictRequest()
    spec.model_spec.version_label = "stable"
    assert predict_pb2.PredictRequest.FromString(spec.SerializeToString()).model_spec.version_label == "stable"

    response = predict_pb2.PredictResponse()
    response.outputs["masks"].CopyFrom(tf.make_tensor_proto([b"one", b"two"]))
    response.outputs["map"].CopyFrom(tf.make_tensor_proto(np.arange(4, dtype=np.uint8)))
    found = {n.key: n.value for n in messages.PredictResponse.FromString(response.SerializeToString()).outputs}
    assert list(found["masks"].string_val) == [b"one", b"two"]
    assert found["map"].content == bytes(range(4))


def test_arguments_are_checked():
    for options, text in (
        ({"protocol": "http2"}, "protocol must be one of rest, grpc"),
        ({"concurrency": 0}, "must be positive"),
        ({"patience_s": -1}, "must not be negative"),
        ({"tile_size": 64}, r"overlap must lie in 0 to 63 for tiles of 64 pixels, got 128"),
        ({"version": 1, "label": "stable"}, "a version or a label, got both"),
    ):
        with pytest.raises(ValueError, match=text):
            Client("localhost:8501", "x", **options)
    with pytest.raises(ValueError, match='over gRPC only: protocol="grpc"'):
        Client("localhost:8501", "x").segment([np.zeros((3, 3, 2), np.uint8)])


def test_the_client_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys; sys.modules.update(tensorflow=None, keras=None, tf_keras=None)\n"
        "from kerasseg.client import Client\n"
        "Client('localhost:8500', 'x', protocol='grpc').close(); print('fine')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=STAND_IN.parents[1])
    assert result.stdout.strip() == "fine", result.stderr
