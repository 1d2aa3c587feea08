"""Layers against independent computations, under graph, mixed precision and saving."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from kerasseg import layers
from kerasseg.layers import (
    ASPP,
    AtrousConv2D,
    AtrousSeparableConv2D,
    AttentionGate,
    AverageProbabilities,
    BatchNorm,
    BilinearConv2DTranspose,
    CropLike,
    LegalInputSize,
    LocalResponseNorm,
    MaxPoolWithIndices2D,
    MaxUnpool2D,
    MaxUnpoolWithIndices2D,
    MergeClasses,
    MonteCarloDropout,
    Normalize,
    Resize,
    Scale,
    StandardizeImage,
    dilated_conv2d,
    forward_only,
    make_norm,
)

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


EXAMPLES = {
    "ASPP": (lambda: ASPP(8, (1, 2)), (None, None, 4)),
    "AtrousConv2D": (lambda: AtrousConv2D(4, 3, padding="same", dilation_rate=2), (None, None, 3)),
    "AtrousSeparableConv2D": (lambda: AtrousSeparableConv2D(4, rate=2), (None, None, 3)),
    "AttentionGate": (lambda: AttentionGate(4, 3), [(None, None, 5), (None, None, 6)]),
    "AverageProbabilities": (lambda: AverageProbabilities(), [(None, None, 3), (None, None, 3)]),
    "BatchNorm": (lambda: BatchNorm(momentum=0.5), (None, None, 3)),
    "BilinearConv2DTranspose": (lambda: BilinearConv2DTranspose(4, 2, learned=True, use_bias=True), (None, None, 3)),
    "CropLike": (lambda: CropLike(offset=1), [(None, None, 3), (None, None, 2)]),
    "LegalInputSize": (lambda: LegalInputSize(4, 2, 10), (None, None, 3)),
    "LocalResponseNorm": (lambda: LocalResponseNorm(3), (None, None, 8)),
    "MaxPoolWithIndices2D": (lambda: MaxPoolWithIndices2D(3), (None, None, 3)),
    "MaxUnpool2D": (lambda: MaxUnpool2D(), [(None, None, 3), (None, None, 3)]),
    "MaxUnpoolWithIndices2D": (lambda: MaxUnpoolWithIndices2D(), [(None, None, 3)] * 3),
    "MergeClasses": (lambda: MergeClasses([[0], [2, 1]]), (None, None, 4)),
    "MonteCarloDropout": (lambda: MonteCarloDropout(0.3, sampling=True), (None, None, 3)),
    "Normalize": (lambda: Normalize((1.0, 2.0, 3.0), 2.0, bgr=True), (None, None, 3)),
    "Resize": (lambda: Resize(scale=2), (None, None, 3)),
    "Scale": (lambda: Scale(0.01), (None, None, 3)),
    "StandardizeImage": (lambda: StandardizeImage(0.5), (None, None, 3)),
}


# Height and width of the two tensors that a layer of lists is called with; others get one of 10 x 10.
SIDES = {
    "AttentionGate": [(10, 7), (5, 4)],
    "AverageProbabilities": [(4, 5), (4, 5)],
    "CropLike": [(10, 10), (7, 6)],
    "MaxUnpool2D": [(4, 5), (7, 10)],
    "MaxUnpoolWithIndices2D": [(4, 5), (4, 5), (7, 10)],
}


def sizes_of(name, shapes):
    """Returns concrete shapes to call an example with."""
    if isinstance(shapes, list):
        return [(2, *sides, shape[-1]) for sides, shape in zip(SIDES[name], shapes, strict=True)]
    return (2, 10, 10, shapes[-1])


def call_on(layer, sizes):
    """Calls a layer on numbers >= 0: they may be taken for indices."""
    return layer([abs(floats(*size)) for size in sizes] if isinstance(sizes, list) else abs(floats(*sizes)))


def shapes_of(value):
    return [tuple(v.shape) for v in value] if isinstance(value, (list, tuple)) else tuple(value.shape)


def test_every_layer_has_an_example():
    public = {name: getattr(layers, name) for name in layers.__all__}
    classes = {name for name, value in public.items() if isinstance(value, type)}
    assert set(EXAMPLES) == {name for name in classes if issubclass(public[name], keras.layers.Layer)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_layer_contract(name, tmp_path):
    """Unknown sizes, output shape, configuration, mixed precision and saving."""
    make, shapes = EXAMPLES[name]
    inputs = [keras.Input(s) for s in shapes] if isinstance(shapes, list) else keras.Input(shapes)
    model = keras.Model(inputs, make()(inputs))
    sizes = sizes_of(name, shapes)
    value = call_on(model, sizes)
    assert shapes_of(value) == make().compute_output_shape(sizes)
    layer = make()
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    model.save(tmp_path / "layer.keras")
    loaded = keras.models.load_model(tmp_path / "layer.keras")
    for one, two in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    half = type(make()).from_config({**make().get_config(), "dtype": "mixed_bfloat16"})
    value = call_on(half, sizes)
    assert (value[0] if isinstance(value, list) else value).dtype == tf.bfloat16


class TestAtrousConv2D:
    @pytest.mark.parametrize("rate", [1, 2, 5, 12])
    @pytest.mark.parametrize("padding", ["same", "valid"])
    def test_equals_space_to_batch(self, rate, padding):
        image = floats(2, 27, 30, 3)
        ours = AtrousConv2D(4, 3, padding=padding, dilation_rate=rate, bias_initializer="ones", activation="relu")
        keras_own = keras.layers.Conv2D(4, 3, padding=padding, dilation_rate=rate, activation="relu")
        ours.build(image.shape)
        keras_own.build(image.shape)
        keras_own.set_weights(ours.get_weights())
        np.testing.assert_allclose(ours(image), keras_own(image), atol=1e-5)

    def test_equals_a_sum_over_nine_shifts(self):
        image, rate = floats(1, 9, 11, 2), 3
        layer = AtrousConv2D(5, 3, padding="same", dilation_rate=rate, use_bias=False)
        result = layer(image).numpy()
        padded = np.pad(image, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
        kernel = layer.get_weights()[0]
        expected = sum(
            padded[:, i * rate : i * rate + 9, j * rate : j * rate + 11] @ kernel[i, j]
            for i in range(3)
            for j in range(3)
        )
        np.testing.assert_allclose(result, expected, atol=1e-5)

    @pytest.mark.parametrize("rate", [1, 2])
    def test_groups_equal_a_convolution_of_each_part(self, rate):
        image = tf.constant(floats(2, 9, 8, 6))
        layer = AtrousConv2D(4, 3, padding="same", dilation_rate=rate, groups=2, use_bias=False)
        with tf.GradientTape() as tape:
            tape.watch(image)
            result = layer(image)
        assert tape.gradient(result, image) is not None
        kernel = layer.get_weights()[0]
        assert kernel.shape == (3, 3, 3, 4)
        for part in range(2):
            alone = keras.layers.Conv2D(2, 3, padding="same", dilation_rate=rate, use_bias=False)
            alone.build((None, None, None, 3))
            alone.set_weights([kernel[..., 2 * part : 2 * part + 2]])
            expected = alone(image[..., 3 * part : 3 * part + 3])
            np.testing.assert_allclose(result[..., 2 * part : 2 * part + 2], expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("rates", "size", "padding"),
        [
            ((2, 2), (3, 3), "SAME"),
            ((12, 9), (3, 3), "SAME"),  # all taps but the middle one read padding only
            ((7, 5), (3, 3), ((3, 6), (5, 4))),
            ((2, 3), (3, 2), "VALID"),
            ((3, 2), (2, 4), "SAME"),
            ((3, 1), (2, 3), ((3, 0), (1, 1))),
            ((2, 2), (1, 1), "SAME"),
        ],
    )
    @pytest.mark.parametrize("known", [False, True])
    def test_values_and_gradients_against_shifted_products(self, known, rates, size, padding):
        """Against a sum of shifted matrix products, differentiated by TensorFlow, once and twice."""
        reach = [(taps - 1) * rate for taps, rate in zip(size, rates, strict=True)]
        pads = {"SAME": [(r // 2, r - r // 2) for r in reach], "VALID": [(0, 0)] * 2}.get(padding, padding)
        sides = [n + sum(pad) - r for n, pad, r in zip((9, 8), pads, reach, strict=True)]
        image, kernel, upstream = (
            tf.constant(floats(*shape)) for shape in ((2, 9, 8, 3), (*size, 3, 2), (2, *sides, 2))
        )

        def shifted(image, kernel, *_):
            padded = tf.pad(image, [(0, 0), *pads, (0, 0)])
            rows, columns = sides
            return tf.add_n(
                tf.matmul(padded[:, i * rates[0] :, j * rates[1] :][:, :rows, :columns], kernel[i, j])
                for i, j in np.ndindex(*size)
            )

        specs = [tf.TensorSpec(image.shape if known else (None, None, None, 3)), tf.TensorSpec(kernel.shape)]

        def all_gradients(convolve):
            def compute(image, kernel):
                with tf.GradientTape(persistent=True) as outer:
                    outer.watch([image, kernel])
                    with tf.GradientTape() as inner:
                        inner.watch([image, kernel])
                        result = tf.sin(convolve(image, kernel, rates, padding))
                    first = inner.gradient(result, [image, kernel], upstream)
                    total = tf.reduce_sum(tf.square(first[0])) + tf.reduce_sum(tf.square(first[1]))
                return result, *first, *outer.gradient(total, [image, kernel])

            return compute

        traced = tf.function(all_gradients(dilated_conv2d), input_signature=specs, autograph=False)
        for ours, expected in zip(traced(image, kernel), all_gradients(shifted)(image, kernel), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())

    def test_neither_pass_cuts_the_image_up(self):
        layer = AtrousConv2D(4, 3, padding="same", dilation_rate=6)
        layer.build((None, 20, 20, 3))

        def operations(function):
            graph = tf.function(function).get_concrete_function(tf.TensorSpec((1, 20, 20, 3))).graph
            return collections.Counter(operation.type for operation in graph.get_operations())

        def gradient(image):
            with tf.GradientTape() as tape:
                tape.watch(image)
                total = tf.reduce_sum(layer(image))
            return tape.gradient(total, [image, *layer.trainable_weights])

        assert operations(gradient)["Conv2D"] == 2
        assert not {name for name in operations(gradient) if "SpaceToBatch" in name}
        with forward_only():
            inference = operations(layer)
        assert inference["Conv2D"] == 1
        assert not {"IdentityN", "SpaceToBatchND"} & set(inference)
        assert operations(layer)["IdentityN"] == 1  # The gradient again, once `forward_only` has ended.

    def test_trains_in_bfloat16_and_is_saved_by_tensorflow(self, tmp_path):
        image = tf.constant(floats(1, 9, 9, 2))
        layer = AtrousConv2D(3, 3, padding="same", dilation_rate=2, dtype="mixed_bfloat16")
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.cast(layer(image), tf.float32) ** 2)
        kernel = tape.gradient(total, layer.trainable_weights)[0]
        exact = AtrousConv2D(3, 3, padding="same", dilation_rate=2)
        exact.build(image.shape)
        exact.set_weights(layer.get_weights())
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(exact(image) ** 2)
        expected = tape.gradient(total, exact.trainable_weights)[0]
        np.testing.assert_allclose(kernel, expected, atol=0.03 * np.abs(expected).max())

        model = keras.Sequential([keras.Input((None, None, 2)), exact])
        tf.saved_model.save(model, str(tmp_path))
        loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
        np.testing.assert_allclose(next(iter(loaded(image).values())), exact(image), atol=1e-6)


class TestAtrousSeparableConv2D:
    @staticmethod
    def randomised(layer, shape):
        layer.build(shape)
        layer.set_weights([RNG.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        return layer

    @pytest.mark.parametrize("relu", ["after", "before"])
    @pytest.mark.parametrize(("rate", "strides"), [(1, 1), (2, 1), (5, 1), (1, 2)])
    def test_against_numpy(self, rate, strides, relu):
        """A sum over nine shifts, normalised, then a matrix product, normalised; every other place where strided."""
        image = floats(2, 10, 13, 3)
        layer = self.randomised(AtrousSeparableConv2D(4, rate, strides, relu), image.shape)
        result = layer(image, training=False)
        rectify = (lambda x: np.maximum(x, 0)) if relu == "after" else (lambda x: x)
        x = image if relu == "after" else np.maximum(image, 0)
        padded = np.pad(x, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
        kernel = layer.depthwise.get_weights()[0][..., 0]
        x = sum(
            padded[:, i * rate : i * rate + 10, j * rate : j * rate + 13] * kernel[i, j]
            for i in range(3)
            for j in range(3)
        )[:, ::strides, ::strides]
        for kernel, norm in ((np.eye(3), layer.norms[0]), (layer.pointwise.get_weights()[0][0, 0], layer.norms[1])):
            gamma, beta, mean, variance = norm.get_weights()
            x = rectify((x @ kernel - mean) / np.sqrt(variance + 1e-5) * gamma + beta)
        np.testing.assert_allclose(result, x, rtol=1e-4, atol=1e-5)
        assert layer.compute_output_shape(image.shape) == result.shape

    @pytest.mark.parametrize("rate", [1, 2, 6])
    def test_gradient_against_shifts(self, rate):
        """TensorFlow's native dilation would pass the test above, and has the wrong gradient."""
        image, upstream = tf.constant(floats(2, 10, 13, 3)), floats(2, 10, 13, 3)
        depthwise = self.randomised(AtrousSeparableConv2D(4, rate), image.shape).depthwise
        kernel = tf.Variable(depthwise.get_weights()[0])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(image)
            ours = tf.reduce_sum(depthwise(image) * upstream)
            padded = tf.pad(image, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
            shifted = [
                padded[:, i * rate : i * rate + 10, j * rate : j * rate + 13] * kernel[i, j, :, 0]
                for i in range(3)
                for j in range(3)
            ]
            theirs = tf.reduce_sum(tf.add_n(shifted) * upstream)
        np.testing.assert_allclose(tape.gradient(ours, image), tape.gradient(theirs, image), atol=1e-4)
        ours, theirs = tape.gradient(ours, depthwise.weights[0]), tape.gradient(theirs, kernel)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)

    def test_kernels_begin_as_in_the_release(self):
        layer = AtrousSeparableConv2D(256)
        layer.build((None, None, None, 256))
        # A normal distribution cut at two standard deviations has 0.88 of its deviation.
        assert np.std(layer.depthwise.get_weights()[0]) == pytest.approx(0.88 * 0.33, rel=0.05)
        assert np.std(layer.pointwise.get_weights()[0]) == pytest.approx(0.88 * 0.06, rel=0.05)

    def test_connected_form(self):
        """As one layer, and as layers of the model: the same."""
        x = floats(2, 9, 9, 4)
        layer = self.randomised(AtrousSeparableConv2D(8, 2, name="conv"), x.shape)
        inputs = keras.Input((9, 9, 4))
        flat = AtrousSeparableConv2D(8, 2, name="conv")
        model = keras.Model(inputs, flat.connect(inputs))
        for one, two in zip(*([s.depthwise, s.pointwise, *s.norms] for s in (layer, flat)), strict=True):
            two.set_weights(one.get_weights())
        np.testing.assert_allclose(model(x, training=False), layer(x, training=False), atol=1e-6)
        parts = ("depthwise", "depthwise_norm", "depthwise_relu", "pointwise", "pointwise_norm", "pointwise_relu")
        assert [x.name for x in model.layers[1:]] == [f"conv_{part}" for part in parts]

    def test_illegal_options(self):
        with pytest.raises(ValueError, match="relu must be one of after, before, got 'both'"):
            AtrousSeparableConv2D(4, relu="both")
        with pytest.raises(ValueError, match="not both, got rate 2 and strides 2"):
            AtrousSeparableConv2D(4, rate=2, strides=2)


class TestBatchNorm:
    def test_training_against_numpy(self):
        x = floats(3, 5, 4, 2) * 3 + 1
        layer = BatchNorm(momentum=0.9, epsilon=1e-3, beta_initializer="ones")
        y = layer(x, training=True).numpy()
        mean, variance, n = x.mean((0, 1, 2)), x.var((0, 1, 2)), x[..., 0].size
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3) + 1, atol=1e-5)
        np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, atol=1e-6)
        np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance * n / (n - 1), atol=1e-6)

    def test_inference_against_numpy(self):
        x = floats(2, 3, 3, 2)
        layer = BatchNorm(epsilon=1e-3)
        layer.build(x.shape)
        gamma, beta, mean, variance = values = [np.array(v, np.float32) for v in ([1, 2], [3, 4], [5, 6], [7, 8])]
        layer.set_weights(values)
        expected = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)
        layer.trainable = False
        np.testing.assert_allclose(layer(x, training=True), expected, atol=1e-5)

    def test_a_batch_of_one_value_gives_beta(self):
        """The image-level branch of the pyramid, with one image."""
        layer = BatchNorm(beta_initializer="ones")
        np.testing.assert_allclose(layer(floats(1, 1, 1, 3), training=True), np.ones((1, 1, 1, 3)), atol=1e-6)
        assert np.isfinite(layer.moving_variance).all()

    def test_gradient_equals_that_of_keras(self):
        x = tf.constant(floats(2, 4, 4, 3))
        gradients = []
        for layer in (BatchNorm(), keras.layers.BatchNormalization()):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(tf.sin(layer(x, training=True)))
            gradients.append(tape.gradient(total, x))
        np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-5)

    def test_without_scale_and_shift(self):
        x = floats(2, 4, 4, 3)
        layer = BatchNorm(scale=False, center=False)
        assert abs(float(tf.reduce_mean(layer(x, training=True)))) < 1e-6
        assert len(layer.weights) == 2


class TestResize:
    @pytest.mark.parametrize("sampling", ["half_pixel", "legacy", "align_corners"])
    @pytest.mark.parametrize(("n", "m"), [(5, 13), (7, 7), (9, 4), (1, 6), (4, 1)])
    def test_against_numpy(self, sampling, n, m):
        x = floats(1, n, n + 1, 2)
        like = np.zeros((1, m, m + 2, 1), np.float32)
        result = Resize(sampling=sampling)([x, like])
        expected = _resize(_resize(x, m, 1, sampling), m + 2, 2, sampling)
        np.testing.assert_allclose(result, expected, atol=1e-5)

    def test_scale(self):
        x = floats(2, 5, 6, 1)
        expected = _resize(_resize(x, 15, 1, "half_pixel"), 18, 2, "half_pixel")
        np.testing.assert_allclose(Resize(scale=3)(x), expected, atol=1e-5)

    def test_unknown_sampling(self):
        with pytest.raises(ValueError, match="sampling must be one of half_pixel, legacy, align_corners, got 'cubic'"):
            Resize(sampling="cubic")


def _resize(x, m, axis, sampling):
    """Interpolates one axis linearly at the places that the sampling says, clamped to the input."""
    n, i = x.shape[axis], np.arange(m)
    at = {
        "half_pixel": (i + 0.5) * n / m - 0.5,
        "legacy": i * n / m,
        "align_corners": i * (n - 1) / max(m - 1, 1),
    }[sampling]
    at = np.clip(at, 0, n - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, n - 1)
    weight = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
    return np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight


class TestNormalize:
    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_bgr(self, channels):
        image = floats(1, 2, 2, channels)
        mean = tuple(float(c) for c in range(channels))
        expected = image - np.float32(mean)
        if channels >= 3:
            expected = expected[..., [2, 1, 0, *range(3, channels)]]
        np.testing.assert_allclose(Normalize(mean, bgr=True)(image), expected, atol=1e-6)


class TestBilinearConv2DTranspose:
    @pytest.mark.parametrize(
        ("size", "stride", "rising"),
        [(4, 2, [1 / 4, 3 / 4]), *((k, k // 2, [(2 * i + 1) / k for i in range(k // 2)]) for k in (16, 32, 64))]
        + [(63, 32, [(i + 1) / 32 for i in range(32)])],
    )
    def test_kernel(self, size, stride, rising):
        layer = BilinearConv2DTranspose(size, stride)
        layer.build((None, None, None, 2))
        (kernel,) = layer.get_weights()
        taps = np.array(rising + rising[::-1][size % 2 :])
        assert kernel.shape == (size, size, 2, 2)
        np.testing.assert_allclose(kernel[..., 0, 0], np.outer(taps, taps), atol=1e-6)
        np.testing.assert_array_equal(kernel[..., 1, 1], kernel[..., 0, 0])
        assert not kernel[..., 0, 1].any()
        assert not kernel[..., 1, 0].any()
        for phase in range(stride):  # each output pixel adds the taps of its phase
            assert taps[phase::stride].sum() == pytest.approx(1)

    @pytest.mark.parametrize("stride", [2, 8, 16, 32])
    def test_a_constant_map_stays_so_but_for_the_outer_ring(self, stride):
        ring = stride // 2
        result = BilinearConv2DTranspose(2 * stride, stride)(np.full((1, 3, 4, 2), 5, np.float32)).numpy()
        assert result.shape == (1, 4 * stride, 5 * stride, 2)
        inner = result[:, 2 * ring : -2 * ring, 2 * ring : -2 * ring]
        np.testing.assert_allclose(inner, 5, rtol=1e-6)
        same = BilinearConv2DTranspose(2 * stride, stride, "same")(np.full((1, 3, 4, 2), 5, np.float32)).numpy()
        np.testing.assert_allclose(same[:, ring:-ring, ring:-ring], 5, rtol=1e-6)
        assert (same[:, :ring] < 5).all()

    @pytest.mark.parametrize("stride", [2, 8, 16, 32])
    def test_same_is_valid_cropped_and_bilinear_inside(self, stride):
        x, ring = floats(2, 4, 5, 3), stride // 2
        valid = BilinearConv2DTranspose(2 * stride, stride)(x).numpy()
        same = BilinearConv2DTranspose(2 * stride, stride, "same")(x).numpy()
        np.testing.assert_allclose(same, valid[:, ring:-ring, ring:-ring], atol=1e-6)
        resized = Resize(scale=stride)(x).numpy()
        np.testing.assert_allclose(same[:, ring:-ring, ring:-ring], resized[:, ring:-ring, ring:-ring], atol=1e-5)

    @pytest.mark.parametrize("padding", ["valid", "same"])
    @pytest.mark.parametrize(("size", "stride"), [(4, 2), (7, 4), (5, 5)])
    def test_any_kernel_against_a_loop(self, padding, size, stride):
        """Weights that mix the classes and a bias, as learned ones do; also in the fixed form."""
        x, kernel, bias = floats(2, 3, 4, 3), floats(size, size, 3, 3), floats(3)
        layer = BilinearConv2DTranspose(size, stride, padding, use_bias=True)
        layer.build(x.shape)
        layer.set_weights([kernel, bias])
        expected = np.zeros((2, 2 * stride + size, 3 * stride + size, 3), np.float32)
        for i, j in np.ndindex(3, 4):
            part = np.einsum("bi,hwoi->bhwo", x[:, i, j], kernel)
            expected[:, i * stride : i * stride + size, j * stride : j * stride + size] += part
        if padding == "same":
            first = (size - stride) // 2
            expected = expected[:, first : first + 3 * stride, first : first + 4 * stride]
        np.testing.assert_allclose(layer(x), expected + bias, atol=1e-5)

    def test_a_fixed_kernel_stays_fixed(self):
        for learned in (False, True):
            layer = BilinearConv2DTranspose(4, 2, learned=learned, use_bias=True)
            layer.build((None, None, None, 2))
            layer.trainable = False
            layer.trainable = True
            assert len(layer.trainable_weights) == 2 * learned
            assert layer.count_params() == 4 * 4 * 2 * 2 + 2

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="padding must be one of valid, same, got 'full'"):
            BilinearConv2DTranspose(4, 2, "full")
        with pytest.raises(ValueError, match="at most kernel_size.*strides=4, kernel_size=2"):
            BilinearConv2DTranspose(2, 4)


def test_local_response_norm_against_a_loop():
    x, size, alpha = floats(1, 3, 2, 7) * 9, 5, 0.3
    result = LocalResponseNorm(size, alpha)(x).numpy()
    for c in range(7):
        near = x[..., max(c - 2, 0) : c + 3]
        expected = x[..., c] / (1 + alpha / size * (near**2).sum(-1)) ** 0.75
        np.testing.assert_allclose(result[..., c], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="size must be odd and at least 1, got 4"):
        LocalResponseNorm(4)


class TestCropLike:
    def test_windows(self):
        x, like = floats(1, 9, 8, 2), floats(1, 4, 4, 1)
        np.testing.assert_array_equal(CropLike()([x, like]), x[:, 2:6, 2:6])
        np.testing.assert_array_equal(CropLike(offset=3)([x, like]), x[:, 3:7, 3:7])

    def test_too_small(self):
        with pytest.raises(ValueError, match=r"cannot crop \(5, 5\) to \(4, 4\) from offset 2: too small"):
            CropLike(offset=2).compute_output_shape([(1, 5, 5, 1), (1, 4, 4, 1)])
        with pytest.raises(ValueError, match="offset must be None or >= 0, got -1"):
            CropLike(offset=-1)


class TestMaxUnpool2D:
    @pytest.mark.parametrize("pool_size", [2, 3])
    @pytest.mark.parametrize("size", [(6, 8), (7, 5), (23, 30)])
    def test_against_a_loop_over_windows_with_ties(self, size, pool_size):
        """Values and gradient, on whole numbers of which many windows hold the largest more than once."""
        pooled_from = RNG.integers(0, 3, (2, *size, 3)).astype(np.float32)
        values = floats(2, *(-(-side // pool_size) for side in size), 3)
        places = list(_first_maxima(pooled_from, pool_size))
        expected = np.zeros_like(pooled_from)
        for pooled, source in places:
            expected[source] = values[pooled]
        upstream, tensor = floats(*expected.shape), tf.constant(values)
        gradient = np.zeros_like(values)
        for pooled, source in places:
            gradient[pooled] = upstream[source]
        # In training, windows of 2 have a gradient of their own; the registered one is what the others have.
        for training in (False, True):
            with tf.GradientTape() as tape:
                tape.watch(tensor)
                result = MaxUnpool2D(pool_size)([tensor, pooled_from], training=training)
                total = tf.reduce_sum(result * upstream)
            np.testing.assert_array_equal(result, expected)
            np.testing.assert_array_equal(tape.gradient(total, tensor), gradient)

    def test_what_was_pooled_gets_its_gradient_from_the_pooling_alone(self):
        """In a model of unknown sizes, in a graph and in 16 bits; the gradient of the maxima's places is zero."""
        inputs, values = keras.Input((None, None, 3)), keras.Input((None, None, 3))
        pooled = keras.layers.MaxPooling2D(2, padding="same")(inputs)
        unpooled = MaxUnpool2D(dtype="mixed_bfloat16")([values, inputs])
        model = keras.Model([inputs, values], [pooled, unpooled])

        @tf.function
        def gradients(*arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                pooled, unpooled = model(arrays, training=True)
                total = tf.reduce_sum(2 * pooled) + tf.reduce_sum(3 * tf.cast(unpooled, tf.float32))
            return tape.gradient(total, arrays)

        image = RNG.integers(0, 3, (2, 7, 8, 3)).astype(np.float32)
        expected = np.zeros_like(image)
        for _, source in _first_maxima(image, 2):
            expected[source] = 2
        of_image, of_values = gradients(tf.constant(image), tf.constant(floats(2, 4, 4, 3)))
        np.testing.assert_array_equal(of_image, expected)
        np.testing.assert_array_equal(of_values, np.full((2, 4, 4, 3), 3))

    def test_undoes_the_pooling_at_the_maxima(self):
        image = floats(1, 9, 7, 2)
        pooled = keras.layers.MaxPooling2D(2, padding="same")(image)
        unpooled = MaxUnpool2D()([pooled, image]).numpy()
        np.testing.assert_array_equal(unpooled[unpooled != 0], image[unpooled != 0])
        np.testing.assert_array_equal(np.count_nonzero(unpooled), np.size(pooled))

    def test_sizes_that_do_not_belong_together(self):
        with pytest.raises(ValueError, match=r"values of \(3, 4\) do not come from a 2x2 pooling of \(7, 7\)"):
            MaxUnpool2D().compute_output_shape([(1, 3, 4, 1), (1, 7, 7, 1)])
        with pytest.raises(ValueError, match="pool_size must be at least 1, got 0"):
            MaxUnpool2D(0)


class TestMaxUnpoolWithIndices2D:
    @pytest.mark.parametrize("pool_size", [2, 3])
    @pytest.mark.parametrize("size", [(6, 8), (7, 5), (23, 30)])
    def test_equals_unpooling_by_the_tensor_itself(self, size, pool_size):
        """Values and gradient, with ties; and the indices are those of a loop over the windows."""
        image = RNG.integers(-1, 2, (2, *size, 3)).astype(np.float32)
        pooled, indices = MaxPoolWithIndices2D(pool_size)(image)
        np.testing.assert_array_equal(pooled, keras.layers.MaxPooling2D(pool_size, padding="same")(image))
        assert indices.dtype == tf.int64
        for place, (_, y, x, c) in _first_maxima(image, pool_size):
            assert indices[place] == (y * size[1] + x) * 3 + c
        values, upstream = tf.constant(floats(*pooled.shape)), floats(*image.shape)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            one = MaxUnpoolWithIndices2D()([values, indices, image])
            two = MaxUnpool2D(pool_size)([values, image])
            totals = [tf.reduce_sum(result * upstream) for result in (one, two)]
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(*(tape.gradient(total, values) for total in totals))

    def test_an_image_does_not_depend_on_the_others_of_its_batch(self):
        image = floats(3, 7, 5, 2)
        pool, unpool = MaxPoolWithIndices2D(), MaxUnpoolWithIndices2D()
        together, together_indices = pool(image)
        alone, alone_indices = pool(image[1:2])
        np.testing.assert_array_equal(together_indices[1:2], alone_indices)
        expected = unpool([alone, alone_indices, image[1:2]])
        np.testing.assert_array_equal(unpool([together, together_indices, image])[1:2], expected)

    def test_in_a_model_of_unknown_sizes(self):
        """Indices are whole numbers there too; `like` may have other channels."""
        inputs = keras.Input((None, None, 2))
        pooled, indices = MaxPoolWithIndices2D()(inputs)
        assert indices.dtype in ("int64", tf.int64)
        outer = keras.layers.Conv2D(5, 3, padding="same")(inputs)
        model = keras.Model(inputs, MaxUnpoolWithIndices2D()([pooled, indices, outer]))
        image = floats(2, 9, 4, 2)
        np.testing.assert_array_equal(model(image), MaxUnpool2D()([MaxPoolWithIndices2D()(image)[0], image]))

    def test_what_does_not_belong_together(self):
        with pytest.raises(ValueError, match="expected an index for each value"):
            MaxUnpoolWithIndices2D().compute_output_shape([(1, 3, 4, 1), (1, 4, 4, 1), (1, 7, 7, 1)])
        with pytest.raises(ValueError, match="pool_size must be at least 1, got 0"):
            MaxPoolWithIndices2D(0)


def _first_maxima(image, p):
    """Yields, for each pooling window, its place in the pooled map and that of its first maximum in the image."""
    for b, i, j, c in np.ndindex(len(image), -(-image.shape[1] // p), -(-image.shape[2] // p), image.shape[3]):
        window = image[b, _start(i, p, image.shape[1]) : _stop(i, p, image.shape[1])]
        window = window[:, _start(j, p, image.shape[2]) : _stop(j, p, image.shape[2]), c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        yield (b, i, j, c), (b, _start(i, p, image.shape[1]) + row, _start(j, p, image.shape[2]) + column, c)


def _start(i, p, n):
    return max(i * p - (-n % p) // 2, 0)  # "same" shares the missing pixels among both ends, the odd one at the end


def _stop(i, p, n):
    return min((i + 1) * p - (-n % p) // 2, n)


class TestLegalInputSize:
    def test_unknown_sizes_are_checked_when_the_graph_runs(self):
        layer = LegalInputSize(16, 60, 188)
        function = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 1))])
        assert function(np.zeros((1, 572, 188, 1), np.float32)).shape == (1, 572, 188, 1)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="(?s)illegal width.*573.*expected 16.k . 60, at least 188"
        ):
            function(np.zeros((1, 572, 573, 1), np.float32))


class TestAttentionGate:
    @pytest.mark.parametrize(("size", "coarse"), [((8, 6), (4, 3)), ((7, 9), (4, 5)), ((5, 8), (2, 1))])
    def test_against_numpy(self, size, coarse):
        skip, gating = floats(2, *size, 3), floats(2, *coarse, 4)
        gate = AttentionGate(5, 6, epsilon=1e-3)
        gate.build([skip.shape, gating.shape])
        for w in gate.weights:  # Variances as well, hence positive.
            w.assign(RNG.uniform(0.1, 1, w.shape) - (0 if "variance" in w.name else 0.5))
        theta, phi, psi, out = (conv.get_weights() for conv in (gate.theta, gate.phi, gate.psi, gate.output_conv))
        even = np.pad(skip, [(0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)])
        compared = sum(even[:, i::2, j::2] @ theta[0][i, j] for i in (0, 1) for j in (0, 1))
        steered = gating @ phi[0][0, 0] + phi[1]
        for axis in (1, 2):
            steered = _resize(steered, compared.shape[axis], axis, "half_pixel")
        attention = 1 / (1 + np.exp(-(np.maximum(compared + steered, 0) @ psi[0][0, 0] + psi[1])))
        for axis in (1, 2):
            attention = _resize(attention, skip.shape[axis], axis, "half_pixel")
        gamma, beta, mean, variance = gate.output_norm.get_weights()
        expected = ((attention * skip) @ out[0][0, 0] + out[1] - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        np.testing.assert_allclose(gate([skip, gating], training=False), expected, atol=1e-5)

    def test_equals_its_connected_form_whose_map_can_be_tapped(self):
        skip, gating = floats(1, 9, 8, 3), floats(1, 5, 4, 2)
        inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 2))]
        gate, flat = AttentionGate(3), AttentionGate(3, name="gate")
        result = gate([skip, gating])
        connected = keras.Model(inputs, flat.connect(inputs))
        for part in ("theta", "phi", "psi", "output_conv"):
            getattr(flat, part).set_weights(getattr(gate, part).get_weights())
        np.testing.assert_allclose(connected([skip, gating]), result, atol=1e-6)
        attention = keras.Model(inputs, connected.get_layer("gate_map").output)([skip, gating]).numpy()
        assert attention.shape == (1, 9, 8, 1)
        assert 0 < attention.min() < attention.max() < 1


class TestAverageProbabilities:
    def test_softmax_against_numpy(self):
        heads = [3 * floats(2, 4, 5, 3) for _ in range(4)]
        expected = np.mean([_softmax(head) for head in heads], axis=0)
        result = AverageProbabilities()(heads).numpy()
        np.testing.assert_allclose(np.exp(result), expected, atol=1e-6)
        np.testing.assert_array_equal(result.argmax(-1), expected.argmax(-1))

    def test_sigmoid_of_one_class_against_numpy(self):
        heads = [3 * floats(2, 4, 5, 1) for _ in range(3)]
        expected = np.mean([1 / (1 + np.exp(-head)) for head in heads], axis=0)
        result = AverageProbabilities()(heads).numpy()
        np.testing.assert_allclose(1 / (1 + np.exp(-result)), expected, atol=1e-6)

    @pytest.mark.parametrize("classes", [1, 2])
    def test_certain_heads_stay_finite_with_gradients(self, classes):
        heads = tf.constant([[[[100.0] * classes]], [[[-200.0] * classes]]])[:, None]
        with tf.GradientTape() as tape:
            tape.watch(heads)
            result = AverageProbabilities()(tf.unstack(heads))
        assert np.isfinite(result).all()
        assert np.isfinite(tape.gradient(result, heads)).all()


def _softmax(x):
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


@pytest.mark.parametrize("separable", [False, True])
def test_aspp_layer_equals_its_connected_form(separable):
    """As one layer, and as layers of the model: the same wiring."""
    x = floats(2, 9, 9, 4)
    layer = ASPP(8, (1, 2), separable=separable)
    result = layer(x, training=False)
    inputs = keras.Input((9, 9, 4))
    flat = ASPP(8, (1, 2), separable=separable)
    model = keras.Model(inputs, flat.connect(inputs))
    for one, two in zip(_sublayers(layer), _sublayers(flat), strict=True):
        two.set_weights(one.get_weights())
    np.testing.assert_allclose(model(x, training=False), result, atol=1e-6)
    branch = "aspp_branch2_depthwise" if separable else "aspp_branch2_conv"
    assert {branch, "aspp_pool_norm", "aspp_projection_relu"} <= {x.name for x in model.layers}


def test_a_separable_aspp_has_relu():
    with pytest.raises(ValueError, match='separable needs activation="relu", got None'):
        ASPP(8, separable=True, activation=None)


def _sublayers(aspp):
    separable = [part for conv in aspp.separable_convs for part in (conv.depthwise, conv.pointwise, *conv.norms)]
    return [*aspp.convs, *aspp.norms, *separable]


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (64, 16), (48, 4), (19, 1), (18, 2), (7, 1)])
def test_group_norm_has_a_number_of_groups_that_divides(channels, groups):
    layer = make_norm("group", channels, name="norm", momentum=0.9, epsilon=1e-5)
    assert layer.groups == groups
    assert layer(floats(1, 3, 3, channels)).shape == (1, 3, 3, channels)


def test_merged_classes_have_the_sum_of_the_probabilities():
    logits = 5 * floats(2, 4, 3, 4)
    expected = tf.nn.softmax(logits).numpy()
    merged = tf.nn.softmax(MergeClasses([[3], [0, 2], [1]])(logits)).numpy()
    np.testing.assert_allclose(merged[..., 1], expected[..., 0] + expected[..., 2], rtol=1e-5)
    np.testing.assert_allclose(merged[..., [0, 2]], expected[..., [3, 1]], rtol=1e-5)


@pytest.mark.parametrize("groups", [[], [[0], []], [[0, 1], [1]], [[-1], [0]]])
def test_groups_that_are_no_partition_are_refused(groups):
    with pytest.raises(ValueError, match="none empty, none in two groups"):
        MergeClasses(groups)


def test_groups_beyond_the_logits_are_refused():
    with pytest.raises(ValueError, match="name classes beyond the 2"):
        MergeClasses([[0], [1, 2]])(floats(1, 2, 2, 2))


def test_standardized_images_have_mean_zero_and_deviation_one_but_flat_ones_stay_flat():
    images = 40 * floats(3, 20, 30, 3) + np.array([100, 50, 0]).reshape(3, 1, 1, 1)
    images[2] /= 40
    out = StandardizeImage()(images).numpy()
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out[:2].std((1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(out[2], (images[2] - images[2].mean()) / 8, atol=1e-5)
    np.testing.assert_allclose(StandardizeImage()(images[:1] * 1.5 + 20).numpy(), out[:1], atol=1e-4)
