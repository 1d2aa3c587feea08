"""Scales, mirrored views and tiles inside of the exported graph: what a `Segmenter` of the same options answers."""

import json
import subprocess
import sys

import cv2
import export as export_tool
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras
from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model import loader_impl

from kerasseg.export import ExportError, Signatures, _frozen, saved_model, verify
from kerasseg.export._baked import baked
from kerasseg.inference import Segmenter
from kerasseg.layers import MergeClasses
from kerasseg.models import deconvnet, deeplab_v3, unet

SIZES = [(150, 131), (33, 64), (1, 9)]
VIEWS = {"scales": (0.75, 1, 1.25), "flip": True}


def padded(num_classes=3, channels=3, size=(None, None), merge=None):
    """A network that sees ten pixels around each, so that tiles differ at their ends from the whole."""
    keras.utils.set_random_seed(1)
    image = keras.Input((*size, channels))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.Conv2D(4, 5, dilation_rate=4, padding="same", activation="relu")(x)
    x = keras.layers.Conv2D(num_classes, 3, padding="same", kernel_initializer=keras.initializers.RandomNormal(0, 0.3))(
        x
    )
    return keras.Model(image, MergeClasses(merge)(x) if merge else x)


def valid():
    keras.utils.set_random_seed(2)
    return unet(3, filters=2, depth=2, padding="valid")


CASES = {
    "views": (padded, VIEWS),
    "one mirrored view more": (padded, {"flip": True}),
    "tiles": (padded, {"tile_size": (64, 48)}),
    "tiles and overlap": (padded, {"tile_size": 50, "overlap": 30}),
    "tiles side by side": (padded, {"tile_size": 32, "overlap": 0}),
    "views in tiles": (padded, {**VIEWS, "tile_size": 70, "overlap": 33}),
    "tiles without padding": (valid, {"tile_size": 60}),
    "views in tiles without padding": (valid, {"scales": (0.6, 1.3), "tile_size": (60, 76)}),
    "one logit": (lambda: padded(1), {"scales": (1.5,), "tile_size": 40}),
    "rims": (lambda: padded(merge=[[0], [1, 2]]), {"scales": (0.5, 1.5), "flip": True}),
    "one size of input": (lambda: padded(size=(40, 48)), {"scales": (1, 1.25), "tile_size": 999}),
}
QUICK = {"views", "tiles and overlap", "views in tiles", "rims"}


@pytest.fixture(scope="module")
def photograph(real_data):
    folder = real_data / "voc" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    return cv2.imread(str(min(folder.glob("*.jpg"))))[..., ::-1]


def assert_answers(answer, image, segmenter):
    """The class is the best, or as good as the best but for rounding."""
    probabilities = segmenter.probabilities(image)
    chosen = np.take_along_axis(probabilities, answer[..., None].astype(int), -1)[..., 0]
    assert (probabilities.max(-1) - chosen).max() < 1e-5
    assert len(np.unique(answer)) > 1 or answer.size < 100  # Else anything would agree.


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_answers_are_the_segmenters_of_the_same_options(case, photograph):
    builder, options = CASES[case]
    model = builder()
    ask = Signatures(model, looks=baked(**options)).functions()["serving_default"]
    segmenter = Segmenter(model, **options)
    for height, width in SIZES:
        images = np.stack([photograph[:height, :width], photograph[-height:, -width:]])
        for image, answer in zip(images, ask(tf.constant(images))["segmentation_map"].numpy(), strict=True):
            assert_answers(answer, image, segmenter)


def test_tiles_without_padding_change_nothing(photograph):
    model = valid()
    image = tf.constant(photograph[None, :181, :222])
    whole, tiles = (
        Signatures(model, looks=baked(tile_size=tile)).functions()["serving_default"](image)["segmentation_map"].numpy()
        for tile in (None, 60)
    )
    np.testing.assert_array_equal(tiles, whole)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Everything at once, and what it was made of."""
    model, options = padded(), {**VIEWS, "tile_size": 48, "overlap": 12}
    folder = tmp_path_factory.mktemp("baked") / "model"
    return model, options, saved_model(model, folder, **options)


def test_what_is_baked_in_is_written_down_and_compared(exported, photograph):
    model, options, version = exported
    description = json.loads((version.parent / "kerasseg.json").read_text())
    expected = {"scales": [0.75, 1.0, 1.25], "flip": True, "tile_size": [48, 48], "overlap": 12}
    assert {name: description[name] for name in expected} == expected
    verify(model, version, [photograph[:70, :61]], **options)
    for other in ({"flip": False}, {"scales": (1,)}, {"tile_size": None, "overlap": None}):
        with pytest.raises(ExportError, match="predict_images: .* pixels differ from the Keras model"):
            verify(model, version, [photograph[:120, :150]], **{**options, **other})


def test_signatures_and_operations_stay_those_of_any_export(exported, tmp_path):
    """TensorFlow Serving registers TensorFlow's operations and no others."""
    model, _, version = exported
    graphs = [
        loader_impl.parse_saved_model(str(v)).meta_graphs[0] for v in (saved_model(model, tmp_path / "plain"), version)
    ]
    described = [
        {
            (name, kind, key): (info.dtype, str(info.tensor_shape))
            for name, signature in graph.signature_def.items()
            for kind in ("inputs", "outputs")
            for key, info in getattr(signature, kind).items()
        }
        for graph in graphs
    ]
    assert described[1] == described[0]
    graph = graphs[1].graph_def
    used = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    used -= {function.signature.name for function in graph.library.function}
    assert {"While", "ResizeBilinear", "TensorListConcatV2", "Conv2D", "EncodePng"} <= used
    assert not [name for name in used if op_def_registry.get(name) is None or "PyFunc" in name]
    kernels = [n for f in graph.library.function for n in f.node_def if n.op == "Conv2D"]
    assert len(kernels) == 3  # However many views, tiles and signatures: the network is there once.


def test_bad_options_are_named(tmp_path):
    for options, text in (
        ({"scales": ()}, "scales must be one or several positive numbers"),
        ({"scales": (1, -1)}, "scales must be one or several positive numbers"),
        ({"tile_size": 0}, "tile_size must be one positive number"),
        ({"overlap": 4}, "overlap is what tiles share"),
        ({"tile_size": 32, "overlap": 32}, "overlap must lie in 0 to 31 for tiles of 32 pixels, got 32"),
        ({"tile_size": 512}, "max_pixels must be at least 271950, for an image larger than a tile, got 16384"),
    ):
        with pytest.raises(ValueError, match=text):
            saved_model(padded(), tmp_path / "model", max_pixels=2**14, **options)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_weights_are_variables_or_constants(tmp_path, monkeypatch, photograph):
    """Beyond what a graph holds, variables; with limits lowered, for 2 GiB are too much for a test."""
    model = padded()
    image = photograph[:50, :60]
    held = []
    for freeze in (False, True):
        version = saved_model(model, tmp_path / "model", freeze=freeze, **VIEWS)
        held.append(sum(path.stat().st_size for path in (version / "variables").glob("variables.data*")))
        answer = tf.saved_model.load(str(version)).signatures["serving_default"](tf.constant(image[None]))
        assert_answers(answer["segmentation_map"].numpy()[0], image, Segmenter(model, **VIEWS))
    size = 4 * model.count_params()
    assert held[0] >= size > held[1]
    monkeypatch.setattr(_frozen, "LARGEST_GRAPH", 1000)
    with pytest.raises(ValueError, match=f"a graph holds 1000 bytes of constants, the weights take {size}: keep var"):
        saved_model(model, tmp_path / "model", freeze=True)
    monkeypatch.setattr(_frozen, "FROZEN", size - 1)
    version = saved_model(model, tmp_path / "model")
    assert sum(path.stat().st_size for path in (version / "variables").glob("variables.data*")) == held[0]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["1", "2", "3", "kerasseg.json"]


def test_the_tool_bakes_in_what_it_is_told(tmp_path, capsys):
    padded().save(tmp_path / "model.keras")
    arguments = ["--model", str(tmp_path / "model.keras"), "--output", str(tmp_path / "out"), "--freeze"]
    export_tool.main([*arguments, "--scales", "0.5", "1", "--flip", "--tile-size", "40", "--overlap", "8"])
    description = json.loads((tmp_path / "out" / "kerasseg.json").read_text())
    assert (description["scales"], description["flip"]) == ([0.5, 1.0], True)
    assert (description["tile_size"], description["overlap"]) == ([40, 40], 8)
    assert sum(path.stat().st_size for path in (tmp_path / "out" / "1" / "variables").iterdir()) < 2000
    with pytest.raises(SystemExit):
        export_tool.main([*arguments, "--tile-size", "8", "--overlap", "8"])
    assert "overlap must lie in 0 to 7 for tiles of 8 pixels" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (lambda: deeplab_v3(21, width=1 / 8), {"scales": (0.5, 1, 1.25), "flip": True}),
        (lambda: deeplab_v3(21, width=1 / 8), {"tile_size": 129, "overlap": 32}),
        (lambda: deconvnet(21, width=1 / 16), {"flip": True, "tile_size": 224}),
    ],
)
def test_published_networks_as_a_whole_image(builder, options, tmp_path, photograph):
    keras.utils.set_random_seed(0)
    model = builder()
    version = saved_model(model, tmp_path / "model", images=[photograph[:240, :260]], **options)
    ask = tf.saved_model.load(str(version)).signatures["serving_default"]
    answer = ask(tf.constant(photograph[None]))["segmentation_map"].numpy()[0]
    segmenter = Segmenter(model, **options)
    probabilities = segmenter.probabilities(photograph)
    chosen = np.take_along_axis(probabilities, answer[..., None].astype(int), -1)[..., 0]
    assert (probabilities.max(-1) - chosen).max() < 1e-4


PEAK = """
import sys
import numpy as np, tensorflow as tf
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    output, input_ = loaded.outputs["segmentation_map"].name, loaded.inputs["images"].name
    def peak():
        return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
    session.run(output, {input_: np.zeros((1, 64, 64, 3), np.uint8)})
    before = peak()
    session.run(output, {input_: np.zeros((1, 1600, 1600, 3), np.uint8)})
    print(peak() - before)
"""


@pytest.mark.slow
def test_tiles_take_the_memory_of_a_tile(tmp_path):
    model = unet(3, filters=16, padding="same")
    grown = {}
    for tile in (None, 256):
        version = saved_model(model, tmp_path / f"tile_{tile}", tile_size=tile)
        done = subprocess.run([sys.executable, "-c", PEAK, str(version)], capture_output=True, text=True, check=True)
        grown[tile] = float(done.stdout.split()[-1])
    assert grown[None] > 4 * grown[256]
    assert grown[256] < 250  # MiB
