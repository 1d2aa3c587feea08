"""Heads and samples of a `Segmenter`: UNet++'s accurate and fast mode, Bayesian SegNet's mean and uncertainty."""

import numpy as np
import predict
import pytest
from PIL import Image
from tensorflow import keras

from kerasseg.inference import Ensemble, Segmenter, predictions, read_image
from kerasseg.layers import MergeClasses
from kerasseg.models import bayesian_segnet, unet_plus_plus, unet_plus_plus_averaged, unet_plus_plus_pruned
from kerasseg.postprocess import dense_crf
from kerasseg.spec import DataError


@pytest.fixture(autouse=True)
def clear():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def dropping(rate=0.5, channels=1, rims=False):
    """Returns a network of one 1x1 layer, whose single unit is dropped or doubled, each pixel by itself."""
    x = image = keras.Input((None, None, channels))
    x = keras.layers.Dropout(rate)(keras.layers.Conv2D(1, 1, name="unit")(x))
    logits = keras.layers.Conv2D(3 if rims else 2, 1, name="logits")(x)
    model = keras.Model(image, MergeClasses([[0], [1, 2]])(logits) if rims else logits)
    model.get_layer("unit").set_weights([np.ones((1, 1, channels, 1)) / 100 / channels, np.zeros(1)])
    kernel = np.array([0, 1, 0.5] if rims else [0, 1]).reshape(1, 1, 1, -1)
    model.get_layer("logits").set_weights([kernel, np.zeros(kernel.size)])
    return model


def test_one_saved_unet_plus_plus_has_both_modes(tmp_path, real_data):
    """The mean of the heads and each head, from the model as trained and from what best.keras is; a slice of ISBI."""
    model = unet_plus_plus(2, input_shape=(None, None, 1), filters=1, depth=2, deep_supervision=True)
    model.save(tmp_path / "last.keras")
    unet_plus_plus_averaged(model).save(tmp_path / "best.keras")
    file = sorted((real_data / "isbi2012" / "train" / "image").glob("*.png"))[0]
    image = read_image(file)[:61, :50]
    Image.fromarray(image[..., 0]).save(tmp_path / "slice.png")
    each = [softmax(logits.numpy()[0]) for logits in model(image[None].astype(np.float32))]
    for name, head, expected in (
        ("last", "mean", np.mean(each, 0)),
        ("last", 1, each[0]),
        ("best", "mean", np.mean(each, 0)),
        ("best", 2, each[1]),
    ):
        found = Segmenter(tmp_path / f"{name}.keras", head=head)
        np.testing.assert_allclose(found.probabilities(image), expected, atol=1e-5)
        if head != "mean":
            assert found.model.count_params() == unet_plus_plus_pruned(model, head).count_params()
    both = Segmenter(model, head=2, flip=True).probabilities(image)
    mirrored = softmax(model(image[None, :, ::-1].astype(np.float32))[1].numpy()[0])[:, ::-1]
    np.testing.assert_allclose(both, (each[1] + mirrored) / 2, atol=1e-5)
    paths = ["--model", tmp_path / "last.keras", "--images", tmp_path / "slice.png", "--output", tmp_path / "out"]
    predict.main([*map(str, paths), "--head", "1"])
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "slice.png"))
    np.testing.assert_array_equal(mask, Segmenter(model, head=1).segment(image))

    with pytest.raises(DataError, match="expected a model with one output"):
        Segmenter(tmp_path / "last.keras")
    for head in (0, 5, "last", True, 1.5):
        with pytest.raises(ValueError, match="head must be 'mean' or a number from 1 to 2"):
            Segmenter(model, head=head)
    with pytest.raises(ValueError, match="is for models of several heads, as UNet"):
        Segmenter(dropping(), head="mean")


def test_samples_are_averaged_and_their_variance_is_the_uncertainty():
    """The unit is 0 or twice its value: the mean and variance of two probabilities, by arithmetic."""
    image = np.full((40, 30), 200, np.uint8)
    found = Segmenter(dropping(), samples=150, seed=1)
    off, on = softmax(np.zeros(2)), softmax(np.array([0.0, 4.0]))
    probabilities, uncertainty = found.probabilities(image), found.uncertainty(image)
    assert probabilities.dtype == uncertainty.dtype == np.float32
    assert uncertainty.shape == (40, 30)
    np.testing.assert_allclose(probabilities.mean((0, 1)), (off + on) / 2, atol=4e-3)
    np.testing.assert_allclose(uncertainty.mean(), np.mean(((on - off) / 2) ** 2) * 149 / 150, rtol=1e-2)
    np.testing.assert_allclose(uncertainty, ((on - off) ** 2).mean() / 4, rtol=0.2)
    everything = Segmenter(dropping(), samples=150, seed=1).everything(image)
    np.testing.assert_array_equal(everything.mask, probabilities.argmax(-1))
    np.testing.assert_allclose(
        everything.uncertainty, Segmenter(dropping(), samples=150, seed=1).uncertainty(image), atol=1e-7
    )
    assert not np.array_equal(everything.uncertainty, uncertainty)  # other samples
    without = Segmenter(dropping(rate=0.0), samples=3)
    assert not without.uncertainty(image).any()
    np.testing.assert_allclose(without.probabilities(image), Segmenter(dropping(0.0)).probabilities(image), atol=1e-6)
    assert Segmenter(dropping()).everything(image).uncertainty is None


def test_samples_go_with_tiles_views_rims_and_splits():
    image = np.random.default_rng(0).integers(0, 256, (60, 45), np.uint8)
    expected = Segmenter(dropping(), samples=60, seed=0).probabilities(image)
    for options in ({"flip": True}, {"tile_size": (40, 45), "overlap": 0}):
        found = Segmenter(dropping(), samples=60, seed=0, **options)
        np.testing.assert_allclose(found.probabilities(image), expected, atol=0.3)
        np.testing.assert_allclose(found.probabilities(image).mean(), expected.mean(), atol=5e-3)
    # Two views draw twice: their mean varies half as much.
    one, two = (Segmenter(dropping(), samples=60, seed=0, flip=flip).uncertainty(image) for flip in (False, True))
    np.testing.assert_allclose(one.mean() / two.mean(), 2, rtol=0.05)
    rims = Segmenter(dropping(rims=True), samples=9, seed=0)
    assert rims.objects(image).shape == image.shape
    split = [(image[None, ..., None].astype(np.float32), np.zeros((1, 60, 45), np.int32))]
    prediction = next(predictions(rims, split, 2))
    assert prediction.objects.shape == image.shape
    again = Segmenter(dropping(rims=True), samples=9, seed=0).everything(image, objects=True)
    assert again.uncertainty.shape == again.mask.shape == again.objects.shape == image.shape
    assert (again.mask != prediction.predicted).mean() < 0.5


def test_bayesian_segnet_says_where_it_is_unsure(real_data, tmp_path):
    """A frame of CamVid, in tiles: the tool writes a picture of the uncertainty beside the mask."""
    keras.utils.set_random_seed(3)
    model = bayesian_segnet(11, width=1 / 16)
    model.save(tmp_path / "m.keras")
    frame = sorted((real_data / "camvid").rglob("*.png"))[0]
    Image.open(frame).convert("RGB").crop((0, 0, 200, 120)).save(tmp_path / "frame.png")
    predict.main(
        ["--model", str(tmp_path / "m.keras"), "--images", str(tmp_path / "frame.png"), "--samples", "3", "--seed", "1",
         "--tile-size", "128", "--output", str(tmp_path / "out")]
    )  # fmt: skip
    found = Segmenter(model, samples=3, seed=1, tile_size=128).everything(tmp_path / "frame.png")
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "masks" / "frame.png")), found.mask)
    picture = np.array(Image.open(tmp_path / "out" / "uncertainty" / "frame.png"))
    assert picture.dtype in (np.uint16, np.int32)
    np.testing.assert_allclose(picture / 65535 / 4, found.uncertainty, atol=1e-5)
    assert found.uncertainty.shape == (120, 200)
    assert 0 < found.uncertainty.max() <= 0.25


def test_what_samples_refuse():
    for samples in (-1, 1.5, "3", True, None):
        with pytest.raises(ValueError, match="samples must be a whole number, 0 or more"):
            Segmenter(dropping(), samples=samples)
    with pytest.raises(ValueError, match="has no layer of dropout"):
        Segmenter(keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 1)]), samples=2)
    with pytest.raises(ValueError, match=r"uncertainty takes samples: Segmenter\(..., samples=40\)"):
        Segmenter(dropping()).uncertainty(np.zeros((3, 3)))


def test_models_of_one_logit_tell_two_classes_apart():
    """Its sigmoid is the probability of class 1, with several views too."""
    image = keras.Input((None, None, 1))
    layer = keras.layers.Conv2D(1, 3, padding="same")
    model = keras.Model(image, layer(image))
    pixels = np.random.default_rng(0).uniform(-5, 5, (20, 15, 1)).astype(np.float32)
    ways = [model(seen[None]).numpy()[0, ..., 0] for seen in (pixels, pixels[:, ::-1])]
    expected = [1 / (1 + np.exp(-ways[0])), (1 / (1 + np.exp(-ways[0])) + 1 / (1 + np.exp(-ways[1][:, ::-1]))) / 2]
    for found, probability in zip((Segmenter(model), Segmenter(model, flip=True)), expected, strict=True):
        np.testing.assert_allclose(found.probabilities(pixels)[..., 1], probability, atol=1e-5)
        np.testing.assert_array_equal(found.segment(pixels), probability > 0.5)
        split = [(pixels[None], (probability > 0.5)[None].astype(np.int32))]
        np.testing.assert_array_equal(next(predictions(found, split, 2)).confusion_matrix.diagonal().sum(), 300)


def test_a_crf_comes_after_all_else(tmp_path, real_data):
    """A patch of a VOC photo, its colours for the network's classes: the CRF of the mean over views, of an ensemble."""
    photo = sorted((real_data / "voc").rglob("*.jpg"))[0]
    image = read_image(photo)[100:148, 200:260]
    Image.fromarray(image).save(tmp_path / "i.png")
    picture = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 3, padding="same")
    model = keras.Model(picture, layer(picture))
    layer.set_weights([w / 50 for w in layer.get_weights()])
    model.save(tmp_path / "m.keras")
    pixels = image.astype(np.float32)
    plain, two = Segmenter(model), Segmenter(model, flip=True)
    for found, before in (
        (Segmenter(model, crf="usual"), plain.probabilities(image)),
        (Segmenter(model, crf="usual", flip=True), two.probabilities(image)),
        (Ensemble([plain, two], crf="usual"), (plain.probabilities(image) + two.probabilities(image)) / 2),
    ):
        expected = dense_crf(pixels, before)
        np.testing.assert_allclose(found.probabilities(image), expected, atol=1e-5)
        assert (expected.argmax(-1) != before.argmax(-1)).any()
        np.testing.assert_array_equal(found.segment(image), expected.argmax(-1))
        split = [(pixels[None], np.zeros((1, *image.shape[:2]), np.int32))]
        np.testing.assert_array_equal(next(predictions(found, split, 3)).predicted, expected.argmax(-1))
    changed = Segmenter(model, crf={"preset": "deconvnet", "iterations": 1})
    np.testing.assert_allclose(
        changed.probabilities(image),
        dense_crf(pixels, plain.probabilities(image), "deconvnet", iterations=1),
        atol=1e-5,
    )
    paths = ["--model", tmp_path / "m.keras", "--images", tmp_path / "i.png", "--output", tmp_path / "out"]
    predict.main([*map(str, paths), "--crf", "usual"])
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "i.png"))
    np.testing.assert_array_equal(mask, dense_crf(pixels, plain.probabilities(image)).argmax(-1))
    for crf in ("best", {"sigma": 3}, 3, {"iterations": -1}):
        with pytest.raises(ValueError, match="crf must be a preset or a mapping of arguments of dense_crf"):
            Segmenter(model, crf=crf)
