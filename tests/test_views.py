"""Scales, mirrored and turned images: the mean over views against loops written out, on made and on real images."""

import json

import evaluate as evaluate_tool
import numpy as np
import predict
import pytest
from PIL import Image
from tensorflow import keras

from kerasseg.inference import Segmenter, evaluate, predict_tiled, predictions, read_image
from kerasseg.layers import MergeClasses
from kerasseg.models import unet
from kerasseg.postprocess import split_by_rims
from kerasseg.records import Example, write
from kerasseg.spec import DataError, DatasetSpec

DEEPLAB = (0.5, 0.75, 1, 1.25, 1.5, 1.75)


@pytest.fixture(autouse=True)
def clear():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def lopsided(channels=3, num_classes=3, rims=False):
    """Returns a network that tells left from right and up from down."""
    image = keras.Input((None, None, channels))
    layer = keras.layers.Conv2D(num_classes, 3, padding="same")
    logits = layer(image)
    layer.set_weights([np.random.default_rng(0).normal(0, 0.01, w.shape) for w in layer.get_weights()])
    return keras.Model(image, MergeClasses([[0], [1, 2]])(logits) if rims else logits)


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def stretched(image, size):
    """Bilinear with the corner pixels' centres kept, one pixel after the other."""
    result = np.zeros((*size, image.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (k * (n - 1) / max(m - 1, 1) for k, n, m in zip((i, j), image.shape, size, strict=False))
            top, left = int(y), int(x)
            below, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            a, b = y - top, x - left
            upper = image[top, left] * (1 - b) + image[top, right] * b
            result[i, j] = upper * (1 - a) + (image[below, left] * (1 - b) + image[below, right] * b) * a
    return result.astype(np.float32)


def forward(model, image):
    return model(np.ascontiguousarray(image, np.float32)[None], training=False).numpy()[0]


def test_scales_and_flips_are_those_of_deeplabs_authors():
    """At scale s a side n becomes int((n - 1) s + 1); logits are resized, softmax taken, the mean over all is even."""
    model, image = lopsided(), np.random.default_rng(1).uniform(0, 255, (13, 18, 3)).astype(np.float32)
    expected = []
    for scale in DEEPLAB:
        seen = stretched(image, (int(12 * scale + 1), int(17 * scale + 1)))
        expected.append(softmax(stretched(forward(model, seen), (13, 18))))
        mirrored = forward(model, seen[:, ::-1])
        expected.append(softmax(stretched(mirrored[:, ::-1], (13, 18))))
    found = Segmenter(model, scales=DEEPLAB, flip=True)
    probabilities = found.probabilities(image)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, np.mean(expected, axis=0), atol=2e-5)
    np.testing.assert_allclose(
        Segmenter(model, scales=DEEPLAB).probabilities(image), np.mean(expected[::2], 0), atol=2e-5
    )
    np.testing.assert_array_equal(found.segment(image), probabilities.argmax(-1))
    np.testing.assert_allclose(softmax(found.logits(image)), probabilities, atol=1e-5)
    assert found.segment(image).dtype == np.uint8


def test_eight_views_by_hand():
    model, image = lopsided(1, 2), np.random.default_rng(1).uniform(0, 255, (9, 14, 1)).astype(np.float32)
    turned = image.transpose(1, 0, 2)
    back = [
        forward(model, image),
        forward(model, image[:, ::-1])[:, ::-1],
        forward(model, image[::-1])[::-1],
        forward(model, image[::-1, ::-1])[::-1, ::-1],
        forward(model, turned).transpose(1, 0, 2),
        forward(model, turned[:, ::-1])[:, ::-1].transpose(1, 0, 2),
        forward(model, turned[::-1])[::-1].transpose(1, 0, 2),
        forward(model, turned[::-1, ::-1])[::-1, ::-1].transpose(1, 0, 2),
    ]
    each = np.array([softmax(logits) for logits in back])
    assert len(np.unique(each[:, 4, 5, 0])) == 8
    np.testing.assert_allclose(Segmenter(model, flip=True, rotate=True).probabilities(image), each.mean(0), atol=1e-5)
    quarter_turns = each[[0, 3, 5, 6]].mean(0)
    np.testing.assert_allclose(Segmenter(model, rotate=True).probabilities(image), quarter_turns, atol=1e-5)
    # A recipe that knows no direction finds in a turned image what it finds in the image, turned.
    eight = Segmenter(model, flip=True, rotate=True)
    np.testing.assert_allclose(eight.probabilities(np.rot90(image)), np.rot90(eight.probabilities(image)), atol=1e-5)


def test_plain_options_change_nothing():
    """Logits, probabilities and masks are the network's own, bit for bit; so are those of a scale of 1."""
    model, image = lopsided(), np.random.default_rng(1).integers(0, 256, (40, 37, 3), np.uint8)
    for tiling in ({}, {"tile_size": 16, "overlap": 4, "blend": "linear"}):
        logits = predict_tiled(model, image, **tiling)
        for options in ({}, {"scales": [1], "flip": False, "rotate": False}, {"scales": 1.0}):
            found = Segmenter(model, **tiling, **options)
            np.testing.assert_array_equal(found.logits(image), logits)
            np.testing.assert_array_equal(found.segment(image), logits.argmax(-1))
            exponentials = np.exp(logits - logits.max(-1, keepdims=True))
            np.testing.assert_array_equal(
                found.probabilities(image), exponentials / exponentials.sum(-1, keepdims=True)
            )


def test_tiles_see_each_view_and_odd_sizes_pass():
    """In tiles of a network that sees three pixels, only what lies at their ends may differ."""
    model, image = lopsided(), np.random.default_rng(1).uniform(0, 255, (60, 45, 3)).astype(np.float32)
    options = {"scales": (0.5, 1, 1.5), "flip": True, "rotate": True}
    whole = Segmenter(model, **options).probabilities(image)
    tiled = Segmenter(model, **options, tile_size=32, overlap=16).probabilities(image)
    np.testing.assert_allclose(tiled, whole, atol=0.1)
    assert (np.abs(tiled - whole).max(-1) < 1e-2).mean() > 0.9
    for size in ((1, 1), (1, 9), (2, 3)):
        small = Segmenter(model, **options).probabilities(image[: size[0], : size[1]])
        assert small.shape == (*size, 3)
        np.testing.assert_allclose(small.sum(-1), 1, atol=1e-5)
    valid = unet(2, input_shape=(None, None, 4), filters=1, depth=1, padding="valid")
    deep = np.random.default_rng(1).integers(0, 65536, (21, 30, 4), np.uint16)
    assert Segmenter(valid, **options).segment(deep).shape == (21, 30)


def test_rims_are_averaged_before_objects_are_parted():
    model, image = lopsided(1, rims=True), np.random.default_rng(1).uniform(0, 255, (12, 10, 1)).astype(np.float32)
    fine = keras.Model(model.input, model.layers[-1].input)
    mean = (softmax(forward(fine, image)) + softmax(forward(fine, image[:, ::-1])[:, ::-1])) / 2
    found = Segmenter(model, flip=True)
    expected = np.stack([mean[..., 0], mean[..., 1] + mean[..., 2]], -1)
    np.testing.assert_allclose(found.probabilities(image), expected, atol=1e-5)
    np.testing.assert_array_equal(found.objects(image), split_by_rims(mean.astype(np.float32)))
    both = found.everything(image, objects=True)
    np.testing.assert_array_equal(both.mask, expected.argmax(-1))
    np.testing.assert_array_equal(both.objects, found.objects(image))
    split = [(image[None], np.zeros((1, 12, 10), np.int32))]
    one = next(predictions(found, split, 2))
    np.testing.assert_array_equal(one.predicted, both.mask)
    np.testing.assert_array_equal(one.objects, both.objects)


def test_a_split_is_scored_by_a_model_or_a_segmenter():
    model, rng = lopsided(), np.random.default_rng(1)
    images = rng.uniform(0, 255, (2, 1, 10, 12, 3)).astype(np.float32)
    masks = rng.integers(0, 3, (2, 1, 10, 12), np.int32)
    split = list(zip(images, masks, strict=True))
    plain = evaluate(model, split, 3)
    np.testing.assert_array_equal(evaluate(Segmenter(model), split, 3), plain)
    options = {"scales": (0.5, 1.5), "flip": True}
    # The images of a split are scaled already: a value range, for files of 16 bits, is not applied again.
    segmenter = Segmenter(model, **options, value_range=(0, 4095))
    expected = np.zeros((3, 3), int)
    for image, mask in split:
        np.add.at(expected, (mask[0], Segmenter(model, **options).segment(image[0])), 1)
    assert not np.array_equal(expected, plain)
    np.testing.assert_array_equal(evaluate(segmenter, split, 3), expected)
    np.testing.assert_array_equal(evaluate(model, split, 3, **options), expected)
    with pytest.raises(ValueError, match="give tile_size to the Segmenter itself"):
        evaluate(segmenter, split, 3, tile_size=8)
    with pytest.raises(ValueError, match="tells 3 classes apart, the data set has 21"):
        evaluate(segmenter, split, 21)


@pytest.mark.parametrize("scales", [(), (1, 0), (-1,), (float("nan"),), (1, float("inf")), "1", ("a",), None])
def test_scales_are_positive_numbers(scales):
    with pytest.raises(ValueError, match="scales must be one or several positive numbers"):
        Segmenter(lopsided(), scales=scales)


def test_the_tools_take_the_recipe(tmp_path, capsys):
    model, rng = lopsided(1, 2), np.random.default_rng(1)
    model.save(tmp_path / "m.keras")
    image, mask = rng.integers(0, 256, (20, 26, 1), np.uint8), rng.integers(0, 2, (20, 26), np.uint8)
    Image.fromarray(image[..., 0]).save(tmp_path / "i.png")
    write(
        tmp_path / "data",
        DatasetSpec("d", ("a", "b"), channels=1),
        {"val": [Example("i", image, mask)]},
        progress=False,
    )
    recipe = ["--scales", "0.5", "1", "1.5", "--flip", "--rotate", "--model", str(tmp_path / "m.keras"), "--output"]
    predict.main([*recipe, str(tmp_path / "out"), "--images", str(tmp_path / "i.png")])
    expected = Segmenter(model, scales=(0.5, 1, 1.5), flip=True, rotate=True).segment(image)
    assert not np.array_equal(expected, Segmenter(model).segment(image))
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "masks" / "i.png")), expected)
    evaluate_tool.main([*recipe, str(tmp_path / "report"), "--data", str(tmp_path / "data")])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["inference"] == {"scales": [0.5, 1.0, 1.5], "flip": True, "rotate": True}
    assert report["pixel_accuracy"] == (expected == mask).mean()

    data = ["--model", str(tmp_path / "m.keras"), "--data", str(tmp_path / "data"), "--output", str(tmp_path / "new")]
    for wrong, message in (
        (["--scales", "0"], "--scales: must be a positive number, got '0'"),
        (["--scales", "big"], "--scales: must be a positive number, got 'big'"),
        (["--tile-size", "0"], "--tile-size: must be a positive whole number, got '0'"),
        (["--overlap", "-1"], "--overlap: must be a whole number, 0 or more, got '-1'"),
        (["--memory-gib", "nan"], "--memory-gib: must be a positive number, got 'nan'"),
    ):
        with pytest.raises(SystemExit) as ended:
            evaluate_tool.main([*data, *wrong])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    # A budget that nothing fits into is a fault of each image, in a line of its own.
    arguments = ["--model", str(tmp_path / "m.keras"), "--images", str(tmp_path / "i.png"), "--memory-gib", "1e-9"]
    with pytest.raises(DataError, match="1 of 1 images could not be segmented"):
        predict.main([*arguments, "--output", str(tmp_path / "out")])
    assert "i.png: " in capsys.readouterr().err
    with pytest.raises(DataError, match=r"^i: .*too small"):
        evaluate_tool.main([*data, "--memory-gib", "1e-9"])
    for wrong in (["--overlap", "8"], ["--overlap", "8", "--tile-size", "8"]):
        with pytest.raises(DataError, match="--overlap needs a --tile-size that is larger"):
            evaluate_tool.main([*data, *wrong])
    assert not (tmp_path / "new").exists()


def test_real_images_through_every_view(real_data):
    """Slices of ISBI 2012 (grey), CamVid and VOC files: what the file gives is what its array gives."""
    slices = sorted((real_data / "isbi2012" / "train" / "image").glob("*.png"))[:1]
    frames = sorted((real_data / "camvid").rglob("*.png"))[:1]
    photos = sorted((real_data / "voc").rglob("*.jpg"))[:1]
    for files, channels in ((slices, 1), (frames, 3), (photos, 3)):
        assert files
        model = lopsided(channels, 2)
        found = Segmenter(model, scales=(0.5, 1), flip=True, rotate=True)
        pixels = found.prepared(read_image(files[0]))
        each = []
        for scale in (0.5, 1):
            size = tuple(int((side - 1) * scale + 1) for side in pixels.shape[:2])
            for turns in range(4):
                for step in (1, -1):
                    seen = np.rot90(zoomed(pixels, size)[:, ::step], turns)
                    logits = np.rot90(forward(model, seen), -turns)[:, ::step]
                    each.append(softmax(zoomed(logits, pixels.shape[:2])))
        np.testing.assert_allclose(found.probabilities(files[0]), np.mean(each, 0), atol=1e-4)


def zoomed(image, size):
    """Resizes as `stretched` does, by SciPy."""
    from scipy.ndimage import zoom

    if image.shape[:2] == size:
        return image
    factors = [new / old for new, old in zip(size, image.shape[:2], strict=True)]
    return zoom(image, (*factors, 1), order=1, grid_mode=False)
