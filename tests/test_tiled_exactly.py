"""Tiles against the whole: exact sums to the last bit, others within rounding; and the memory for them."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from _rounding import rounding
from conftest import ROOT
from tensorflow import keras

from kerasseg.inference import memory_needed, predict_tiled
from kerasseg.inference._network import network
from kerasseg.inference._tiles import mirrored, spans
from kerasseg.layers import SizeRule, size_rules
from kerasseg.models import unet
from kerasseg.spec import DataError


@pytest.fixture(scope="module")
def valid():
    """The authors' depth: 184 pixels of margin, windows of pooling that begin at multiples of 16."""
    keras.utils.set_random_seed(1)
    return unet(3, input_shape=(None, None, 1), filters=2, padding="valid")


@pytest.fixture(scope="module")
def whole_numbers():
    """The same network with two weights of -1 or 1 in each sum, the others 0, for images of 0 and 255 (which become 1).

    All values are whole numbers below 2**24. Float32 holds each sum exactly, in whatever order a kernel adds, so that
    tiles must equal the whole to the last bit on every processor.
    """
    model = unet(3, input_shape=(None, None, 1), filters=2, padding="valid")
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if not layer.weights:
            continue
        kernel, *bias = layer.get_weights()
        columns = np.zeros((math.prod(kernel.shape[:-1]), kernel.shape[-1]), np.float32)
        for column in columns.T:
            column[rng.choice(len(column), 2, replace=False)] = (1, rng.choice([-1, 1, 1]))
        layer.set_weights([columns.reshape(kernel.shape), *(rng.integers(0, 2, b.shape) for b in bias)])
    return model


def noise(height, width):
    return np.random.default_rng(height).uniform(0, 255, (height, width, 1)).astype(np.float32)


def whole(model, image):
    """One forward pass of the model's own graph over the image with its border mirrored by NumPy."""
    rule = size_rules(model)[0]
    before, size = rule.margin // 2, image.shape[:2]
    pads = [(before, rule.covering(side) - side - before) for side in size]
    padded = np.pad(image, [*pads, (0, 0)], mode="reflect")
    return network(model).forward(padded[None]).numpy()[0, : size[0], : size[1]]


def check(model, shape, tiles, exact):
    """To the last bit where every sum is exact; else kernels add in an order that hangs on the size of the map."""
    image = np.where(noise(*shape) > 127, np.float32(255), np.float32(0)) if exact else noise(*shape)
    expected = whole(model, image)
    if exact:
        assert np.array_equal(expected, np.rint(expected))
        assert min(shape) < 17 or 5 < np.abs(expected).max() < 2**20
    bound = 0 if exact else rounding(model, expected)
    for tile, batch_size in (*((tile, 1) for tile in tiles), (tiles[-1], 3)):
        found = predict_tiled(model, image, tile_size=tile, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=f"{shape} in tiles of {tile}")


def test_tiles_of_the_authors_unet_are_the_whole(valid, whole_numbers):
    for shape in ((1, 1), (1, 7), (17, 130), (201, 97)):
        check(valid, shape, (188, (236, 300)), exact=False)
        check(whole_numbers, shape, (None, 188, (236, 300)), exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(388, 388), (389, 1000), (999, 777), (2000, 3000)])
def test_tiles_of_large_images_are_the_whole(valid, whole_numbers, shape):
    check(valid, shape, (572, (700, 412)), exact=False)
    check(whole_numbers, shape, (572, (700, 412)), exact=True)


def test_tiles_388_pixels_apart_are_not_the_whole(valid):
    """The authors' way: their last row of tiles sees other pooling windows than the whole image does."""
    image = noise(500, 64)
    parts = []
    for start in (0, 388):
        rows, columns = mirrored(start - 92, 572, 500), mirrored(-92, 572, 64)
        parts.append(network(valid).forward(image[rows[:, None], columns[None]][None]).numpy()[0, :, :64])
    theirs = np.concatenate(parts)[:500]
    expected = whole(valid, image)
    bound = rounding(valid, expected)
    np.testing.assert_allclose(theirs[:388], expected[:388], rtol=0, atol=bound)
    assert (np.abs(theirs[388:] - expected[388:]) > bound).mean() > 0.5
    assert np.abs(theirs[388:] - expected[388:]).max() > 1e-3


@pytest.mark.parametrize("blend", ["gaussian", "linear"])
def test_a_constant_image_has_constant_logits_inside(blend):
    """Away from the image's border by more than the network looks, tiles and their seams leave no trace."""
    keras.utils.set_random_seed(2)
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(4, 5, padding="same", activation="relu")(image)
    model = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(x))
    grey = np.full((220, 181, 1), 100, np.float32)
    single = whole(model, grey)
    middle = single[110, 90]
    largest = np.abs(single - middle).max()  # which is at the corners
    for overlap in (None, 16, 60):
        spoilt = np.zeros(grey.shape[:2])  # the weight of pixels that see a border, of a tile or of the image
        for row in spans(220, SizeRule(), 64, overlap, blend):
            for column in spans(181, SizeRule(), 64, overlap, blend):
                weights = row.weights[:, None] * column.weights
                weights[3:-3, 3:-3] = 0
                spoilt[row.start : row.stop, column.start : column.stop] += weights
        error = np.abs(predict_tiled(model, grey, tile_size=64, overlap=overlap, blend=blend) - middle).max(-1)
        assert (error <= spoilt * largest * 1.001 + 1e-5 * largest).all()
        assert (spoilt == 0).any() or overlap == 60
        # As by default, a seam keeps less than a quarter of what a border without blending would show.
        assert spoilt[3:-3, 3:-3].max() < 0.25 or overlap is not None
    borderless = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    logits = predict_tiled(borderless, grey, tile_size=64, blend=blend)
    np.testing.assert_allclose(logits, np.broadcast_to(logits[0, 0], logits.shape), rtol=1e-5)


def test_memory_is_estimated_for_models_inside_of_models():
    inner = unet(2, input_shape=(None, None, 1), filters=4, depth=2, padding="same")
    image = keras.Input((None, None, 1))
    outer = keras.Model(image, inner(image))
    assert network(outer).bytes_per_pixel == pytest.approx(network(inner).bytes_per_pixel, rel=0.1)


def test_the_estimate_of_a_chain_by_hand():
    """Alive at most: input of the second convolution and its output, 8 and 16 channels of 4 bytes; doubled."""
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(x))
    assert network(model).bytes_per_pixel == pytest.approx(
        2 * 4 * (8 + 16), rel=0.06
    )  # or the image as well, 1 channel


def test_memory_needed_counts_all_and_keeps_to_the_budget():
    model = unet(5, input_shape=(None, None, 1), filters=4, depth=2, padding="same")
    size = (20000, 30000)
    for budget in (2**28, 2**30):
        tiling = memory_needed(model, size, result="file", memory_budget=budget)
        assert 0.4 * budget < tiling.bytes <= budget
        assert tiling.bytes == tiling.forward_bytes + tiling.band_bytes + tiling.output_bytes
        height, width = tiling.tile_size
        shared = tiling.rows[0].stop - tiling.rows[1].start
        assert tiling.band_bytes >= 4 * 5 * (shared * size[1] + height * width)
        assert f"{tiling.num_tiles} tiles" in str(tiling)
        assert "MiB" in str(tiling)
    needs = {result: memory_needed(model, size, result=result).output_bytes for result in ("logits", "mask")}
    assert needs == {"logits": 4 * 5 * 20000 * 30000, "mask": 20000 * 30000}
    with pytest.raises(DataError, match=r"memory_budget of 1 GiB is too small: .* 20000x30000 pixels 11 GiB"):
        memory_needed(model, size, memory_budget=2**30)
    with pytest.raises(ValueError, match="result must be one of logits, mask, file"):
        memory_needed(model, size, result="png")
    with pytest.raises(ValueError, match="size must be the height and width"):
        memory_needed(model, (0, 5))
    with pytest.raises(ValueError, match="batch_size must be a positive number"):
        memory_needed(model, (5, 5), batch_size=0)
    overlapping = memory_needed(model, (400, 400), overlap=100, memory_budget=10 * 2**20)
    assert min(overlapping.tile_size) > 100
    assert overlapping.num_tiles > 1


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_peak_of_a_large_image_keeps_to_the_budget(padding):
    """The benchmark's process, scaled down: whole logits and their copies alone would be 1.5 GiB."""
    name = {"valid": "valid padding, .npy to .npy", "same": "same padding, Gaussian blending, .npy to .npy"}[padding]
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_tiles.py"), "--measure", name, "--filters=4"]
    command += ["--side=9000", "--memory-mib=256"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["estimate"] <= 256
    assert row["peak"] - row["before"] < 256 * 1.2
    assert row["ratio"] < 1.5  # On a machine that does other things; the benchmark's own is what counts.
