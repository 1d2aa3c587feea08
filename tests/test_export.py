"""Export: the signatures are those that clients know, and their answers are the Keras model's."""

import contextlib
import hashlib
import io
import json
import resource
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow import keras
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import loader_impl

import kerasseg.weights
from kerasseg.export import ExportError, _saved_model, saved_model, verify
from kerasseg.inference import Segmenter
from kerasseg.models import deeplab_v3, unet
from kerasseg.spec import DataError


def ask(directory, signature, **inputs):
    """Runs a signature as a server would: from the graph, without Keras."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        definition = tf.compat.v1.saved_model.load(session, ["serve"], str(directory)).signature_def[signature]
        feed = {definition.inputs[name].name: value for name, value in inputs.items()}
        return session.run({name: info.name for name, info in definition.outputs.items()}, feed)


def tiny(channels=3, padding="same", size=(None, None)):
    keras.utils.set_random_seed(1)
    image = keras.Input((*size, channels))
    x = keras.layers.Conv2D(4, 3, padding=padding, activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(3, 3, padding=padding)(x))


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def valid_unet():
    keras.utils.set_random_seed(2)
    return unet(3, filters=2, depth=2, padding="valid")


@pytest.fixture(scope="module")
def exported(valid_unet, tmp_path_factory):
    return saved_model(valid_unet, tmp_path_factory.mktemp("exported") / "unet")


def test_signatures_are_the_originals(exported, oracle):
    expected = json.loads((oracle / "serving_signature.json").read_text())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, [expected["tag"]], str(exported))
    signature = loaded.signature_def[expected["signature_key"]]
    assert signature.method_name == expected["method_name"]
    for kind in ("inputs", "outputs"):
        tensors = getattr(signature, kind)
        assert set(tensors) == set(expected[kind])
        for name, info in expected[kind].items():
            assert tf.as_dtype(tensors[name].dtype).name == info["dtype"], name
            shape = tf.TensorShape(tensors[name].tensor_shape)
            assert (None if shape.rank is None else [-1 if n is None else n for n in shape]) == info["shape"], name


def test_other_signatures_are_as_documented(exported):
    loaded = tf.saved_model.load(str(exported))
    assert set(loaded.signatures) == {"predict_images", "serving_default", "predict_bytes"}
    default, files = loaded.signatures["serving_default"], loaded.signatures["predict_bytes"]
    assert default.structured_input_signature[1] == {
        "images": tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")
    }
    assert default.structured_outputs["segmentation_map"].dtype == tf.uint8
    assert files.structured_input_signature[1] == {"image_bytes": tf.TensorSpec((None,), tf.string, name="image_bytes")}
    assert files.structured_outputs["mask_bytes"].dtype == tf.string


@pytest.mark.parametrize("size", [(1, 1), (5, 90), (44, 44), (83, 61)])
def test_answers_are_the_models_at_the_images_size(exported, valid_unet, size):
    """Also below the border of a network without padding, where the mirror mirrors again."""
    image = random_image(*size, 3)
    expected = Segmenter(valid_unet).segment(image)
    answer = ask(exported, "predict_images", images=image[None], height=[999], width=-5)
    np.testing.assert_array_equal(answer["segmentation_map"][0], expected)
    batch = np.stack([image, image[::-1], image])
    answer = ask(exported, "serving_default", images=batch)["segmentation_map"]
    np.testing.assert_array_equal(answer[0], expected)
    np.testing.assert_array_equal(answer[2], expected)
    np.testing.assert_array_equal(answer[1], Segmenter(valid_unet).segment(image[::-1]))


def test_files_of_several_sizes_and_kinds_in_one_batch(exported, valid_unet):
    images = [random_image(*size, seed=i) for i, size in enumerate([(30, 41, 3), (50, 20, 3), (17, 18), (9, 9, 4)])]
    deep = np.random.default_rng(9).integers(0, 65536, (12, 14, 3), np.uint16)
    smooth = cv2.GaussianBlur(random_image(64, 64, 3), (0, 0), 8)
    jpeg = cv2.imencode(".jpg", smooth)[1].tobytes()
    files = [png(image) for image in images] + [cv2.imencode(".png", deep[..., ::-1])[1].tobytes(), jpeg]
    masks = [Image.open(io.BytesIO(m)) for m in ask(exported, "predict_bytes", image_bytes=files)["mask_bytes"]]
    assert {mask.mode for mask in masks} == {"L"}
    segmenter = Segmenter(valid_unet)
    for mask, image in zip(masks, [*images, deep], strict=False):
        np.testing.assert_array_equal(np.array(mask), segmenter.segment(image))
    expected = segmenter.segment(np.array(Image.open(io.BytesIO(jpeg))))
    np.testing.assert_array_equal(np.array(masks[-1]), expected)


def test_broken_and_hostile_files_are_errors(exported):
    """The bombs state sizes that would take 13 GB each; nothing of that is allocated before the header is refused."""
    good = cv2.imencode(".jpg", random_image(40, 50, 3))[1].tobytes()
    start = good.index(b"\xff\xc0") + 5  # of height and width in the frame header
    bomb = good[:start] + struct.pack(">HH", 65500, 65500) + good[start + 4 :]
    empty = good[:start] + struct.pack(">HH", 0, 50) + good[start + 4 :]
    wide = good[:start] + struct.pack(">HH", 40, 65500) + good[start + 4 :]
    small = png(random_image(8, 8, 3))
    cases = [
        (b"", "expected a JPEG or PNG file"),
        (b"no image", "expected a JPEG or PNG file"),
        (b"GIF89a" + bytes(50), "expected a JPEG or PNG file"),
        (cv2.imencode(".bmp", random_image(4, 4, 3))[1].tobytes(), "expected a JPEG or PNG file"),
        (bomb, r"an image must have 1 to 16777216 pixels, got height and width\] \[65500 65500"),
        (small[:16] + struct.pack(">II", 65500, 65500) + small[24:], r"an image must have 1 to 16777216 pixels"),
        (small[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + small[24:], r"an image must have 1 to 16777216"),
        (small[:16] + struct.pack(">ii", -5, -5) + small[24:], None),
        (small[:16] + struct.pack(">II", 0, 8) + small[24:], r"an image must have 1 to"),
        (empty, None),
        (good[:200], None),
        (small[:20], "must have 1 to"),
        (small[:60], None),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(exported)).signature_def["predict_bytes"]
        output, input_ = loaded.outputs["mask_bytes"].name, loaded.inputs["image_bytes"].name
        for data, text in cases:
            with pytest.raises(tf.errors.InvalidArgumentError, match=text):
                session.run(output, {input_: [data]})
        # Below the limit, a frame that holds less than it says is filled up by the decoder or refused, as it likes.
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            session.run(output, {input_: [wide]})
        # Other channels than the model's are no fault: CMYK, alpha, grey.
        cmyk = io.BytesIO()
        Image.fromarray(random_image(9, 7, 4), "CMYK").save(cmyk, "jpeg")
        assert len(session.run(output, {input_: [good, cmyk.getvalue(), png(random_image(5, 6))]})) == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # KiB


def test_arrays_beyond_the_limit_are_refused(tmp_path):
    version = saved_model(tiny(), tmp_path / "model", max_pixels=2**14)
    assert json.loads((tmp_path / "model" / "kerasseg.json").read_text())["max_pixels"] == 2**14
    ask(version, "serving_default", images=random_image(2, 128, 128, 3))
    for shape in ((1, 128, 129, 3), (1, 0, 5, 3)):
        for signature, more in (("serving_default", {}), ("predict_images", {"height": 1, "width": 1})):
            with pytest.raises(tf.errors.InvalidArgumentError, match="an image must have 1 to 16384 pixels"):
                ask(version, signature, images=np.zeros(shape, np.uint8), **more)
    with pytest.raises(ValueError, match="max_pixels must be at least 16384, got 0"):
        saved_model(tiny(), tmp_path / "other", max_pixels=0)


def test_a_warm_up_is_replayed_and_checksums_hold(exported):
    """Read with the official stubs, and run as a server would run it."""
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(exported / "assets.extra" / "tf_serving_warmup_requests"))
    requests = [prediction_log_pb2.PredictionLog.FromString(r.numpy()).predict_log.request for r in records]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default", "predict_bytes"]
    for request in requests:
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        (answer,) = ask(exported, request.model_spec.signature_name, **inputs).values()
        assert len(answer) == 1
    description = json.loads((exported / "assets.extra" / "kerasseg.json").read_text())
    assert {"saved_model.pb", "assets.extra/tf_serving_warmup_requests"} <= set(description["files"])
    for name, checksum in description["files"].items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == checksum


def test_operations_are_those_of_tensorflow_itself(exported):
    """TensorFlow Serving registers TensorFlow's operations and no others: none of add-ons, none of Python."""
    graph = loader_impl.parse_saved_model(str(exported)).meta_graphs[0].graph_def
    used = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    used -= {function.signature.name for function in graph.library.function}
    assert {"Conv2D", "DecodePng", "DecodeJpeg", "EncodePng"} <= used
    assert not [name for name in used if op_def_registry.get(name) is None]
    assert not [name for name in used if "PyFunc" in name]


def test_the_command_line_shows_the_documented_signatures(exported):
    program = Path(sys.executable).with_name("saved_model_cli")
    shown = subprocess.run([program, "show", "--all", "--dir", exported], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    for part in (
        "signature_def['predict_bytes']",
        "inputs['image_bytes'] tensor_info: dtype: DT_STRING shape: (-1)",
        "outputs['mask_bytes'] tensor_info: dtype: DT_STRING shape: (-1)",
        "inputs['images'] tensor_info: dtype: DT_UINT8 shape: (-1, -1, -1, 3)",
        "outputs['segmentation_map'] tensor_info: dtype: DT_UINT8 shape: (-1, -1, -1)",
        "inputs['images'] tensor_info: dtype: DT_FLOAT shape: (1, -1, -1, 3)",
        "outputs['segmentation_map'] tensor_info: dtype: DT_INT64 shape: (1, -1, -1)",
    ):
        assert part in text, part


def test_the_export_is_compared_on_given_images(valid_unet, exported):
    verify(valid_unet, exported, [random_image(30, 41, 3)])
    with pytest.raises(ValueError, match=r"expected images uint8 \[H, W, 3\], got float64 \(4, 4, 3\)"):
        verify(valid_unet, exported, [np.zeros((4, 4, 3))])


def test_the_original_checkpoint_gives_the_original_servables_map(oracle, tmp_path):
    folder = oracle / "thin32_r50_trainscript"
    case = np.load(folder / "serving_case.npz")
    model = deeplab_v3(21, variant="original", width=1 / 32)
    kerasseg.weights.load_tf1(model, folder / "model.ckpt")
    version = saved_model(model, tmp_path / "deeplab")
    height, width = case["image"].shape[1:3]
    answer = ask(version, "predict_images", images=case["image"], height=[height], width=[width])
    np.testing.assert_array_equal(answer["segmentation_map"], case["segmentation_map"])
    assert answer["segmentation_map"].dtype == case["segmentation_map"].dtype
    files = ask(version, "predict_bytes", image_bytes=[png(case["image"][0])])["mask_bytes"]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(files[0]))), case["segmentation_map"][0])


@pytest.mark.parametrize(("channels", "names"), [(1, 3), (2, 2), (4, 3), (7, 2)])
def test_models_of_other_channels(tmp_path, channels, names):
    """Files of 2 or 7 channels cannot be decoded in the graph: such models have no `predict_bytes`."""
    version = saved_model(tiny(channels), tmp_path / "model")
    assert len(tf.saved_model.load(str(version)).signatures) == names


def test_models_of_one_logit_tell_two_classes_apart(tmp_path):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(image))
    pixels = random_image(20, 30, 3)
    version = saved_model(model, tmp_path / "model", class_names=["outside", "cell"], images=[pixels])
    expected = model(pixels[None].astype(np.float32)).numpy()[0, ..., 0] > 0
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(ask(version, "serving_default", images=pixels[None])["segmentation_map"][0], expected)


def test_models_of_one_size_take_smaller_images(tmp_path):
    model = tiny(size=(32, 40))
    version = saved_model(model, tmp_path / "model")
    image = random_image(20, 40, 3)
    answer = ask(version, "serving_default", images=image[None])["segmentation_map"]
    np.testing.assert_array_equal(answer[0], Segmenter(model).segment(image))
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"height must be at most 32 pixels \(more with tile_size at the export\), got",
    ):
        ask(version, "serving_default", images=random_image(1, 33, 40, 3))


def test_versions_count_up_and_are_described(tmp_path, monkeypatch):
    monkeypatch.setattr(_saved_model, "verify", lambda *_, **__: None)
    model, folder = tiny(), tmp_path / "model"
    names, palette = ["sky", "cell", "rim"], np.eye(3, dtype=np.uint8) * 255
    first = saved_model(model, folder, class_names=names, palette=palette, training={"data": "cells"})
    assert first == folder / "1"
    before = (first / "saved_model.pb").stat().st_mtime_ns
    (folder / "7").mkdir()
    assert saved_model(model, folder).name == "8"
    assert (first / "saved_model.pb").stat().st_mtime_ns == before
    assert sorted(p.name for p in folder.iterdir()) == ["1", "7", "8", "kerasseg.json"]
    described = json.loads((first / "assets.extra" / "kerasseg.json").read_text())
    assert described["class_names"] == names
    assert described["palette"] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert described["training"] == {"data": "cells"}
    newest = json.loads((folder / "kerasseg.json").read_text())
    assert (newest["version"], newest["class_names"]) == (8, ["0", "1", "2"])


def test_an_export_that_answers_otherwise_is_removed(tmp_path, monkeypatch):
    model, other = tiny(), tiny()
    other.set_weights([w[..., ::-1] for w in other.get_weights()])
    version = saved_model(model, tmp_path / "model")
    verify(model, version)
    with pytest.raises(ExportError, match=r"predict_images: \d+ of \d+ pixels differ from the Keras model"):
        verify(other, version)
    monkeypatch.setattr(_saved_model, "verify", lambda _, *rest, **options: verify(other, *rest, **options))
    with pytest.raises(ExportError):
        saved_model(model, tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["1", "kerasseg.json"]


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="expected 3 class names, one per class of the model, got 2"):
        saved_model(tiny(), tmp_path / "model", class_names=["a", "b"])
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is a file; expected a folder"):
        saved_model(tiny(), tmp_path / "file")
    assert not (tmp_path / "model").exists()
