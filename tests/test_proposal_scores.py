"""DeconvNet's way of looking at boxes, against loops written out and Pillow's resizing; EdgeBoxes; EDeconvNet."""

import json
import re
import types

import evaluate
import numpy as np
import predict
import pytest
from PIL import Image
from tensorflow import keras

from kerasseg.inference import EdgeBoxes, Ensemble, Proposals, Segmenter, predict_proposals, predictions, read_image
from kerasseg.models import deconvnet, fcn_8s
from kerasseg.records import Example, write
from kerasseg.spec import DataError, DatasetSpec

SIDE = 16
BOXES = np.array(
    [
        [0.1, 0.05, 0.9, 0.8],
        [0.2, 0.2, 0.3, 0.9],  # narrower than `min_side`
        [-0.4, 0.5, 0.7, 1.3],  # leaves the image at three sides
        [0.0, 0.0, 1.0, 1.0],
        [0.5, 0.1, 0.99, 0.5],
    ]
)


@pytest.fixture(autouse=True)
def clear():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def small(num_classes=3, channels=3, side=SIDE):
    image = keras.Input((side, side, channels))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="tanh")(image)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 3, padding="same")(x))


def noise(height, width, channels=3):
    """A smooth random picture, so that resizing keeps something of it."""
    coarse = np.random.default_rng(0).uniform(0, 255, (height // 4 + 2, width // 4 + 2, channels)).astype(np.float32)
    return scaled(coarse, (height, width))


def scaled(values, size):
    """Pillow's bilinear resizing, which smooths where it shrinks."""
    planes = [
        Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR) for plane in np.moveaxis(values, 2, 0)
    ]
    return np.stack([np.array(plane) for plane in planes], 2)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def by_loops(model, image, boxes, aggregate, limit, min_side, side=SIDE):
    """One box and one pixel after the other."""
    height, width, channels = image.shape
    canvas, used = np.zeros((height, width, model.output_shape[-1])), 0
    for box in boxes:
        top, left, bottom, right = (round(share * n) for share, n in zip(box, (height, width) * 2, strict=True))
        if min(bottom - top, right - left) < min_side:
            continue
        crop = np.zeros((bottom - top, right - left, channels), np.float32)
        for i in range(top, bottom):
            for j in range(left, right):
                if 0 <= i < height and 0 <= j < width:
                    crop[i - top, j - left] = image[i, j]
        score = scaled(model(scaled(crop, (side, side))[None]).numpy()[0], crop.shape[:2])
        for i in range(max(top, 0), min(bottom, height)):
            for j in range(max(left, 0), min(right, width)):
                here = score[i - top, j - left]
                canvas[i, j] = np.maximum(canvas[i, j], here) if aggregate == "max" else canvas[i, j] + here
        used += 1
        if used == limit:
            break
    return canvas / used if aggregate == "mean" else canvas


@pytest.mark.parametrize("aggregate", ["max", "mean"])
@pytest.mark.parametrize("limit", [2, 50])
def test_scores_are_those_of_loops(aggregate, limit):
    model, image = small(), noise(60, 46)
    expected = by_loops(model, image, BOXES, aggregate, limit, 10)
    assert (aggregate == "mean" and limit == 50) or (expected == 0).all(-1).any()
    for batch_size in (1, 3):
        scores = predict_proposals(
            model, image, BOXES, aggregate=aggregate, limit=limit, min_side=10, batch_size=batch_size
        )
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected, atol=2e-3 * np.abs(expected).max())
    found = Segmenter(model, proposals=Proposals(lambda *_: BOXES, aggregate, limit, 10))
    np.testing.assert_array_equal(found.logits(image), scores)
    np.testing.assert_allclose(found.probabilities(image), softmax(scores), atol=1e-6)
    np.testing.assert_array_equal(found.segment(image), scores.argmax(-1))


def test_boxes_of_the_models_size_are_not_resized():
    """Two boxes that share pixels: the greater score wins, class by class, and scores below 0 are 0."""
    model, image = small(), noise(SIDE, 24)
    boxes = np.array([[0, 0, 1, 16 / 24], [0, 8 / 24, 1, 1]])
    left, right = (model(image[None, :, first : first + SIDE]).numpy()[0] for first in (0, 8))
    expected = np.zeros((SIDE, 24, 3))
    expected[:, :16] = np.maximum(left, 0)
    expected[:, 8:] = np.maximum(expected[:, 8:], right)
    np.testing.assert_allclose(predict_proposals(model, image, boxes, min_side=1), expected, rtol=1e-5, atol=1e-4)
    whole = predict_proposals(model, image, boxes[:0], whole_image=True)
    np.testing.assert_allclose(whole, predict_proposals(model, image, [[0, 0, 1, 1]], min_side=1))
    for aggregate in ("max", "mean"):
        assert not predict_proposals(model, image, boxes[:0], aggregate=aggregate).any()
        assert not predict_proposals(model, image, boxes, aggregate=aggregate).any()  # all narrower than 112 pixels


def test_the_source_is_asked_with_pixels_and_name(tmp_path):
    model, image, asked = small(), noise(30, 40).astype(np.uint8), []

    def source(pixels, key):
        asked.append((pixels, key))
        return BOXES

    found = Segmenter(model, proposals=Proposals(source, min_side=5))
    Image.fromarray(image).save(tmp_path / "photo.v2.png")
    mask = found.segment(tmp_path / "photo.v2.png")
    np.testing.assert_array_equal(found.segment(image), mask)
    split = [(image[None].astype(np.float32), np.zeros((1, 30, 40), np.int32), np.array([b"folder/photo"]))]
    np.testing.assert_array_equal(next(predictions(found, split, 3)).predicted, mask)
    assert [key for _, key in asked] == ["photo.v2", None, "folder/photo"]
    for pixels, _ in asked:
        np.testing.assert_array_equal(pixels, image)


def test_what_is_refused():
    model, image = small(), np.zeros((30, 40, 3), np.float32)
    for boxes, message in (
        ([[0, 0, 1]], r"finite boxes \[N, 4\]"),
        ([[0, 0, 1, np.nan]], "finite boxes"),
        ([[0, 0, 1, 1], [0.5, 0, 0.5, 1]], r"box 2 of 2 \(0.5, 0, 0.5, 1\) is empty or far off the image"),
        ([[10, 20, 200, 210]], "expected ymin, xmin, ymax, xmax as shares of the image"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_proposals(model, image, boxes)
    for options in ({"limit": 0}, {"min_side": 0}, {"batch_size": 0}, {"min_side": float("nan")}):
        with pytest.raises(ValueError, match="must be at least 1"):
            predict_proposals(model, image, BOXES, **options)
        with pytest.raises(ValueError, match="must be at least 1"):
            Proposals(lambda *_: BOXES, **options)
    with pytest.raises(ValueError, match="aggregate must be one of max, mean, got 'sum'"):
        Proposals(lambda *_: BOXES, "sum")
    with pytest.raises(ValueError, match="source must be a function"):
        Proposals(BOXES)
    with pytest.raises(ValueError, match=r"expected an image \[H, W, 3\]"):
        predict_proposals(model, image[..., 0], BOXES)
    boxes = Proposals(lambda *_: BOXES)
    for options in ({"scales": (1, 2)}, {"flip": True}, {"rotate": True}, {"samples": 2}):
        with pytest.raises(ValueError, match="proposals do not go with scales, flip, rotate or samples"):
            Segmenter(model, proposals=boxes, **options)
    with pytest.raises(ValueError, match=r"must be a kerasseg\.inference\.Proposals"):
        Segmenter(model, proposals=BOXES)
    halved = keras.Model(model.input, keras.layers.AveragePooling2D(2)(model.output))
    with pytest.raises(ValueError, match="logits of its input's size"):
        predict_proposals(halved, image, BOXES, min_side=1)


def test_edge_boxes_of_an_opencv_with_extras(monkeypatch, tmp_path):
    """Stand-ins for OpenCV's extra modules: what they are given, and what is made of their boxes."""
    from kerasseg._opencv import cv2

    given = {}

    class Boxes:
        def __init__(self, **options):
            given.update(options)

        def getBoundingBoxes(self, edges, directions):  # noqa: N802
            given.update(edges=edges, directions=directions)
            return given["boxes"], np.ones((len(given["boxes"]), 1))

    class Forest:
        def __init__(self, path):
            if "broken" in path:
                raise cv2.error("parse")

        def detectEdges(self, pixels):  # noqa: N802
            return pixels[..., 0]

        def computeOrientation(self, edges):  # noqa: N802
            return edges * 2

        def edgesNms(self, edges, directions):  # noqa: N802
            return edges + directions

    monkeypatch.setattr(
        cv2,
        "ximgproc",
        types.SimpleNamespace(createEdgeBoxes=Boxes, createStructuredEdgeDetection=Forest),
        raising=False,
    )
    given["boxes"] = np.array([[10, 5, 20, 10], [0, 0, 40, 30]])  # x, y, width, height
    image = np.zeros((30, 40, 3), np.float32)
    image[:, 25:] = 200
    boxes = EdgeBoxes(limit=7, enlarge=1.5)(image)
    assert given["maxBoxes"] == 7
    assert boxes.dtype == np.float32
    # The first one's centre is (10, 20), its sides become 15 and 30.
    np.testing.assert_allclose(boxes[0] * (30, 40, 30, 40), [2.5, 5, 17.5, 35], rtol=1e-5)
    np.testing.assert_allclose(boxes[1], [-0.25, -0.25, 1.25, 1.25])
    # One thin upright edge, with its direction across it.
    assert given["edges"].dtype == given["directions"].dtype == np.float32
    assert given["edges"].max() == 1
    assert set(np.nonzero(given["edges"] > 0.5)[1]) <= {24, 25}
    np.testing.assert_allclose(given["directions"][:, 24], 0, atol=1e-5)
    grey = EdgeBoxes()(image[..., :1])
    assert grey.shape == (2, 4)
    given["boxes"] = np.zeros((0, 4))
    assert EdgeBoxes()(np.zeros((9, 9, 3), np.float32)).shape == (0, 4)
    assert not given["edges"].any()
    (tmp_path / "forest.yml").touch()
    (tmp_path / "broken.yml").touch()
    EdgeBoxes(tmp_path / "forest.yml")(np.full((3, 4, 3), 255, np.float32))
    assert (given["edges"] == 3).all()
    assert (given["directions"] == 2).all()
    for name, message in (("none", "there is no such file"), ("broken", "is no forest of structured edges")):
        with pytest.raises(DataError, match=message):
            EdgeBoxes(tmp_path / f"{name}.yml")
    for options in ({"limit": 0}, {"enlarge": 0}, {"enlarge": 3.5}):
        with pytest.raises(ValueError, match="limit must be positive, enlarge 3 at most"):
            EdgeBoxes(**options)
    with pytest.raises(ValueError, match="1 or 3 channels, got 4"):
        EdgeBoxes()(np.zeros((5, 5, 4), np.float32))
    monkeypatch.delattr(cv2, "ximgproc")
    with pytest.raises(ImportError, match=r"pip install 'kerasseg\[proposals\]'"):
        EdgeBoxes()


def write_forest(path):
    """Writes the smallest forest that OpenCV reads: four trees of one question, an edge where a gradient is strong.

    Feature 904 is the strength of the gradient in the middle of a patch of 32 x 32 pixels.
    """
    options = {
        "stride": 2, "shrinkNumber": 2, "patchSize": 32, "patchInnerSize": 16, "numberOfGradientOrientations": 4,
        "gradientSmoothingRadius": 0, "regFeatureSmoothingRadius": 2, "ssFeatureSmoothingRadius": 8,
        "gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5, "numberOfTrees": 4, "numberOfTreesToEvaluate": 2,
    }  # fmt: skip
    edge = [16 * row + column for row in range(4, 12) for column in range(4, 12)]
    arrays = {
        "childs": [2, 0, 0] * 4,
        "featureIds": [904, 0, 0] * 4,
        "thresholds": [0.05, 0.0, 0.0] * 4,
        "edgeBoundaries": [0, *(tree * 64 + end for tree in range(4) for end in (0, 0, 64))],
        "edgeBins": edge * 4,
    }
    lines = ["%YAML:1.0", "---", "options:", *(f"   {name}: {value}" for name, value in options.items())]
    path.write_text("\n".join(lines + [f"{name}: {values}" for name, values in arrays.items()]) + "\n")


def test_edge_boxes_surround_what_is_in_a_picture(real_data, tmp_path):
    """With OpenCV's extra modules only. A square on noise is among the first boxes; photos have hundreds of boxes."""
    from kerasseg._opencv import cv2

    if not hasattr(cv2, "ximgproc"):
        pytest.skip("needs opencv-contrib-python (the extra `proposals`)")
    image = np.random.default_rng(0).normal(60, 4, (200, 260, 3)).clip(0, 255).astype(np.float32)
    image[40:160, 50:190] += 120
    first = EdgeBoxes(enlarge=1)(image)[0] * (200, 260, 200, 260)
    np.testing.assert_allclose(first, [40, 50, 160, 190], atol=8)
    write_forest(tmp_path / "forest.yml")
    clean = np.where(image > 120, 180, 60).astype(np.float32)
    first = EdgeBoxes(tmp_path / "forest.yml", enlarge=1)(clean)[0] * (200, 260, 200, 260)
    np.testing.assert_allclose(first, [40, 50, 160, 190], atol=12)  # It sees every other pixel, coarsely.
    (tmp_path / "text.yml").write_text("no forest")
    with pytest.raises(DataError, match="is no forest of structured edges"):
        EdgeBoxes(tmp_path / "text.yml")
    photo = read_image(sorted((real_data / "voc").rglob("*.jpg"))[0]).astype(np.float32)
    boxes = EdgeBoxes()(photo)
    assert 500 < len(boxes) <= 2000
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    found = Segmenter(small(side=32), proposals=Proposals(EdgeBoxes(), limit=3))
    assert found.logits(photo).any()


def test_edeconvnet_is_the_mean_or_the_product():
    first, second, image = small(), small(), noise(40, 50)
    boxes = Segmenter(first, proposals=Proposals(lambda *_: BOXES, min_side=5))
    free = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(3, 3, padding="same")(free)
    second = keras.Model(free, x)
    whole = Segmenter(second)
    mean = Ensemble([boxes, whole])
    expected = (softmax(boxes.logits(image)) + softmax(whole.logits(image))) / 2
    np.testing.assert_allclose(mean.probabilities(image), expected, atol=1e-6)
    np.testing.assert_array_equal(mean.segment(image), expected.argmax(-1))
    product = Ensemble([boxes, whole], "product")
    scores = np.maximum(boxes.logits(image), 0) * np.maximum(whole.logits(image), 0)
    np.testing.assert_allclose(product.probabilities(image), softmax(scores), atol=1e-5)
    np.testing.assert_array_equal(product.segment(image), scores.argmax(-1))
    assert not np.array_equal(product.segment(image), mean.segment(image))
    split = [(image[None], np.zeros((1, 40, 50), np.int32))]
    for one in (mean, product):
        np.testing.assert_array_equal(next(predictions(one, split, 3)).predicted, one.segment(image))
    mirrored = Segmenter(second, flip=True)
    together = Ensemble([boxes, mirrored]).probabilities(image)
    np.testing.assert_allclose(together, (softmax(boxes.logits(image)) + mirrored.probabilities(image)) / 2, atol=1e-6)
    with pytest.raises(ValueError, match='take "mean"'):
        Ensemble([boxes, mirrored], "product")
    with pytest.raises(ValueError, match="combine must be one of mean, product, got 'max'"):
        Ensemble([boxes, whole], "max")
    with pytest.raises(ValueError, match="expected two Segmenters or more"):
        Ensemble([boxes])
    with pytest.raises(ValueError, match="same classes, got 3, 2 classes"):
        Ensemble([boxes, Segmenter(small(2))])


def test_the_tools_read_boxes_from_files(tmp_path, capsys):
    """Boxes as EdgeBox writes them (x, y, w, h from pixel 1), with and without a second network; and their faults."""
    from kerasseg._opencv import cv2

    model, image = small(2), noise(30, 40).astype(np.uint8)
    model.save(tmp_path / "m.keras")
    Image.fromarray(image).save(tmp_path / "i.png")
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "i.txt").write_text("1 1 20 30\n-3 -5 30 20\n5 5 4 4\n11 6 25 25\n")
    pixels = np.array([[0, 0, 30, 20], [-6, -4, 14, 26], [5, 10, 30, 35]])
    expected = predict_proposals(model, image, pixels / (30, 40, 30, 40), aggregate="mean", min_side=5)
    arguments = ["--model", tmp_path / "m.keras", "--proposals", tmp_path / "boxes", "--proposals-order", "xywh"]
    arguments = [*map(str, arguments), "--min-proposal-side", "5", "--aggregate", "mean"]
    files = ["--images", str(tmp_path / "i.png"), "--output", str(tmp_path / "out")]
    predict.main([*arguments, *files])
    mask = tmp_path / "out" / "masks" / "i.png"
    np.testing.assert_array_equal(np.array(Image.open(mask)), expected.argmax(-1))
    predict.main([*arguments, *files, "--and-model", str(tmp_path / "m.keras"), "--combine", "product"])
    product = np.maximum(expected, 0) * np.maximum(Segmenter(model).logits(image), 0)
    np.testing.assert_array_equal(np.array(Image.open(mask)), product.argmax(-1))

    predict.main([*arguments, *files, "--whole-image"])
    whole = predict_proposals(model, image, pixels / (30, 40, 30, 40), aggregate="mean", min_side=5, whole_image=True)
    np.testing.assert_array_equal(np.array(Image.open(mask)), whole.argmax(-1))

    truth = expected.argmax(-1).astype(np.uint8)
    spec = DatasetSpec("d", ("a", "b"))
    write(tmp_path / "data", spec, {"val": [Example("i", image, truth)]}, progress=False)
    evaluate.main([*arguments, "--data", str(tmp_path / "data"), "--output", str(tmp_path / "report")])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["pixel_accuracy"] == 1
    assert report["inference"]["proposals"] == str(tmp_path / "boxes")

    for wrong, message in (
        (["--flip"], "proposals do not go with scales, flip, rotate or samples"),
        (["--proposals", str(tmp_path / "none")], "none does not exist"),
        (["--and-model", str(tmp_path / "none")], "there is no such model file"),
        (["--edges", "model.yml.gz"], "--edges goes with --proposals edge-boxes"),
        (["--combine", "product"], "--combine product needs a second network"),
        (["--head", "2"], "is for models of several heads"),
        *([] if hasattr(cv2, "ximgproc") else [(["--proposals", "edge-boxes"], r"kerasseg\[proposals\]")]),
    ):
        with pytest.raises(DataError, match=message):
            predict.main([*arguments, *files, *wrong])
    capsys.readouterr()
    for boxes, message in (
        ("1 1 200 30", r"i.txt, image 'i': box 1 \(x 1, y 1, w 200, h 30\) leaves the image of 40x30 pixels"),
        (None, "has no proposals for 'i'; found 'other'"),
    ):
        if boxes is None:
            (tmp_path / "boxes" / "i.txt").rename(tmp_path / "boxes" / "other.txt")
        else:
            (tmp_path / "boxes" / "i.txt").write_text(boxes)
        with pytest.raises(DataError, match="1 of 1 images could not be segmented"):
            predict.main([*arguments, *files])
        assert re.search(message, capsys.readouterr().err)


def test_deconvnet_on_fifty_boxes_of_a_real_image(real_data):
    """End to end, on a photo of VOC: of 90 random boxes, the first 50 of at least 112 pixels; FCN-8s beside it."""
    photo = sorted((real_data / "voc").rglob("*.jpg"))[0]
    image = read_image(photo).astype(np.float32)
    height, width, _ = image.shape
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.1, 0.6, (90, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.2, 0.7, (90, 2))], 1)
    pixels = np.rint(boxes * (height, width, height, width)).astype(int)
    large = pixels[(pixels[:, 2:] - pixels[:, :2]).min(1) >= 112]
    assert 50 < len(large) < 90
    model = deconvnet(4, width=1 / 32)
    for layer in model.layers:  # The published start makes scores of 1e-20 of an untrained network.
        if "deconv" in layer.name and layer.weights and not layer.name.endswith("norm"):
            layer.set_weights([w * 10 for w in layer.get_weights()])
    # One box at a time: the first eight are then computed alike, whatever comes after them.
    scores = Segmenter(model, proposals=Proposals(lambda *_: boxes, batch_size=1)).logits(photo)
    few = Segmenter(model, proposals=Proposals(lambda *_: boxes, limit=8, batch_size=1))
    padded = np.pad(image, ((width, width), (height, height), (0, 0)))
    places = large[:8] + (width, height, width, height)
    crops = [scaled(padded[top:bottom, left:right], (224, 224)) for top, left, bottom, right in places]
    expected = np.zeros((*padded.shape[:2], 4))
    for (top, left, bottom, right), score in zip(places, model(np.stack(crops)).numpy(), strict=True):
        part = expected[top:bottom, left:right]
        part[...] = np.maximum(part, scaled(score, part.shape[:2]))
    expected = expected[width : width + height, height : height + width]
    assert scores.shape == expected.shape == (height, width, 4)
    # Where two pixels of a pooling window are nearly the same, the rounding of resizing decides which one is passed on.
    error = np.abs(few.logits(photo) - expected)
    assert np.quantile(error, 0.95) < 1e-4 * expected.mean()
    assert error.mean() < 1e-2 * expected.mean()
    assert (scores >= few.logits(photo)).all()
    assert (scores > expected + error).mean() > 0.1  # The other 42 say something too.
    both = Ensemble([few, Segmenter(fcn_8s(4, width=1 / 32))], "product")
    product = np.maximum(few.logits(photo), 0) * np.maximum(both.segmenters[1].logits(photo), 0)
    np.testing.assert_array_equal(both.segment(photo), product.argmax(-1))
