"""The cascade of DeepLab-v3, read from the graph that TensorFlow runs."""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.inspection import convolutions
from kerasseg.models import deeplab_v3_cascade

SMALL = {"backbone": "resnet_v1_50", "width": 1 / 32}


def identity(name):
    """Takes the place of normalisations, whose variables are most of what there is to make and to trace."""
    return keras.layers.Activation("linear", name=name)


def found(backbone="resnet_v1_50", **options):
    model = deeplab_v3_cascade(21, backbone=backbone, width=1 / 32, norm=identity, **options)
    return {each.layer: each for each in convolutions(model, 513)}


@pytest.mark.parametrize(
    ("output_stride", "side", "backbone"),
    [
        (16, 33, "resnet_v1_50"),
        (8, 65, "resnet_v2_50"),
        pytest.param(16, 33, "resnet_v2_50", marks=pytest.mark.slow),
        pytest.param(8, 65, "resnet_v1_50", marks=pytest.mark.slow),
    ],
)
def test_rates_double_from_block_to_block(backbone, output_stride, side):
    layers = found(backbone, output_stride=output_stride)
    finer = 16 // output_stride
    for block, rate in ((4, 2), (5, 4), (6, 8), (7, 16)):
        for unit, grid in ((1, 1), (2, 2), (3, 1)):
            layer = layers[f"block{block}_unit{unit}_conv2"]
            assert layer.dilations == (rate * grid * finer,) * 2
            assert layer.strides == (1, 1)
            assert layer.output_shape[:2] == (side, side)
    assert layers["logits_conv"].output_shape == (side, side, 21)
    assert not [name for name in layers if name.startswith("aspp")]


def test_strides_where_nothing_is_atrous():
    """Every block but the last halves the side: the network of the paper's table 1 at output stride 256."""
    layers = found(output_stride=256)
    strided = [name for name, layer in layers.items() if layer.strides == (2, 2)]
    assert [name for name in strided if name != "conv1"] == [
        *("block1_unit3_conv2", "block2_unit4_conv2", "block3_unit6_conv2"),
        *(f"block{block}_unit3_conv2" for block in (4, 5, 6)),
    ]
    assert layers["logits_conv"].output_shape[:2] == (3, 3)


def test_copies_have_the_parameters_of_block_4_without_its_shortcut():
    four, seven = (deeplab_v3_cascade(21, **SMALL, blocks=blocks) for blocks in (4, 7))

    def parameters(model, prefix):
        return sum(np.prod(w.shape) for x in model.layers if x.name.startswith(prefix) for w in x.weights)

    # The first unit of block 4 reads half the channels and projects them; in a copy it reads all and adds them.
    depth, out = 16, 64
    unit = depth * out + 9 * depth**2 + depth * out + 2 * 4 * depth + 4 * out
    assert parameters(seven, "block5") == parameters(seven, "block6") == parameters(seven, "block7") == 3 * unit
    assert seven.count_params() == four.count_params() + 9 * unit


def test_a_model_trained_at_stride_16_loads_at_stride_8(tmp_path):
    options = {**SMALL, "norm": identity, "blocks": 5}
    coarse, fine = (deeplab_v3_cascade(3, **options, output_stride=stride) for stride in (16, 8))
    coarse.save_weights(tmp_path / "model.weights.h5")
    fine.load_weights(tmp_path / "model.weights.h5")
    image = np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32)
    one, two = (
        keras.Model(model.input, model.get_layer("block5_unit3_relu").output)(image, training=False)
        for model in (coarse, fine)
    )
    np.testing.assert_allclose(one, two[:, ::2, ::2], atol=1e-5 * np.max(one))


def test_illegal_options():
    with pytest.raises(ValueError, match="a cascade needs one of the backbones resnet_v1_50, .* got 'xception_65'"):
        deeplab_v3_cascade(2, backbone="xception_65")
    with pytest.raises(ValueError, match="blocks must be at least 4, got 3"):
        deeplab_v3_cascade(2, **SMALL, blocks=3)
    with pytest.raises(ValueError, match="output_stride must be one of 4, 8, 16, 32, 64, 128, 256, got 12"):
        deeplab_v3_cascade(2, **SMALL, output_stride=12)
