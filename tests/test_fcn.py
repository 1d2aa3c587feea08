"""The fully convolutional networks: counts, sizes, crops, and that everything lies where it should."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.backbones import alexnet
from kerasseg.inspection import receptive_field
from kerasseg.inspection._trace import layer_name, outputs, trace
from kerasseg.layers import AtrousConv2D, BilinearConv2DTranspose
from kerasseg.models import fcn_8s, fcn_16s, fcn_32s, fcn_alexnet
from kerasseg.weights import load_by_name

BUILDERS = {"32s": fcn_32s, "16s": fcn_16s, "8s": fcn_8s, "alexnet": fcn_alexnet}
TINY = {"32s": 1 / 64, "16s": 1 / 64, "8s": 1 / 64, "alexnet": 1 / 16}
FORMS = [("32s", {}), ("16s", {}), ("8s", {}), ("alexnet", {})]
FORMS += [(name, {"padding": "same"}) for name in ("32s", "16s", "8s")]
RNG = np.random.default_rng(0)

every_form = pytest.mark.parametrize(("name", "form"), FORMS, ids=lambda x: x if isinstance(x, str) else "-".join(x))


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def tiny(name, num_classes=3, **options):
    return BUILDERS[name](num_classes, width=TINY[name], **options)


@functools.cache
def shared(name, **options):
    """Returns such a network that is shared: nothing may change it."""
    return tiny(name, **options)


def with_scores(model):
    """Gives the score convolutions, which start at zero, something to say."""
    for layer in model.layers:
        if layer.name.startswith("score") and layer.weights:
            layer.set_weights([RNG.normal(0, 0.1, w.shape) for w in layer.weights])
    return model


def images(*shape):
    return RNG.uniform(0, 255, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "options", "learned", "total"),
    [
        ("32s", {}, 134_346_581, 136_152_917),
        ("16s", {}, 134_357_354, 134_815_994),
        ("8s", {}, 134_362_751, 134_489_759),
        ("8s", {"upsampling": "cvpr15", "padding": "same"}, 134_376_884, 134_489_780),
        ("alexnet", {}, 56_954_261, 58_704_590),
    ],
)
def test_parameter_counts(name, options, learned, total, zero_weights):
    with zero_weights():
        model = BUILDERS[name](21, **options)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == learned
    assert model.count_params() == total


def test_published_receptive_fields():
    assert receptive_field(shared("32s"), "fc7") == (404, 404)
    assert receptive_field(shared("alexnet"), "fc7") == (355, 355)


@pytest.mark.parametrize(
    ("size", "pools", "fc6", "up32", "up2", "up16", "up4", "up8"),
    [
        (224, (106, 53, 27, 14), 8, 288, 18, 304, 38, 312),
        (375, (144, 72, 36, 18), 12, 416, 26, 432, 54, 440),
        (500, (175, 88, 44, 22), 16, 544, 34, 560, 70, 568),
        (513, (178, 89, 45, 23), 17, 576, 36, 592, 74, 600),
    ],
)
def test_sizes_of_the_release(size, pools, fc6, up32, up2, up16, up4, up8):
    """Of the maps in the graph, crop by crop."""
    expected = {f"pool{i}": side for i, side in enumerate(pools, start=2)} | {"relu1_2": size + 198, "fc6": fc6}
    for name, sides in {
        "32s": {"upscore": up32},
        "16s": {"upscore2": up2, "score_pool4": pools[2], "upscore16": up16},
        "8s": {"upscore_pool4": up4, "score_pool3": pools[1], "upscore8": up8},
    }.items():
        model, sides = shared(name), {**expected, **sides, "score": size}
        taps = keras.Model(model.input, [model.get_layer(layer).output for layer in sides])
        assert [tuple(x.shape[1:3]) for x in outputs(taps, size, size)] == [(side, side) for side in sides.values()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("32s", {"score": 19}),
        ("16s", {"score_pool4c": 5, "score": 27}),
        ("8s", {"score_pool4c": 5, "score_pool3c": 9, "score": 31}),
        ("alexnet", {"score": 18}),
    ],
)
def test_crops_of_the_release(name, expected):
    """Worked out by the model from where the cells lie; read from the slices of the graph."""
    model = shared(name)
    names, found = {layer.name for layer in model.layers}, {}
    for operation in trace(model, 100, 77).get_operations():
        if operation.type == "StridedSlice" and not operation.get_attr("ellipsis_mask"):
            found[layer_name(operation, names)] = tf.get_static_value(operation.inputs[1])[1:3].tolist()
    assert found == {layer: [offset, offset] for layer, offset in expected.items()}


def test_every_crop_lies_inside_its_map():
    """For every size up to 2048, by the formulas of the sizes; the formulas against the network at some."""
    models = {name: shared(name) for name in ("32s", "16s", "8s", "alexnet")}
    for n in range(1, 2049):
        maps = []
        for _ in range(5):
            maps.append(-(-(maps[-1] if maps else n + 198) // 2))
        up32, up2, up4 = 32 * maps[4] - 160, 2 * maps[4] - 10, 4 * maps[4] - 18
        assert up32 >= 19 + n
        assert maps[3] >= 5 + up2
        assert 16 * up2 + 16 >= 27 + n
        assert maps[2] >= 9 + up4
        assert 8 * up4 + 8 >= 31 + n
        side = (n + 200 - 11) // 4 + 1
        for _ in range(3):
            side = -(-(side - 3) // 2) + 1
        up = 32 * (side - 6) + 63
        assert up >= 18 + n
        if n % 257 == 1:
            for name, layer, expected in (
                ("32s", "upscore", up32),
                ("16s", "upscore16", 16 * up2 + 16),
                ("8s", "upscore8", 8 * up4 + 8),
                ("alexnet", "upscore", up),
            ):
                tap = keras.Model(models[name].input, models[name].get_layer(layer).output)
                assert tap.compute_output_shape((1, n, n, 3)) == (1, expected, expected, 3)


@every_form
def test_logits_have_the_size_of_the_image(name, form):
    model = shared(name, **form)
    for height, width in ((1, 1), (31, 33), (64, 2), (95, 130)):
        assert model(images(1, height, width, 3)).shape == (1, height, width, 3)
    assert tiny(name, input_shape=(50, None, 3), **form)(images(2, 50, 41, 3)).shape == (2, 50, 41, 3)


@every_form
def test_a_mirrored_image_has_mirrored_logits(name, form):
    """With symmetric kernels, at sizes where no pooling rounds: a crop that is a pixel off shows."""
    model = with_scores(tiny(name, **form))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            kernel = kernel + kernel[::-1]
            layer.set_weights([kernel + kernel[:, ::-1], bias])
    # The image and 198 zeros make a multiple of 32; with AlexNet's 200 zeros, 11/4 and three times 3/2 leave no rest.
    height, width = (64, 96) if form else (58, 90) if name != "alexnet" else (59, 91)
    image = images(1, height, width, 3)
    logits = model(image).numpy()
    assert logits.std() > 0
    mirrored = model(image[:, ::-1, ::-1]).numpy()[:, ::-1, ::-1]
    np.testing.assert_allclose(mirrored, logits, atol=1e-4 * np.abs(logits).max())
    shifted = np.abs(mirrored[:, 1:, 1:] - logits[:, :-1, :-1]).max()
    assert shifted > 1e-2 * np.abs(logits).max()


@pytest.mark.parametrize("name", ["32s", "16s", "8s"])
def test_both_paddings_agree_inside(name):
    """The cells of "authors" lie at 12.5 + 32 i, those of "same" at 15.5 + 32 i: 29 pixels further they meet."""
    authors = with_scores(tiny(name))
    same = tiny(name, padding="same")
    same.set_weights(authors.get_weights())
    image = images(1, 597, 629, 3)
    one, two = authors(image).numpy()[:, 29:, 29:], same(image[:, 29:, 29:]).numpy()
    inside = slice(250, -250)  # half the field of 404 pixels, and 32 pixels of the upsampling
    one, two = one[:, inside, inside], two[:, inside, inside]
    assert one.std() > 0
    np.testing.assert_allclose(one, two, atol=1e-4 * np.abs(one).max())


def test_a_constant_image_has_constant_logits_inside():
    logits = with_scores(tiny("8s"))(np.full((1, 620, 620, 3), 200, np.float32)).numpy()[:, 290:-290, 290:-290]
    assert np.abs(logits).min() > 0
    np.testing.assert_allclose(logits, np.broadcast_to(logits[:, :1, :1], logits.shape), rtol=1e-4)


def test_scores_are_added_before_the_last_upsampling():
    """Not each at full size: twofold and then sixteenfold bilinear upsampling is not thirty-two-fold."""
    model = with_scores(tiny("16s", padding="same"))
    image = images(1, 64, 96, 3)
    taps = keras.Model(model.input, [model.get_layer(x).output for x in ("score_fr", "score_pool4")])
    coarse, fine = (x.numpy() for x in taps(image))
    twofold, last = (BilinearConv2DTranspose(2 * f, f, "same") for f in (2, 16))
    logits = model(image).numpy()
    np.testing.assert_allclose(last(twofold(coarse) + fine), logits, atol=1e-4 * np.abs(logits).max())
    apart = BilinearConv2DTranspose(64, 32, "same")(coarse) + last(fine)
    assert np.abs(apart - logits).max() > 0.05 * np.std(last(twofold(coarse)))


def test_at_once_scales_what_the_skips_read():
    plain, at_once = with_scores(tiny("8s")), tiny("8s", at_once=True)
    at_once.set_weights(plain.get_weights())
    image = images(1, 60, 70, 3)
    for name, factor in (("score_pool4", 0.01), ("score_pool3", 0.0001)):
        kernel, bias = plain.get_layer(name).get_weights()
        plain.get_layer(name).set_weights([kernel * factor, bias])
    logits = plain(image).numpy()
    np.testing.assert_allclose(at_once(image), logits, atol=1e-4 * np.abs(logits).max())


def test_each_stage_starts_from_the_one_before():
    """Layers of one name have one shape; adding a skip, whose scores start at zero, adds nothing."""
    stages = [tiny("32s"), tiny("16s"), tiny("8s")]
    with_scores(stages[0])
    for before, after in zip(stages, stages[1:], strict=False):
        shapes = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in before.layers}
        shared = [layer for layer in after.layers if shapes.get(layer.name)]
        assert {"conv1_1", "conv5_3", "fc6", "fc7", "score_fr"} <= {layer.name for layer in shared}
        assert all(shapes[layer.name] == [tuple(w.shape) for w in layer.weights] for layer in shared)
        load_by_name(after, before)
    image = images(1, 64, 64, 3)
    twofold = BilinearConv2DTranspose(4, 2)
    expected = keras.Model(stages[0].input, stages[0].get_layer("score_fr").output)(image)
    for model, fused in zip(stages[1:], ("fuse_pool4", "fuse_pool3"), strict=True):
        expected = twofold(expected).numpy()
        assert expected.std() > 0
        found = keras.Model(model.input, model.get_layer(fused).output)(image)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_scores_start_at_zero_and_upsampling_as_bilinear():
    model = tiny("8s", upsampling="learned")
    assert not model(images(1, 50, 50, 3)).numpy().any()
    learned = {layer.name: layer.learned for layer in model.layers if isinstance(layer, BilinearConv2DTranspose)}
    assert learned == {"upscore2": True, "upscore_pool4": True, "upscore8": True}
    for name, other in (("16s", "upscore16"), ("8s", "upscore8")):
        model = tiny(name, upsampling="cvpr15")
        found = {x.name: (x.learned, x.use_bias) for x in model.layers if isinstance(x, BilinearConv2DTranspose)}
        assert found.pop("upscore2") == (True, True)
        assert found.pop(other) == (False, False)
        assert set(found.values()) <= {(True, False)}


def test_dropout_follows_fc6_and_fc7():
    for name in BUILDERS:
        found = [x.name for x in tiny(name, dropout=0.25).layers if getattr(x, "rate", None) == 0.25]
        assert found == ["drop6", "drop7"]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_the_mean_is_subtracted_and_colours_are_reversed(channels):
    model = tiny("32s", input_shape=(None, None, channels))
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    image = images(1, 2, 2, channels)
    mean, grey = (104.00698793, 116.66876762, 122.67891434), 114.45155662
    expected = image - grey
    if channels >= 3:
        expected[..., :3] = image[..., [2, 1, 0]] - np.float32(mean)
    np.testing.assert_allclose(normalized(image), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("8s", {"padding": "valid"}, "padding must be one of authors, same, got 'valid'"),
        ("8s", {"upsampling": "bilinear"}, "upsampling must be one of fixed, learned, cvpr15, got 'bilinear'"),
        ("32s", {"upsampling": "cvpr15"}, "upsampling must be one of fixed, learned, got 'cvpr15'"),
        ("alexnet", {"upsampling": "cvpr15"}, "upsampling must be one of fixed, learned, got 'cvpr15'"),
        ("32s", {"width": 1 / 100}, "width must make 64"),
    ],
)
def test_an_illegal_option_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        BUILDERS[name](2, **options)


@functools.cache
def thin_alexnet():
    image = keras.Input((None, None, 3))
    return keras.Model(image, alexnet(image, width=1 / 16))


class TestAlexNet:
    @pytest.mark.parametrize("size", [67, 227, *range(80, 96)])
    def test_sizes_at_every_rounding(self, size):
        expected, side = [], (size - 11) // 4 + 1
        for _ in range(3):
            side = -(-(side - 3) // 2) + 1
            expected.append(side)
        found = thin_alexnet()(images(1, size, size, 3))
        assert list(found) == ["pool1", "pool2", "pool5"]
        assert [x.shape[1] for x in found.values()] == expected

    @pytest.mark.parametrize("size", [75, 79])  # conv1 gives 17 x 17 and 18 x 18
    def test_pooling_as_caffe_does(self, size):
        model = thin_alexnet()
        taps = keras.Model(model.input, [model.get_layer("relu1").output, model.output["pool1"]])
        before, after = (x.numpy() for x in taps(images(1, size, size, 3)))
        n = before.shape[1]
        for i, j in np.ndindex(after.shape[1:3]):
            window = before[0, 2 * i : min(2 * i + 3, n), 2 * j : min(2 * j + 3, n)]
            np.testing.assert_array_equal(after[0, i, j], window.max((0, 1)))

    def test_groups_and_order(self, zero_weights):
        image = keras.Input((None, None, 3))
        with zero_weights():
            model = keras.Model(image, alexnet(image)["pool5"])
        kernels = {x.name: tuple(x.kernel.shape) for x in model.layers if isinstance(x, AtrousConv2D)}
        assert kernels == {
            "conv1": (11, 11, 3, 96),
            "conv2": (5, 5, 48, 256),
            "conv3": (3, 3, 256, 384),
            "conv4": (3, 3, 192, 384),
            "conv5": (3, 3, 192, 256),
        }
        names = [x.name for x in model.layers]
        assert names.index("pool1") + 1 == names.index("norm1") == names.index("conv2") - 1


def test_shift_and_stitch_is_a_stride_of_one_with_dilation():
    """Pooling at every pixel and dilating what follows gives what f² shifted images give, interlaced."""
    image = images(1, 21, 23, 2)
    conv = keras.layers.Conv2D(4, 3)
    coarse = keras.Sequential([keras.Input((None, None, 2)), keras.layers.MaxPooling2D(2), conv])
    dense = keras.Sequential(
        [keras.Input((None, None, 2)), keras.layers.MaxPooling2D(2, 1), AtrousConv2D(4, 3, dilation_rate=2)]
    )
    dense.set_weights(coarse.get_weights())
    expected = dense(image).numpy()
    stitched = np.zeros_like(expected)
    for i, j in np.ndindex(2, 2):
        part = coarse(image[:, i:, j:]).numpy()
        stitched[:, i::2, j::2] = part
    np.testing.assert_allclose(stitched, expected, atol=1e-3)
