"""Inference: tiles equal the whole, all kinds of images and sizes are taken, evaluation counts right."""

import gc
import json
import warnings
import weakref
import zipfile

import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image
from tensorflow import keras

from kerasseg.inference import (
    Segmenter,
    evaluate,
    load_model,
    memory_needed,
    predict_tiled,
    predictions,
    prepared,
    read_image,
)
from kerasseg.inference._network import _networks, network
from kerasseg.inference._tiles import mirrored, spans
from kerasseg.layers import LegalInputSize, SizeRule, size_rules
from kerasseg.models import unet
from kerasseg.spec import DataError


def dense(channels=3, num_classes=3, padding="same", name=None):
    """Two convolutions: with same padding any size, with valid padding a margin of 6."""
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(4, 3, padding=padding, activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 5, padding=padding)(x), name=name)


def strided():
    """Takes multiples of 8 only: its skip connection would not fit otherwise."""
    keras.utils.set_random_seed(2)
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(4, 3, strides=8, padding="same")(LegalInputSize(8)(image))
    x = keras.layers.Conv2DTranspose(4, 8, strides=8, padding="same")(x)
    return keras.Model(image, keras.layers.Conv2D(2, 1)(keras.layers.Concatenate()([image, x])))


def fixed():
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 1))
    return keras.Model(image, keras.layers.Conv2D(2, 3, padding="same")(image))


@pytest.fixture(scope="module")
def valid_unet():
    keras.utils.set_random_seed(4)
    return unet(3, input_shape=(None, None, 1), filters=2, depth=2, padding="valid")


def random_image(height, width, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (height, width, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (dense, SizeRule()),
        (lambda: dense(padding="valid"), SizeRule(1, 0, 7, 6)),
        (strided, SizeRule(8, 0, 8, 0)),
        (fixed, SizeRule(1, 0, 32, 0, 32)),
    ],
)
def test_legal_sizes_are_found_out(model, expected):
    assert size_rules(model()) == (expected, expected)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_legal_sizes_of_valid_unets_are_found_out(depth):
    model = unet(2, input_shape=(None, None, 1), filters=1, depth=depth, padding="valid")
    rule = size_rules(model)[0]
    layer = model.get_layer("legal_input_size")
    assert rule.minimum == layer.nearest(1)[1]
    for size in range(1, 700, 13):
        assert max(rule.round_up(size), rule.minimum) == layer.nearest(size)[1]
    assert rule.covering(388) == 572 or depth != 4
    assert model.compute_output_shape((1, rule.minimum, rule.minimum, 1))[1] == rule.minimum - rule.margin


def test_models_whose_logits_are_no_crop_of_the_image_are_refused():
    image = keras.Input((None, None, 1))
    with pytest.raises(ValueError, match="512 and 576 pixels a side give logits of 256 and 288"):
        size_rules(keras.Model(image, keras.layers.Conv2D(2, 3, strides=2, padding="same")(image)))
    with pytest.raises(ValueError, match=r"the image's size or smaller, got 514 from 512"):
        size_rules(keras.Model(image, keras.layers.Conv2DTranspose(2, 3)(image)))


def test_mirrored_is_numpys_reflect():
    for length in (1, 2, 3, 10):
        for first, size in ((-7, 20), (0, length), (-31, 80), (4, 5)):
            line = np.arange(length)
            with warnings.catch_warnings():
                padded = np.pad(line, (40, 100), mode="reflect")
            np.testing.assert_array_equal(mirrored(first, size, length), padded[40 + first : 40 + first + size])


def whole_forward(model, image, margin, size):
    """One big forward pass, written without the package: numpy's reflection, the output cut to the image."""
    height, width = image.shape[:2]
    before = margin // 2
    pads = [(before, size[0] - height - before), (before, size[1] - width - before), (0, 0)]
    padded = np.pad(image, pads, mode="reflect")
    return model(padded[None], training=False).numpy()[0, :height, :width]


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (3, 7), (60, 41), (61, 140), (200, 333)])
def test_valid_tiles_equal_one_big_forward(valid_unet, shape):
    """Also for tiles whose outputs (24 wide for 64) are no multiple of the stride, and small images."""
    rule = size_rules(valid_unet)[0]
    assert rule == SizeRule(4, 0, 44, 40)
    image = random_image(*shape)
    expected = whole_forward(valid_unet, image, 40, [rule.covering(side) for side in shape])
    for tile_size in (None, 1, 64, 70, (48, 100)):
        logits = predict_tiled(valid_unet, image, tile_size=tile_size)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_published_unets_tiles_equal_one_big_forward():
    """188 -> 4: tiles must be 16 apart, farther than the smallest tile's output is wide."""
    keras.utils.set_random_seed(5)
    model = unet(2, input_shape=(None, None, 1), filters=1, padding="valid")
    image = random_image(70, 45)
    expected = whole_forward(model, image, 184, (268, 236))
    for tile_size in (188, 220, None):
        np.testing.assert_allclose(predict_tiled(model, image, tile_size=tile_size), expected, atol=1e-4)


@pytest.mark.parametrize("blend", ["gaussian", "linear"])
@pytest.mark.parametrize("overlap", [None, 16, 0])
def test_same_padding_tiles_are_blended(blend, overlap):
    model = dense()
    image = random_image(150, 97, 3)
    whole = predict_tiled(model, image)
    np.testing.assert_allclose(whole, model(image[None]).numpy()[0], rtol=1e-5, atol=1e-3)
    tiled = predict_tiled(model, image, tile_size=64, overlap=overlap, blend=blend)
    # A tile's pixels more than 3 from its border do not see the border, so only seams may differ.
    differs = np.abs(tiled - whole).max(axis=-1) > 1e-2
    assert differs.mean() < 0.35
    seen = np.zeros(whole.shape[:2], int)
    for row in spans(150, SizeRule(), 64, overlap, blend):
        for column in spans(97, SizeRule(), 64, overlap, blend):
            seen[row.start + 3 : row.stop - 3, column.start + 3 : column.stop - 3] += 1
            seen[row.start : row.stop, column.start : column.stop] -= 1
    assert not differs[seen == 0].any()


@pytest.mark.parametrize("blend", ["gaussian", "linear"])
def test_weights_add_up_to_one_everywhere(blend):
    for length, tile, overlap in ((65, 64, None), (1000, 128, None), (1000, 128, 127), (500, 33, 7), (500, 20, 0)):
        total = np.zeros(length)
        for span in spans(length, SizeRule(), tile, overlap, blend):
            assert span.first == span.start >= 0
            assert (span.weights > 0).all()
            total[span.start : span.stop] += span.weights
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_small_tiles_are_no_more_than_their_overlap_asks_for():
    for tile in range(8, 200):
        length = 10 * tile
        assert len(spans(length, SizeRule(), tile, None, "gaussian")) <= 3 * length / tile, tile


def test_sizes_that_a_model_refuses_are_mirrored_up():
    model = strided()
    image = random_image(21, 30)
    expected = model(np.pad(image, [(0, 3), (0, 2), (0, 0)], mode="reflect")[None]).numpy()[0, :21, :30]
    np.testing.assert_allclose(predict_tiled(model, image), expected, atol=1e-4)
    assert predict_tiled(model, random_image(100, 100), tile_size=33).shape == (100, 100, 2)


def test_models_of_one_size_take_all():
    model = fixed()
    image = random_image(20, 70)
    logits = predict_tiled(model, image)
    assert logits.shape == (20, 70, 2)
    padded = np.pad(image, [(0, 12), (0, 0), (0, 0)], mode="reflect")
    expected = tf.nn.conv2d(padded[None], model.weights[0], 1, "SAME")[0, :20]
    tiles = spans(70, size_rules(model)[1], 70, None, "gaussian")
    assert [tile.size for tile in tiles] == [32] * len(tiles)
    borders = {column for tile in tiles for column in (tile.start, tile.stop - 1)}
    inside = [column for column in range(70) if column not in borders]
    np.testing.assert_allclose(logits[:, inside], expected.numpy()[:, inside], atol=1e-3)


def test_the_memory_budget_makes_tiles(monkeypatch):
    model = dense()
    sizes = []
    forward = network(model).forward
    monkeypatch.setattr(network(model), "forward", lambda image: sizes.append(image.shape[1:3]) or forward(image))
    image = random_image(300, 280, 3)
    predict_tiled(model, image)
    whole = memory_needed(model, (300, 280))
    predict_tiled(model, image, memory_budget=whole.bytes)
    assert sizes == [(300, 280)] * 2
    sizes.clear()
    part = memory_needed(model, (300, 280), tile_size=128, batch_size=1)
    predict_tiled(model, image, memory_budget=part.bytes, batch_size=1)
    assert set(sizes) == {(128, 128)}
    assert len(sizes) == part.num_tiles == 9
    with pytest.raises(ValueError, match="memory_budget must be a positive number of bytes, got -1"):
        predict_tiled(model, image, memory_budget=-1)
    with pytest.raises(ValueError, match=r"98 KiB is too small: tiles of 1x1 .* 300x280 pixels 984 KiB"):
        predict_tiled(model, image, memory_budget=100_000)


def test_tiled_arguments_are_checked():
    model = dense()
    with pytest.raises(ValueError, match=r"expected an image \[H, W, 3\] that is not empty, got the shape \(5, 5\)"):
        predict_tiled(model, np.zeros((5, 5)))
    with pytest.raises(ValueError, match="not empty"):
        predict_tiled(model, np.zeros((0, 5, 3)))
    image = np.zeros((50, 50, 3))
    with pytest.raises(ValueError, match="blend must be one of gaussian, linear, got 'mean'"):
        predict_tiled(model, image, blend="mean")
    with pytest.raises(ValueError, match="tile_size must be"):
        predict_tiled(model, image, tile_size=0)
    with pytest.raises(ValueError, match="overlap must lie in 0 to 15 for tiles of 16 pixels, got 16"):
        predict_tiled(model, image, tile_size=16, overlap=16)


def test_one_graph_serves_all_sizes_and_goes_with_its_model():
    model = dense()
    for side in (5, 9, 13):
        predict_tiled(model, random_image(side, side + 1, 3))
    assert network(model).forward.experimental_get_tracing_count() == 1
    before = len(_networks)
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None
    assert len(_networks) < before


def test_segmenter_takes_all_kinds_of_images(tmp_path):
    model = dense()
    segmenter = Segmenter(model)
    image = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
    mask = segmenter.segment(image)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, model(image[None].astype(np.float32)).numpy()[0].argmax(-1))
    probabilities = segmenter.probabilities(image)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(-1), mask)
    alpha = np.concatenate([image, image[..., :1]], axis=2)
    for same in (image.astype(np.float32), image.astype(np.uint16) * 257, alpha):
        np.testing.assert_array_equal(segmenter.segment(same), mask)
    Image.fromarray(image).save(tmp_path / "i.png")
    np.testing.assert_array_equal(segmenter.segment(tmp_path / "i.png"), mask)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(Segmenter(tmp_path / "m.keras").segment(image), mask)


def test_prepared_fits_channels_to_the_model():
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (4, 5), np.uint8), rng.integers(0, 256, (4, 5, 3), np.uint8)
    np.testing.assert_array_equal(prepared(grey, 3), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_allclose(prepared(colour, 1)[..., 0], np.array(Image.fromarray(colour).convert("L")), atol=1)
    np.testing.assert_array_equal(prepared(rng.integers(0, 9, (4, 5, 7)), 7).shape, (4, 5, 7))
    assert prepared(np.eye(3, dtype=bool), 1).max() == 255
    with pytest.raises(ValueError, match="takes images of 3 channels, got one of 5"):
        prepared(np.zeros((4, 5, 5)), 3)
    with pytest.raises(ValueError, match="not finite"):
        prepared(np.full((4, 5), np.nan), 1)
    with pytest.raises(ValueError, match="expected an image"):
        prepared(np.zeros((0, 5)), 1)


def test_read_image_reads_what_other_libraries_wrote(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (6, 7, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    cv2.imwrite(str(tmp_path / "grey.png"), deep[..., 0])
    tifffile.imwrite(tmp_path / "five.tif", deep.repeat(2, 2)[..., :5], photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), deep)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), deep[..., :1])
    np.testing.assert_array_equal(read_image(tmp_path / "five.tif"), deep.repeat(2, 2)[..., :5])
    np.testing.assert_array_equal(read_image(tmp_path / "planes.tif"), deep)
    image = Image.fromarray((deep >> 8).astype(np.uint8))
    for name, mode in (("p.png", "P"), ("cmyk.jpg", "CMYK"), ("one.png", "1"), ("la.png", "LA"), ("l.bmp", "L")):
        image.convert(mode).save(tmp_path / name)
    assert read_image(tmp_path / "cmyk.jpg").shape == (6, 7, 3)
    assert read_image(tmp_path / "one.png").shape == (6, 7, 1)
    assert read_image(tmp_path / "la.png").shape == (6, 7, 2)
    expected = np.array(image.convert("P").convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), expected)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((4, 5, 6, 7), np.uint8))
    for name, reason in (
        ("text.png", "not an image file"),
        ("empty.png", "not an image file"),
        ("cut.jpg", "truncated"),
        ("stack.tif", "a stack of 20 images; expected one"),
        ("none.png", "no such file"),
    ):
        with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match=r"text\.png: cannot be loaded as a Keras model"):
        load_model(tmp_path / "text.png")
    with pytest.raises(DataError, match=r"m\.keras: there is no such model file"):
        load_model(tmp_path / "m.keras")


def test_a_model_of_another_keras_is_named(tmp_path):
    path = tmp_path / "m.keras"
    dense().save(path)
    with zipfile.ZipFile(path) as archive:
        config, weights = archive.read("config.json"), archive.read("model.weights.h5")
    config = config.replace(b'"Functional"', b'"OfAnotherKeras"').replace(b'"Sequential"', b'"OfAnotherKeras"')
    for metadata, message in (
        (
            {"keras_version": "2.7.1"},
            r"cannot be loaded .*\. Keras 2\.7\.1 saved it: .*TF_USE_LEGACY_KERAS=1 takes Keras 2",
        ),
        ({"keras_version": "3.99.0"}, r"Keras 3\.99\.0 saved it: .*weights alone go .*kerasseg\.weights\.load$"),
        ({}, r"cannot be loaded as a Keras model \([^\n]*\)$"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps(metadata))
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", weights)
        with pytest.raises(DataError, match=message):
            load_model(path)


def test_evaluate_counts_whole_images():
    model = dense()
    rng = np.random.default_rng(0)
    split = []
    for i, size in enumerate(((9, 12), (20, 7))):
        mask = rng.integers(0, 3, (1, *size), np.int32)
        mask[rng.random(mask.shape) < 0.2] = 255
        split.append((rng.uniform(0, 255, (1, *size, 3)).astype(np.float32), mask, np.array([f"image{i}".encode()])))
    seen = []
    matrix = evaluate(model, split, 3, on_prediction=seen.append)
    expected = np.zeros((3, 3), int)
    for image, mask, _ in split:
        predicted = model(image).numpy()[0].argmax(-1)
        for truth, guess in zip(mask[0].ravel(), predicted.ravel(), strict=True):
            if truth != 255:
                expected[truth, guess] += 1
    np.testing.assert_array_equal(matrix, expected)
    assert [p.key for p in seen] == ["image0", "image1"]
    tensors = [(tf.constant(image), tf.constant(mask)) for image, mask, _ in split]
    assert [p.key for p in predictions(model, tensors, 3)] == ["0", "1"]
    with pytest.raises(ValueError, match="tells 3 classes apart, the data set has 21"):
        evaluate(model, split, 21)


def test_real_files_are_read_or_refused_in_one_line(real_data):
    files = [p for p in (real_data / "odd").rglob("*") if p.suffix in (".png", ".tif", ".jpg", ".jpeg", ".tiff")]
    assert files
    for path in files[:20]:
        assert read_image(path).ndim == 3
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_image(next((real_data / "odd" / "nifti_3d").iterdir()))
