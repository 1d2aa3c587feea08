"""Attention U-Net: counts, wiring, attention maps."""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.models import attention_maps, attention_unet, unet


@pytest.mark.parametrize(
    ("filters", "deep_supervision", "learned", "total"),
    [
        (16, True, 2_205_901, 2_210_253),
        (16, False, 2_205_429, 2_209_781),
        (64, True, 35_202_781, 35_220_189),
        (64, False, 35_200_965, 35_218_373),
    ],
)
def test_parameter_counts(filters, deep_supervision, learned, total, zero_weights):
    options = {"filters": filters, "deep_supervision": deep_supervision}
    with zero_weights():
        model = attention_unet(2, input_shape=(None, None, 1), **options)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == learned
    assert model.count_params() == total


def test_a_second_gate_adds_itself_and_its_half_of_the_combination():
    one, two = (attention_unet(2, filters=4, gates=gates) for gates in (1, 2))
    added = 0
    for c in (8, 16, 32):
        theta, phi, psi, output, norm = 4 * c * c, (2 * c + 1) * c, c + 1, (c + 1) * c, 4 * c
        added += theta + phi + psi + output + norm + c * c
    assert two.count_params() == one.count_params() + added
    first, second = two.get_layer("gate3_concat").input
    assert first is two.get_layer("gate3_1_output_norm").output
    assert second is two.get_layer("gate3_2_output_norm").output


def test_wiring():
    model = attention_unet(2, filters=2)

    def output(name):
        return model.get_layer(name).output

    assert model.get_layer("gating_conv").input is output("bottom_relu2")
    # What steers each gate; the finest skip connection has none.
    for level, steering in ((4, "gating_relu"), (3, "up4_relu2"), (2, "up3_relu2")):
        assert model.get_layer(f"gate{level}_phi").input is output(steering)
        assert model.get_layer(f"gate{level}_theta").input is output(f"down{level}_relu2")
        assert model.get_layer(f"gate{level}_multiply").input[0] is output(f"down{level}_relu2")
        assert model.get_layer(f"gate{level}_combine_conv").input is output(f"gate{level}_output_norm")
    skips = {4: "gate4_combine_relu", 3: "gate3_combine_relu", 2: "gate2_combine_relu", 1: "down1_relu2"}
    below = {4: "bottom_relu2", 3: "up4_relu2", 2: "up3_relu2", 1: "up2_relu2"}
    for level in (4, 3, 2, 1):
        skip, up = model.get_layer(f"up{level}_concat").input
        assert skip is output(skips[level])
        assert up is output(f"up{level}_crop")
        assert model.get_layer(f"up{level}_resize").input is output(below[level])
    assert {layer.name for layer in model.layers if layer.name.endswith("_map")} == {
        "gate2_map",
        "gate3_map",
        "gate4_map",
    }


def test_deep_supervision_joins_all_levels_of_the_decoder():
    model = attention_unet(5, filters=2, deep_supervision=True)
    levels = model.get_layer("supervised_concat").input
    names = ["supervised1_conv", "supervised2_crop", "supervised3_crop", "supervised4_crop"]
    assert all(x is model.get_layer(name).output for x, name in zip(levels, names, strict=True))
    for level, scale in ((2, 2), (3, 4), (4, 8)):
        assert model.get_layer(f"supervised{level}_conv").input is model.get_layer(f"up{level}_relu2").output
        assert model.get_layer(f"supervised{level}_resize").scale == scale
    assert model.get_layer("logits").input.shape[-1] == 4 * 5
    assert attention_unet(2, filters=2, depth=1, deep_supervision=True)(np.zeros((1, 6, 5, 3))).shape == (1, 6, 5, 2)


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_any_size(deep_supervision):
    model = attention_unet(3, filters=1, depth=3, deep_supervision=deep_supervision)
    for height, width in ((1, 1), (2, 3), (15, 17), (33, 50)):
        assert model(np.zeros((1, height, width, 3), np.float32)).shape == (1, height, width, 3)
        assert model.compute_output_shape((1, height, width, 3)) == (1, height, width, 3)


def test_attention_maps(tmp_path):
    keras.utils.set_random_seed(0)
    model = attention_unet(3, filters=4)
    image = np.random.default_rng(0).uniform(0, 255, (2, 61, 48, 3)).astype(np.float32)
    maps = attention_maps(model)(image, training=False)
    sizes = {"gate2": (31, 24), "gate3": (16, 12), "gate4": (8, 6)}
    assert {name: tuple(x.shape) for name, x in maps.items()} == {n: (2, *size, 1) for n, size in sizes.items()}
    for x in maps.values():
        assert 0 < x.numpy().min() < x.numpy().max() < 1
    model.save(tmp_path / "model.keras")
    loaded = attention_maps(keras.models.load_model(tmp_path / "model.keras"))(image, training=False)
    for name, x in maps.items():
        np.testing.assert_array_equal(loaded[name], x)


def test_a_closed_gate_lets_nothing_through():
    """With maps of 0, what the skip connections of levels 2 and lower carry no longer matters."""
    keras.utils.set_random_seed(0)
    model = attention_unet(3, filters=2, depth=2)
    kernel, bias = model.get_layer("gate2_psi").get_weights()
    model.get_layer("gate2_psi").set_weights([0 * kernel, bias - 1e3])
    image = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    assert not attention_maps(model)(image)["gate2"].numpy().any()
    combined = keras.Model(model.input, model.get_layer("gate2_combine_relu").output)(image).numpy()
    np.testing.assert_array_equal(combined, np.broadcast_to(combined[:, :1, :1], combined.shape))


def test_errors():
    with pytest.raises(ValueError, match="depth, filters and gates must be at least 1, got .*gates=0"):
        attention_unet(2, gates=0)
    with pytest.raises(ValueError, match="expected a model made by `attention_unet`, but 'unet' has no layer named"):
        attention_maps(unet(2, filters=1))
