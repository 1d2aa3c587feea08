"""LiteRT files: every network converts, answers as the Keras model does, and is refused where it does not."""

import hashlib
import json

import cv2
import export as export_tool
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from test_model_contract import build

import kerasseg.models
from kerasseg.export import LITE_KINDS, ExportError, LiteModel, _lite, lite
from kerasseg.export._comparison import by_windows
from kerasseg.export._lite_model import runner
from kerasseg.export._portable import portable
from kerasseg.export._unpooling import without_pooling_gradients
from kerasseg.inference import Segmenter
from kerasseg.layers import Normalize, size_rules
from kerasseg.metrics import confusion_matrix, scores
from kerasseg.records import Example, write
from kerasseg.spec import DataError, DatasetSpec


def shaken(model, seed=0):
    """Gives normalisations and biases values that matter, and no class all pixels."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.name.split("/")[-1].split(":")[0]
        if name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif name in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0, 0.2, weight.shape))
    return model


def two_layers(channels=3, size=(None, None), classes=3, seed=1):
    keras.utils.set_random_seed(seed)
    image = keras.Input((*size, channels))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(classes, 3, padding="same")(x))


def random_image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def described(path):
    return json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize(("pool_size", "size"), [(2, (6, 8)), (2, (7, 5)), (3, (7, 8)), (3, (9, 6)), (2, (None, None))])
def test_unpooling_by_comparison_is_the_gradient_of_pooling(pool_size, size):
    """Values of 0 to 3 only, so that most windows have ties."""
    window = {"ksize": [1, pool_size, pool_size, 1], "strides": [1, pool_size, pool_size, 1], "padding": "SAME"}

    def unpool(pooled_from, values):
        pooled = tf.raw_ops.MaxPool(input=pooled_from, **window)
        return tf.raw_ops.MaxPoolGrad(orig_input=pooled_from, orig_output=pooled, grad=values, **window)

    specs = [tf.TensorSpec((None, *size, 4)), tf.TensorSpec((None, None, None, 4))]
    function = tf.function(unpool).get_concrete_function(*specs)
    graph = without_pooling_gradients(function.graph.as_graph_def())
    assert "MaxPoolGrad" not in {node.op for node in graph.node}
    rng = np.random.default_rng(0)
    height, width = (side or 11 for side in size)
    pooled_from = rng.integers(-1, 3, (2, height, width, 4)).astype(np.float32)
    values = rng.normal(size=(2, -(-height // pool_size), -(-width // pool_size), 4)).astype(np.float32)
    expected = np.zeros_like(pooled_from)
    for n, y, x, c in np.ndindex(values.shape):
        # Windows of SAME padding begin in front of the image by half of what it lacks.
        top, left = (i * pool_size - (-side % pool_size) // 2 for i, side in ((y, height), (x, width)))
        places = [(i, j) for i in range(top, top + pool_size) for j in range(left, left + pool_size)]
        places = [(i, j) for i, j in places if 0 <= i < height and 0 <= j < width]
        first = max(places, key=lambda place: pooled_from[(n, *place, c)])
        expected[(n, *first, c)] = values[n, y, x, c]
    feed = {tensor.name: value for tensor, value in zip(function.inputs, (pooled_from, values), strict=True)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph, name="")
        np.testing.assert_array_equal(session.run(function.outputs[0].name, feed), expected)


def check(model, path, size, side):
    """Converts in float32 and compares logits and classes with the Keras model's on random images of three sizes."""
    size = size and tuple(min(n, rule.maximum or n) for n, rule in zip(size, size_rules(model), strict=True))
    lite(model, path, size=size, logits=True)
    run, served = runner(path.read_bytes()), LiteModel(path)
    segmenter = Segmenter(model)
    for number, shape in enumerate([served.size] if served.size else [(side, side), (61, 47), (33, 90)]):
        image = random_image(*shape, model.input_shape[-1], seed=number)
        expected = segmenter.logits(image)
        answer = run(images=image[None])
        assert answer["logits"].dtype == np.float32
        assert answer["segmentation_map"].dtype == np.uint8
        np.testing.assert_allclose(answer["logits"][0], expected, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_array_equal(answer["logits"].argmax(-1), answer["segmentation_map"])
        assert (served.segment(image) == expected.argmax(-1)).mean() > 0.999


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("unet", {"filters": 2, "depth": 2, "padding": "valid"}, (53, 60)),
        ("segnet_basic", {"width": 1 / 16}, None),
    ],
)
def test_a_network_answers_as_in_keras(tmp_path, name, options, size):
    keras.utils.set_random_seed(0)
    check(shaken(getattr(kerasseg.models, name)(3, **options)), tmp_path / "model.tflite", size, 64)


@pytest.mark.slow
@pytest.mark.parametrize("name", kerasseg.models.__all__)
def test_every_network_answers_as_in_keras(tmp_path, name):
    keras.utils.set_random_seed(0)
    model = shaken(build(name, {}))
    check(model, tmp_path / "model.tflite", (96, 80) if model.input_shape[1] is None else None, 96)


def fitted_to(data, classes, width=40):
    """Returns a network that tells these labelled images' classes apart: random features, scores by least squares."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = Normalize(mean=128.0, scale=64.0)(image)
    for _ in range(2):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, keras.layers.Conv2D(classes, 1)(x))
    features = keras.Model(image, x)
    rows, truth = [], []
    for picture, mask in data:
        known = mask != 255
        rows.append(np.asarray(features(picture[None].astype(np.float32)))[0][known])
        truth.append(np.eye(classes)[mask[known]])
    rows, truth = np.concatenate(rows), np.concatenate(truth)
    rows = np.c_[rows, np.ones(len(rows))]
    weight = (truth @ (1 / np.maximum(truth.sum(0), 1)) ** 0.5)[:, None]  # Rare classes count more.
    solved = np.linalg.lstsq(rows * weight, truth * weight, rcond=None)[0]
    model.layers[-1].set_weights([solved[:-1].reshape(1, 1, width, classes), solved[-1]])
    return model


def blobs():
    """Returns labelled images of four sizes: light and dark regions, noise, and a border that does not count."""
    rng, data = np.random.default_rng(0), []
    for shape in ((40, 48), (56, 48), (30, 70), (96, 64)):
        field = cv2.resize(rng.normal(size=(5, 6)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
        image = np.clip(128 + 80 * field[..., None] + rng.normal(0, 12, (*shape, 3)), 0, 255).astype(np.uint8)
        mask = (field > 0).astype(np.int32)
        mask[:2] = 255
        data.append((image, mask))
    return data


def test_kinds_are_smaller_and_scored(tmp_path):
    data = blobs()
    model, sizes = fitted_to(data, 2), {}
    names = {"class_names": ("dark", "light"), "palette": np.array([[0, 0, 0], [255, 255, 255]])}
    for kind in LITE_KINDS:
        path = lite(model, tmp_path / f"{kind}.tflite", kind, size=(40, 48), data=data, **names)
        content, sizes[kind] = described(path), path.stat().st_size
        assert content["kind"] == kind
        assert content["size"] == [40, 48]
        assert content["class_names"] == ["dark", "light"]
        assert content["palette"] == [[0, 0, 0], [255, 255, 255]]
        assert content["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        found = content["comparison"]
        assert found["num_images"] == 4
        assert found["mean_iou_of_keras"] > 0.8
        assert found["pixels_equal"] > (0.999 if kind.startswith("float") else 0.98)
        # The score that is noted down is that of the file, worked out from its masks.
        masks = [LiteModel(path).segment(image) for image, _ in data]
        matrix = sum(confusion_matrix(mask, found, 2) for found, (_, mask) in zip(masks, data, strict=True))
        assert scores(matrix)["mean_iou"] == pytest.approx(found["mean_iou"])
        assert found["mean_iou"] >= found["mean_iou_of_keras"] - found["max_drop"]
    assert 0.45 < sizes["float16"] / sizes["float32"] < 0.6
    assert 0.2 < sizes["int8"] / sizes["float32"] < 0.4
    assert 0.2 < sizes["dynamic"] / sizes["float32"] < 0.4
    with pytest.raises(DataError, match="is there already and is not overwritten"):
        lite(model, path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="not the file that int8.json describes"):
        LiteModel(path)


def test_int8_is_refused_where_it_costs_too_much(tmp_path):
    """Calibrated on dark images alone, it cannot tell light from dark."""
    data = blobs()
    path = tmp_path / "new" / "cells.tflite"
    options = {"size": (40, 48), "data": data, "calibration": [(image // 16, mask) for image, mask in data]}
    with pytest.raises(ExportError, match=r"the mean IoU on 4 images drops from 0.9\d+ to 0.\d+, by more than 0.05"):
        lite(fitted_to(data, 2), path, "int8", max_drop=0.05, **options)
    assert not list(tmp_path.iterdir())


def test_another_answer_than_the_models_is_an_error(tmp_path, monkeypatch):
    other = two_layers(seed=3)
    monkeypatch.setattr(_lite, "portable", lambda model, *args, **options: portable(other, *args, **options))
    with pytest.raises(ExportError, match=r"of \d+ pixels differ from the Keras model on an image of 20 x 30"):
        lite(two_layers(), tmp_path / "model.tflite", images=[random_image(20, 30, 3)])
    assert not list(tmp_path.iterdir())


def test_windows_cover_an_image_once():
    """What a pixel is does not depend on its window, so the windows' answers put together are the image's."""
    for shape in ((40, 48), (41, 48), (100, 31), (17, 200), (1, 1)):
        image, seen = random_image(*shape, 1), []

        def segment(window, seen=seen):
            seen.append(window.shape)
            return window[..., 0] // 2

        np.testing.assert_array_equal(by_windows(segment, image, (40, 48)), image[..., 0] // 2)
        assert set(seen) == {(40, 48, 1)}
        assert len(seen) == -(-shape[0] // 40) * -(-shape[1] // 48)


def test_arguments_are_checked(tmp_path):
    model, path = two_layers(size=(None, 32)), tmp_path / "model.tflite"
    data = [(random_image(32, 32, 3), np.zeros((32, 32), np.int32))]
    for error, options in (
        ("kind must be one of float32, float16, dynamic, int8, got 'int4'", {"kind": "int4"}),
        ("kind='int8' needs data, labelled images", {"kind": "int8"}),
        ("kind='dynamic' needs data, labelled images", {"kind": "dynamic"}),
        ("calibration is for kind='int8', got kind='float16'", {"kind": "float16", "calibration": data}),
        ("max_drop must be a difference of mean IoU, 0 to 1, got 2", {"data": data, "max_drop": 2}),
        ("expected a size, height and width, for a model that takes images of .None, 32. pixels", {}),
        (r"size must be at most .None, 32., which the model takes, got \(32, 33\)", {"size": (32, 33)}),
        ("size must be height and width, 1 pixel or more, got", {"size": (0, 32)}),
        ("data is read twice", {"kind": "int8", "size": (32, 32), "data": iter(data)}),
        (
            "expected images uint8 .H, W, 3., got float64",
            {"size": (8, 32), "images": [np.zeros((8, 8, 3))]},
        ),
        ("expected 3 class names, one per class of the model, got 2", {"class_names": ("a", "b")}),
        ("expected labelled images to judge the export by, got none", {"size": (8, 32), "data": []}),
    ):
        with pytest.raises(ValueError, match=error):
            lite(model, path, **options)
    with pytest.raises(DataError, match="expected a file name that ends in .tflite"):
        lite(model, tmp_path / "model.pb")
    with pytest.raises(DataError, match="expected a .tflite file with its .json beside it"):
        LiteModel(path)
    assert not list(tmp_path.iterdir())


class ByArea(keras.layers.Layer):
    def call(self, inputs):
        return tf.raw_ops.ResizeArea(images=inputs, size=(8, 8))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


def test_an_operation_that_litert_lacks_is_named(tmp_path):
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Conv2D(2, 1)(ByArea()(image))
    with pytest.raises(DataError, match="cannot be converted to LiteRT, which has no operation for ResizeArea"):
        lite(keras.Model(image, logits), tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_street_scenes(real_data, tmp_path):
    """Four of CamVid to calibrate and fit on, four others to judge by, through windows and as a whole."""
    folder, scenes = real_data / "camvid" / "CamVid", []
    for path in sorted((folder / "train").glob("*.png"))[:8]:
        mask = cv2.imread(str(folder / "trainannot" / path.name), cv2.IMREAD_UNCHANGED).astype(np.int32)
        mask[mask == 11] = 255
        scenes.append((np.ascontiguousarray(cv2.imread(str(path))[::2, ::2, ::-1]), mask[::2, ::2]))
    train, val = scenes[::2], scenes[1::2]
    model = fitted_to(train, 11, width=24)
    float32 = lite(model, tmp_path / "float32.tflite", images=[image for image, _ in val])
    assert described(float32)["comparison"]["pixels_equal_on_images"] > 0.9999
    for size in (None, (128, 160)):
        path = lite(model, tmp_path / f"{size}.tflite", "int8", size=size, data=val, calibration=train)
        found = described(path)["comparison"]
        assert found["mean_iou_of_keras"] > 0.1
        assert found["mean_iou"] > found["mean_iou_of_keras"] - 0.01
        assert found["pixels_equal"] > 0.8


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Returns the paths of a trained model, of its data set and of an image."""
    folder, data = tmp_path_factory.mktemp("run"), blobs()
    fitted_to(data, 2).save(folder / "model.keras")
    examples = [
        Example(key=f"{i}.png", image=image, mask=mask.astype(np.uint8)) for i, (image, mask) in enumerate(data)
    ]
    spec = DatasetSpec("blobs", ("dark", "light"))
    write(folder / "data", spec, {"val": examples}, num_shards=1, progress=False)
    cv2.imwrite(str(folder / "image.png"), data[0][0])
    return folder / "model.keras", folder / "data", folder / "image.png"


def test_the_tool_writes_lite_files(on_disk, tmp_path, capsys):
    model, data, image = on_disk
    arguments = ["--model", str(model), "--output", str(tmp_path / "cells.tflite"), "--lite", "int8"]
    judged = [*arguments, "--size", "40", "48", "--data", str(data)]
    dark = tmp_path / "dark.png"
    cv2.imwrite(str(dark), cv2.imread(str(image)) // 16)
    with pytest.raises(DataError, match=r"model.keras: not exported, .* the mean IoU on 4 images drops from"):
        export_tool.main([*judged, "--calibration", str(dark)])
    assert [path.name for path in tmp_path.iterdir()] == ["dark.png"]
    export_tool.main(judged)
    told = capsys.readouterr().out
    found = described(tmp_path / "cells.tflite")
    assert f"mean IoU on 4 images {found['comparison']['mean_iou']:.4f}, of the Keras model 0.9" in told
    assert found["size"] == [40, 48]
    for options, fault in (
        (arguments, "--lite int8 needs --data, labelled images"),
        ([*judged, "--flip"], "--flip is for a SavedModel, not for --lite int8"),
        ([*judged, "--onnx"], "not allowed with argument --lite"),
        ([*arguments[:-2], "--onnx", "--size", "8", "8"], "--size is for --lite; an ONNX file takes any size"),
        ([*arguments[:-2], "--max-drop", "1"], "--max-drop is for --lite or --onnx"),
        ([*arguments[:-1], "float16", "--split", "test"], "--split goes with --data"),
        ([*arguments[:-1], "float16", "--calibration", str(image)], "--calibration is for --lite int8, not for --lite"),
    ):
        with pytest.raises(SystemExit):
            export_tool.main(options)
        assert fault in capsys.readouterr().err
