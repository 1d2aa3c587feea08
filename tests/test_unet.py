"""U-Net's sizes, counts and exactness."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg.losses import CrossEntropy
from kerasseg.models import unet


@functools.cache
def tiny(**options):
    """Returns a network of 2 classes that is shared: nothing may change it."""
    return unet(2, filters=2, **options)


@pytest.mark.parametrize(
    ("channels", "classes", "options", "learned", "total"),
    [
        (1, 2, {}, 31_030_658, 31_030_658),
        (3, 21, {}, 31_033_045, 31_033_045),
        (1, 2, {"batch_norm": True}, 31_042_434, 31_054_210),
        (1, 1, {"padding": "same"}, 31_030_593, 31_030_593),
        (1, 1, {"padding": "same", "variant": "half"}, 7_759_521, 7_759_521),
        (1, 1, {"padding": "same", "variant": "quarter"}, 1_940_817, 1_940_817),
        # The "wide" network that UNet++ is compared with.
        (1, 1, {"padding": "same", "filters": 35}, 9_282_246, 9_282_246),
        (1, 1, {"padding": "same", "filters": 8}, 485_673, 485_673),
        (1, 2, {"variant": "release"}, 31_100_354, 31_100_354),
        (1, 2, {"variant": "bilinear"}, 28_941_698, 28_941_698),
        (1, 2, {"variant": "bilinear", "filters": 32}, 7_237_314, 7_237_314),
        (1, 2, {"variant": "quarter", "upsampling": "bilinear"}, 1_810_274, 1_810_274),
    ],
)
def test_parameter_counts(channels, classes, options, learned, total, zero_weights):
    with zero_weights():
        model = unet(classes, input_shape=(None, None, channels), **options)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == learned
    assert model.count_params() == total


def test_sizes_of_the_paper():
    model = unet(2, input_shape=(None, None, 1), filters=1)
    for size, out in ((188, 4), (204, 20), (572, 388), (700, 516)):
        assert model.compute_output_shape((1, size, size, 1)) == (1, out, out, 2)
    # Figure 1, level by level.
    sides = {"down1_relu2": 568, "down2_relu2": 280, "down3_relu2": 136, "down4_relu2": 64, "bottom_relu2": 28}
    sides |= {"up4_relu2": 52, "up3_relu2": 100, "up2_relu2": 196, "up1_relu2": 388}
    taps = keras.Model(model.input, [model.get_layer(name).output for name in sides])
    shapes = [tuple(x.shape) for x in taps(np.zeros((1, 572, 572, 1), np.float32))]
    assert [shape[1] for shape in shapes] == list(sides.values())
    assert model(np.zeros((1, 188, 204, 1), np.float32)).shape == (1, 4, 20, 2)


def test_crops_of_the_figure():
    """Begin and end of what is kept of each skip connection, read from the graph: 4 to 88 pixels off every border."""
    model = unet(2, input_shape=(572, 572, 1), filters=1)
    function = tf.function(lambda image: model(image, training=False))
    graph = function.get_concrete_function(tf.TensorSpec((1, 572, 572, 1))).graph
    slices = [o for o in graph.get_operations() if o.type == "StridedSlice" and o.outputs[0].shape.rank == 4]
    crops = [
        (tf.get_static_value(o.inputs[1])[1:3].tolist(), o.inputs[0].shape[1] - o.outputs[0].shape[1]) for o in slices
    ]
    assert crops == [([crop, crop], 2 * crop) for crop in (4, 16, 40, 88)]


def test_the_doubled_map_comes_first_in_the_concatenation():
    model = unet(2, filters=4)
    first, second = model.get_layer("up1_concat").input
    assert first is model.get_layer("up1_upconv").output
    assert second is model.get_layer("up1_crop").output


def test_the_up_convolutions_of_the_release():
    model = unet(2, variant="release", filters=2, padding="same")
    for level, channels in ((4, 16), (3, 8), (2, 4), (1, 4)):
        assert model.get_layer(f"up{level}_upconv").filters == channels
        relu = model.get_layer(f"up{level}_upconv_relu")
        assert relu.input is model.get_layer(f"up{level}_upconv").output
        assert model.get_layer(f"up{level}_crop").input[0] is relu.output
    assert not [layer.name for layer in tiny().layers if layer.name.endswith("upconv_relu")]


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_any_number_of_channels(channels):
    """Modalities side by side: each adds its 3x3 kernels to the first convolution, and nothing else."""
    model = unet(2, input_shape=(None, None, channels), filters=2, padding="same")
    one = tiny(input_shape=(None, None, 1), padding="same")
    assert model.count_params() == one.count_params() + (channels - 1) * 9 * 2
    image = np.random.default_rng(0).uniform(0, 255, (1, 19, 32, channels)).astype(np.float32)
    logits = model(image, training=False)
    assert logits.shape == (1, 19, 32, 2)
    image[..., -1] = 0  # The last one is read as well.
    assert np.abs(model(image, training=False) - logits).max() > 1e-6


@pytest.mark.parametrize(
    ("size", "nearest"), [(570, "556 or 572"), (571, "556 or 572"), (187, "188"), (10, "188"), (189, "188 or 204")]
)
def test_an_illegal_size_names_the_nearest_legal_ones(size, nearest):
    for call in (
        lambda: unet(2, filters=2, input_shape=(size, 572, 3)),
        lambda: tiny()(np.zeros((1, size, 188, 3), np.float32)),
        lambda: tiny().compute_output_shape((1, 188, size, 3)),
    ):
        with pytest.raises(ValueError, match=f"{size} is not legal here: .*nearest legal: {nearest}"):
            call()


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_smallest_legal_size_is_the_smallest_that_works(depth):
    """Against the sizes counted through the network by hand."""

    def count(size):
        for _ in range(depth):
            size -= 4
            if size < 2 or size % 2:
                return 0
            size //= 2
        size -= 4
        for _ in range(depth):
            size = 2 * size - 4 if size > 0 else 0
        return max(size, 0)

    model = unet(2, filters=1, depth=depth)
    check = model.get_layer("legal_input_size")
    legal = [size for size in range(1, 500) if count(size)]
    found = [size for size in range(1, 500) if size in check.nearest(size)]
    assert found == legal
    assert model.compute_output_shape((1, legal[0], legal[0], 3))[1] == count(legal[0])
    assert model(np.zeros((1, legal[0], legal[1], 3), np.float32)).shape == (1, count(legal[0]), count(legal[1]), 2)


def test_each_output_pixel_depends_on_the_window_around_it_alone():
    """With valid padding the logits of a part are exactly the part of the logits."""
    keras.utils.set_random_seed(0)
    model = unet(2, filters=4, input_shape=(None, None, 1))
    image = np.random.default_rng(0).uniform(0, 255, (1, 220, 236, 1)).astype(np.float32)
    whole = model(image, training=False).numpy()
    part = model(image[:, 16:204, 32:220], training=False).numpy()
    np.testing.assert_allclose(part, whole[:, 16:20, 32:36], atol=1e-6)


@pytest.mark.parametrize("upsampling", ["transpose", "bilinear"])
def test_same_padding_keeps_any_size(upsampling):
    model = unet(3, filters=2, padding="same", upsampling=upsampling)
    for height, width in ((1, 1), (15, 17), (33, 50), (64, 96)):
        assert model(np.zeros((2, height, width, 3), np.float32)).shape == (2, height, width, 3)


def test_dropout_sits_on_the_two_lowest_levels():
    model = tiny()
    found = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate == 0.5]
    assert found == ["down4_dropout", "bottom_dropout"]
    # The skip connection of level 4 carries the dropped map.
    assert model.get_layer("up4_crop").input[0] is model.get_layer("down4_dropout").output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "wide"}, "variant must be one of paper, bilinear, half, quarter, release, got 'wide'"),
        ({"padding": "full"}, "padding must be one of valid, same, got 'full'"),
        ({"upsampling": "nearest"}, "upsampling must be one of transpose, bilinear, got 'nearest'"),
        ({"depth": 0}, "depth and filters must be at least 1, got depth=0"),
        ({"batch_norm": True, "norm": "layer"}, "norm must be one of"),
    ],
)
def test_an_illegal_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        unet(2, **options)


def test_the_loss_falls_on_the_centre_of_a_whole_mask():
    """A valid-padding network is trained on masks of the image's size."""
    keras.utils.set_random_seed(0)
    model = unet(2, filters=4, depth=2, input_shape=(None, None, 1), dropout=0)
    image = np.random.default_rng(0).uniform(0, 255, (2, 60, 60, 1)).astype(np.float32)
    mask = (image[..., 0] > 128).astype(np.int32)
    model.compile(keras.optimizers.Adam(1e-3), CrossEntropy(), run_eagerly=True)
    losses = [float(model.train_on_batch(image, mask)) for _ in range(10)]
    assert losses[-1] < 0.98 * losses[0]


@pytest.mark.parametrize("size", [(32, 64), (37, 50)])
def test_downscaled_it_is_the_network_on_the_averaged_image(size):
    options = {"input_shape": (None, None, 1), "filters": 4, "depth": 2, "padding": "same", "dropout": 0.0}
    small, large = unet(2, downscale=2, **options), unet(2, **options)
    large.set_weights(small.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, *size, 1)).astype(np.float32)
    halved = tf.nn.avg_pool2d(image, 2, 2, "SAME")
    expected = tf.image.resize(large(halved), size)
    np.testing.assert_allclose(small(image), expected, atol=1e-5)
    with pytest.raises(ValueError, match="1 with valid padding, got 2"):
        unet(2, downscale=2, input_shape=(None, None, 1))


def test_standardized_it_does_not_see_brightness_and_contrast():
    options = {"input_shape": (None, None, 3), "filters": 4, "depth": 2, "padding": "same", "dropout": 0.0}
    model = unet(2, standardize=True, **options)
    image = np.random.default_rng(0).uniform(40, 120, (1, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(model(image), model(image * 1.7 + 9), atol=1e-4)
    assert not np.allclose(unet(2, **options)(image), unet(2, **options)(image * 1.7 + 9), atol=1e-4)
