"""What every builder in `kerasseg.models.__all__` must do. A new network is tested by being listed there."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

import kerasseg.export
import kerasseg.losses
import kerasseg.models
from kerasseg.layers import MaxUnpool2D
from kerasseg.spec import IGNORE_LABEL, centre

# Options that make a network small enough for a test, where its full size is not.
SMALL = {
    "attention_unet": {"filters": 4, "depth": 2},
    "bayesian_segnet": {"width": 1 / 16},
    "deconvnet": {"width": 1 / 16, "momentum": 0.0},
    "deeplab_v3": {"width": 1 / 16},
    "deeplab_v3_cascade": {"backbone": "resnet_v1_50", "width": 1 / 32, "blocks": 5},
    "deeplab_v3_plus": {"backbone": "resnet_v1_50", "width": 1 / 4},
    "fcn_16s": {"width": 1 / 32},
    "fcn_32s": {"width": 1 / 32},
    "fcn_8s": {"width": 1 / 32},
    "fcn_alexnet": {"width": 1 / 16},
    "segnet": {"width": 1 / 16},
    "segnet_basic": {"width": 1 / 8},
    "unet": {"filters": 4},
    "unet_plus_plus": {"filters": 4, "depth": 2},
}
# Further forms of a network that have to keep the contract as well.
FORMS = {
    "attention_unet": [{"deep_supervision": True}],
    "deeplab_v3": [{"variant": "original"}, {"norm": "group"}],
    "fcn_32s": [{"padding": "same", "upsampling": "learned"}],
    "segnet_basic": [{"norm": "none"}],
    "unet": [{"padding": "same", "batch_norm": True}],
    "unet_plus_plus": [{"deep_supervision": True}],
}
# And those that only `make test-slow` tries.
MORE_FORMS = {
    "attention_unet": [{"gates": 2, "norm": "none"}],
    "deeplab_v3": [{"output_stride": 8}, {"norm": "none"}],
    "deeplab_v3_plus": [{"backbone": "mobilenet_v2", "separable": False, "output_stride": 8}],
    "fcn_8s": [{"padding": "same", "upsampling": "cvpr15", "at_once": True}],
    "unet": [{"padding": "same", "variant": "release", "upsampling": "bilinear", "depth": 2}],
    "unet_plus_plus": [{"batch_norm": True}],
}
# Networks whose step is traced here. Tracing takes many times as long as running a step; all are traced in
# test_overfit.py.
TRACED = ("deeplab_v3", "unet")
K = 3


def cases(forms_are_slow=False):
    """Returns every network with each of its forms, its own first."""
    return [
        pytest.param(
            (name, form),
            id="-".join([name, *map(str, form.values())]),
            marks=pytest.mark.slow if form in MORE_FORMS.get(name, []) or (form and forms_are_slow) else (),
        )
        for name in kerasseg.models.__all__
        for form in [{}, *FORMS.get(name, []), *MORE_FORMS.get(name, [])]
    ]


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module", params=cases())
def case(request):
    """A network's name, its form, and the network, built once for all tests; they leave its weights as they were."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    return (*request.param, build(*request.param))


@pytest.fixture
def model(case):
    """The network of `case`, whose weights a test may change."""
    weights = case[2].get_weights()
    yield case[2]
    case[2].set_weights(weights)


def build(name, form, **options):
    """Returns a network; kernels that start at zero have other values, or it would answer zero, as it starts."""
    model = getattr(kerasseg.models, name)(K, **{**SMALL.get(name, {}), **form}, **options)
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if "kernel" in weight.name and not np.any(weight):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def heads(value):
    """Returns the outputs of a model, or their shapes, as a list: some forms have several."""
    return value if isinstance(value, list) else [value]


def legal_size(model, at_least=60):
    """Returns the smallest size that the model takes, found by asking it."""
    for size in range(at_least, at_least + 300):
        try:
            model.compute_output_shape((1, size, size, model.input_shape[-1]))
        except ValueError:
            continue
        return size
    raise AssertionError(f"{model.name} takes no size from {at_least} on")


def example(model, batch=2, size=None, seed=0):
    """Returns an image and a mask with a void border, of a size that the model takes."""
    rng = np.random.default_rng(seed)
    size = size or legal_size(model)
    image = rng.integers(0, 256, (batch, size, size, model.input_shape[-1])).astype(np.float32)
    out = heads(model.compute_output_shape(image.shape))[0][1]
    mask = rng.integers(0, K, (batch, out, out)).astype(np.int32)
    mask[:, 0] = IGNORE_LABEL
    return image, mask


def test_logits_are_float32_and_of_the_published_size(model):
    image, mask = example(model)
    assert model.input.name.startswith("image")
    for logits in heads(model(image, training=False)):
        assert logits.dtype == tf.float32
        assert logits.shape == (*mask.shape, K)
        assert np.isfinite(logits).all()
    assert all(shape == (*mask.shape, K) for shape in heads(model.compute_output_shape(image.shape)))


def test_any_size_that_the_network_admits(case):
    """Other sizes are refused, and the error says which are legal."""
    name, form, model = case
    if None not in model.input_shape[1:3]:
        model = build(name, form, input_shape=(None, None, 3))
    taken = 0
    for height, width in ((77, 61), (188, 204), (65, 98), (224, 256)):
        image = np.zeros((1, height, width, 3), np.float32)
        try:
            expected = model.compute_output_shape(image.shape)
        except ValueError:
            with pytest.raises(ValueError, match="nearest legal: "):
                model(image)
            unknown = tf.function(model).get_concrete_function(tf.TensorSpec((None, None, None, 3)))
            with pytest.raises(tf.errors.InvalidArgumentError, match="illegal height"):
                unknown(tf.constant(image))
            continue
        assert [logits.shape for logits in heads(model(image))] == heads(expected)
        taken += 1
    assert taken


def test_save_and_load(model, tmp_path):
    image, _ = example(model, batch=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, two in zip(heads(loaded(image, training=False)), heads(model(image, training=False)), strict=True):
        np.testing.assert_array_equal(one, two)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


def test_two_steps_of_fit_reach_every_trainable_weight(case, model):
    """Two, because score convolutions that start at zero, as FCN's do, pass no gradient down in the first."""
    name, form, _ = case
    model.set_weights(getattr(kerasseg.models, name)(K, **{**SMALL[name], **form}).get_weights())  # As it starts.
    image, mask = example(model)
    before = [w.numpy() for w in model.trainable_weights]
    losses = [kerasseg.losses.CrossEntropy() for _ in model.outputs]
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)  # Within the step, its variables would make for a second trace.
    model.compile(optimizer, losses, run_eagerly=bool(form) or name not in TRACED)
    history = model.fit(image, [mask] * len(losses), batch_size=2, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    still = [w.name for w, old in zip(model.trainable_weights, before, strict=True) if np.array_equal(w.numpy(), old)]
    # A bias or shift straight before a normalisation has no gradient but rounding's.
    assert not [name for name in still if "kernel" in name], still


@pytest.mark.parametrize("network", cases(forms_are_slow=True))
def test_float32_logits_under_mixed_precision(network):
    name, form = network
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(name, form)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    exact = build(name, form)
    exact.set_weights(model.get_weights())
    image, mask = example(model)
    # Rounding moves the maxima of some pooling windows; unpooling then puts whole values elsewhere.
    bound = 0.4 if any(isinstance(layer, MaxUnpool2D) for layer in model.layers) else 0.1
    both = zip(heads(model(image, training=False)), heads(exact(image, training=False)), strict=True)
    for logits, expected in both:
        assert logits.dtype == tf.float32
        assert np.abs(logits - expected).mean() < bound * np.std(expected) + 1e-3
    assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)
    assert all(w.dtype in ("float32", tf.float32) for w in model.trainable_weights)
    # Not traced: this is the only step.
    model.compile("sgd", [kerasseg.losses.CrossEntropy() for _ in model.outputs], run_eagerly=True)
    assert np.isfinite(model.train_on_batch(image, [mask] * len(model.outputs))).all()


@pytest.mark.parametrize("name", kerasseg.models.__all__)
def test_export_answers_as_the_model_predicts(name, tmp_path):
    """Loaded by TensorFlow; a network that returns less than the image's size gets the image mirrored outwards."""
    model = build(name, {})
    model(example(model)[0], training=True)  # Statistics that are no image's may leave nothing of one.
    version = kerasseg.export.saved_model(model, tmp_path / "servable")
    serve = tf.saved_model.load(version).signatures["serving_default"]
    image, mask = example(model)
    size, border = image.shape[1], image.shape[1] - mask.shape[1]
    served = serve(images=tf.constant(image, tf.uint8))["segmentation_map"].numpy()
    assert served.shape == (2, size, size)
    if border:
        after = legal_size(model, size + border) - size - border // 2
        image = np.pad(image, [(0, 0), *[(border // 2, after)] * 2, (0, 0)], mode="reflect")
    logits = model(image, training=False).numpy()[:, :size, :size]
    chosen = np.take_along_axis(logits, served[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(chosen, logits.max(-1), atol=1e-4)  # the highest, or one that ties with it
    assert np.ptp(logits, -1).max() > 1e-3  # so another class would show, at least where units are not dead


@pytest.mark.parametrize("network", cases(forms_are_slow=True))
@pytest.mark.parametrize("channels", [1, 5])
def test_other_channel_counts(network, channels):
    name, form = network
    model = build(name, form, input_shape=(None, None, channels))
    image, mask = example(model, batch=1)
    for logits in heads(model(image, training=False)):
        assert logits.shape == (*mask.shape, K)


def test_the_mask_may_have_the_size_of_the_image(model):
    """Networks that return less than the image's size are trained on the centre of the mask."""
    image, mask = example(model)
    whole = np.full(image.shape[:3], IGNORE_LABEL, np.int32)
    rows = centre(image.shape[1], mask.shape[1])
    whole[:, rows, rows] = mask
    loss = kerasseg.losses.CrossEntropy()
    for logits in heads(model(image, training=False)):
        np.testing.assert_allclose(loss(whole, logits), loss(mask, logits), rtol=1e-6)


@pytest.mark.parametrize("name", kerasseg.models.__all__)
def test_signature_and_docstring(name):
    builder = getattr(kerasseg.models, name)
    first, *options = inspect.signature(builder).parameters.values()
    assert first.name == "num_classes"
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)
    assert {"input_shape", "name"} <= {option.name for option in options}
    for section in ("Args:", "Returns:", "Raises:", "Reference:"):
        assert section in builder.__doc__, f"{name}: docstring has no {section}"
    for option in options:
        assert option.name in builder.__doc__, f"{name}: {option.name} is not documented"
    assert builder(K, **SMALL.get(name, {}), name="mine").name == "mine"
