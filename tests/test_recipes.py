"""Each recipe against what its authors wrote: a table of their settings, and what an update does to each variable."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from kerasseg import models, pipeline, recipes
from kerasseg.augment import Augmentation, ColourRange, GridElastic
from kerasseg.spec import DataError, DatasetSpec, SplitSpec

DATA = DatasetSpec(
    "streets",
    tuple("abcdefghijk"),
    splits={"train": SplitSpec(367, ("f",), (10,) * 10 + (5,), 0, (100,) * 11)},
    has_objects=True,
    has_weights=True,
)
TWICE = {r"(^|/)bias$": 2.0}
LAST_TWICE = {r"^logits_conv/bias$": 2.0}


@dataclasses.dataclass
class Expected:
    """What the authors' files say of one stage. `rates`: {step: rate}; `loss`: class and reduction."""

    network: object
    optimizer: str
    rates: dict
    steps: int
    batch: int
    crop: object
    preset: object
    loss: tuple
    momentum: float = 0.9
    decay: float = 0.0
    multipliers: dict = dataclasses.field(default_factory=dict)
    accumulate: int = 1
    options: dict = dataclasses.field(default_factory=dict)
    start: str = "pretrained"
    more: dict = dataclasses.field(default_factory=dict)


MEAN, SUM = ("CrossEntropy", "valid_mean"), ("CrossEntropy", "sum")
FCN = {"momentum": 0.99, "decay": 5e-4, "multipliers": TWICE}
CVPR = {"decay": 5e-4, "multipliers": TWICE}
V3 = {"decay": 1e-4}
CAFFE = {"decay": 5e-4, "multipliers": TWICE}


def poly(rate, steps):
    return {0: rate, steps // 2: rate * 0.5**0.9, steps: 0.0}


def constant(rate):
    return {0: rate, 10**6: rate}


TABLE = {
    # shelhamer/fcn.berkeleyvision.org, voc-fcn*/solver.prototxt, solve.py
    "fcn_staged": [
        Expected(models.fcn_32s, "sgd", constant(1e-10), 100_000, 1, None, "fcn", SUM, **FCN),
        Expected(models.fcn_16s, "sgd", constant(1e-12), 100_000, 1, None, "fcn", SUM, **FCN, start="previous"),
        Expected(models.fcn_8s, "sgd", constant(1e-14), 100_000, 1, None, "fcn", SUM, **FCN, start="previous"),
    ],
    # arXiv:1411.4038, section 4.3; 175 epochs of 367 images in batches of 20
    "fcn_staged(variant=cvpr15)": [
        Expected(models.fcn_32s, "sgd", constant(1e-4), 3212, 20, None, "fcn", MEAN, **CVPR),
        Expected(models.fcn_16s, "sgd", constant(1e-6), 3212, 20, None, "fcn", MEAN, **CVPR, start="previous",
                 options={"upsampling": "cvpr15"}),
        Expected(models.fcn_8s, "sgd", constant(1e-8), 3212, 20, None, "fcn", MEAN, **CVPR, start="previous",
                 options={"upsampling": "cvpr15"}),
    ],
    "fcn_at_once": [
        Expected(models.fcn_8s, "sgd", constant(1e-10), 300_000, 1, None, "fcn", SUM, **FCN, options={"at_once": True})
    ],
    # sthalles/deeplab_v3 train.py, README; its L2 was never in the loss
    "deeplab_v3_original": [
        Expected(models.deeplab_v3, "adam", constant(1e-5), 30_000, 8, 513, "deeplab_original_fast", MEAN,
                 options={"variant": "original"}, more={"epsilon": 1e-8})
    ],
    "deeplab_v3_original(weight_decay=0.0001)": [
        Expected(models.deeplab_v3, "adam", constant(1e-5), 30_000, 8, 513, "deeplab_original_fast", MEAN, decay=1e-4,
                 options={"variant": "original"}, more={"epsilon": 1e-8})
    ],
    # arXiv:1706.05587, section 4.1
    "deeplab_v3_paper": [
        Expected(models.deeplab_v3, "sgd", poly(0.007, 30_000), 30_000, 16, 513, "deeplab_paper", MEAN, **V3,
                 options={"backbone": "resnet_v1_101", "output_stride": 16, "momentum": 0.9997}),
        Expected(models.deeplab_v3, "sgd", poly(0.001, 30_000), 30_000, 16, 513, "deeplab_paper", MEAN, **V3,
                 start="previous", options={"backbone": "resnet_v1_101", "output_stride": 8, "momentum": 0.9997,
                                            "norm": "frozen"}),
    ],
    # tensorflow/models research/deeplab train.py, common.py, FAQ
    "deeplab_v3_paper(variant=release)": [
        Expected(models.deeplab_v3, "sgd", poly(0.007, 30_000), 30_000, 8, 513, "deeplab_tensorflow", MEAN, **V3,
                 multipliers=LAST_TWICE, options={"backbone": "resnet_v1_101_beta", "output_stride": 16})
    ],
    "deeplab_v3_plus": [
        Expected(models.deeplab_v3_plus, "sgd", poly(0.007, 30_000), 30_000, 16, 513, "deeplab_tensorflow", MEAN,
                 decay=4e-5, multipliers=LAST_TWICE, options={"backbone": "xception_65"})
    ],
    # arXiv:1505.04597, section 3; rate and steps are not given there
    "unet_isbi": [
        Expected(models.unet, "sgd", constant(0.001), 20_000, 1, 572, "unet", MEAN, momentum=0.99,
                 more={"pixel_weights": True})
    ],
    "unet_isbi(variant=plugin)": [
        Expected(models.unet, "adam", constant(1e-4), 20_000, 1, 572, "unet", MEAN, more={"pixel_weights": True})
    ],
    # arXiv:1807.10165; MrGiovanni/UNetPlusPlus keras/: l2(1e-4) is a decay of 2e-4
    "unet_plus_plus": [
        Expected(models.unet_plus_plus, "adam", constant(3e-4), 23_000, 16, 96, "cells",
                 [("CrossEntropyDice", "paper")] * 4, decay=2e-4, options={"deep_supervision": True},
                 more={"patience": 30, "validate_every": 23, "deliver": models.unet_plus_plus_averaged})
    ],
    "unet_plus_plus(variant=release, deep_supervision=False)": [
        Expected(models.unet_plus_plus, "adam", constant(1e-3), 23_000, 16, 96, "cells",
                 ("CrossEntropyDice", "original"), decay=2e-4, options={"deep_supervision": False},
                 more={"patience": 30, "validate_every": 23, "deliver": None})
    ],
    # ozan-oktay/Attention-Gated-Networks configs/config_unet_ct_multi_att_dsv.json: 1000 epochs of 184 batches
    "attention_unet": [
        Expected(models.attention_unet, "adam",
                 {0: 1e-4, 45_999: 1e-4, 46_000: 5e-5, 92_000: 2.5e-5, 138_000: 1.25e-5}, 184_000, 2, 160,
                 {"scale": (0.7, 1.3), "rotation": 15.0, "shift": 16.0, "flip_left_right": True, "flip_up_down": True},
                 ("Dice", None), decay=1e-6, options={"gates": 2, "deep_supervision": True},
                 more={"epsilon": 1e-8})
    ],
    # alexgkendall/SegNet-Tutorial Models/segnet_{train,solver}.prototxt
    "segnet_camvid": [
        Expected(models.segnet, "sgd", constant(0.001), 40_000, 4, (360, 480), "segnet", MEAN, **CAFFE,
                 more={"recalculate": 92, "class_weights": [1.0] * 10 + [2.0]})
    ],
    "segnet_camvid(variant=basic, class_weights=authors)": [
        Expected(models.segnet_basic, "sgd", constant(0.1), 10_000, 4, (360, 480), "segnet", MEAN, **CAFFE,
                 more={"recalculate": 92, "class_weights": [0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446,
                                                            1.8418, 0.6823, 6.2478, 7.3614]})
    ],
    "segnet_camvid(variant=bayesian)": [
        Expected(models.bayesian_segnet, "sgd", constant(0.001), 60_000, 4, (360, 480), "segnet", MEAN, **CAFFE,
                 more={"recalculate": 92})
    ],
    # HyeonwooNoh/DeconvNet training/00[12]_stage_*/
    "deconvnet_two_stage": [
        Expected(models.deconvnet, "sgd", {0: 0.01, 8_999: 0.01, 9_000: 1e-3, 18_000: 1e-4, 19_999: 1e-4}, 20_000, 8,
                 224, "deconvnet_stage1", MEAN, **CAFFE, accumulate=8),
        Expected(models.deconvnet, "sgd", {0: 0.01, 9_999: 0.01, 10_000: 1e-3, 20_000: 1e-4, 30_000: 1e-5}, 40_000, 8,
                 224, "deconvnet_stage2", MEAN, **CAFFE, accumulate=8, start="previous",
                 more={"recalculate": 501, "recalculate_batch_size": 28}),
    ],
}  # fmt: skip


def made(call, data=DATA, **more):
    """Returns the stages of "name(option=value, ...)"."""
    name, arguments = re.fullmatch(r"(\w+)(?:\((.*)\))?", call).groups()
    pairs = dict(part.split("=") for part in arguments.split(", ")) if arguments else {}
    plain = {"False": False, "0.0001": 1e-4}
    return getattr(recipes, name)(data, **{key: plain.get(value, value) for key, value in pairs.items()}, **more)


def test_every_recipe_is_in_the_table():
    assert {call.partition("(")[0] for call in TABLE} == set(recipes.__all__) - {"small_data"}


@pytest.mark.parametrize("call", TABLE)
def test_the_settings_are_the_authors(call):
    stages = made(call)
    assert len(stages) == len(TABLE[call])
    for stage, expected in zip(stages, TABLE[call], strict=True):
        assert stage.model.func is expected.network
        assert stage.model.args == (11,)
        assert stage.model.keywords == {"input_shape": (None, None, 3), **expected.options}
        assert (stage.steps, stage.batch_size, stage.crop_size) == (expected.steps, expected.batch, expected.crop)
        assert (stage.accumulate, stage.start) == (expected.accumulate, expected.start)
        solver = stage.optimizer
        assert (solver.name, solver.weight_decay, solver.decay) == (expected.optimizer, expected.decay, "l2")
        if solver.name == "sgd":
            assert solver.momentum == expected.momentum
        assert dict(solver.rate_multipliers) == expected.multipliers
        assert (solver.clip_norm, solver.ema, solver.warmup_steps) == (None, None, 0)
        rate = solver.learning_rate(stage.steps)
        for step, value in expected.rates.items():
            assert float(rate(step) if callable(rate) else rate) == pytest.approx(value, rel=1e-5, abs=1e-12)
        check_samples(stage, expected)
        check_loss(stage, expected)
        for name, value in expected.more.items():
            if name == "epsilon":
                assert stage.make_optimizer().epsilon == value
            elif name != "class_weights":
                assert getattr(stage, name) == value
        assert stage.pixel_weights == expected.more.get("pixel_weights", False)


def check_samples(stage, expected):
    if isinstance(expected.preset, str):
        assert stage.preset == expected.preset
        return
    default = Augmentation()
    for field in dataclasses.fields(Augmentation):
        value = expected.preset.get(field.name, getattr(default, field.name))
        if field.name != "fill":
            assert getattr(stage.preset, field.name) == value


def check_loss(stage, expected):
    losses = stage.make_loss()
    several = isinstance(expected.loss, list)
    for loss, (name, kind) in zip(
        losses if several else [losses], expected.loss if several else [expected.loss], strict=True
    ):
        assert type(loss).__name__ == name
        config = loss.get_config()
        assert config["ignore_label"] == 255
        if name == "CrossEntropy":
            assert config["reduction"] == kind
            weights = config["class_weights"]
            assert weights is None or weights == pytest.approx(expected.more.get("class_weights", weights))
            assert (weights is None) == ("SegNet" not in stage.model.func.__doc__.split(":")[0])
        elif name == "Dice":
            assert (config["smooth"], config["per_image"], config["classes"]) == (0.01, True, "all")
        else:
            assert config["variant"] == kind


def test_the_presets_are_the_authors():
    """Scales, flips and crops as the papers and releases give them."""
    named = {name: getattr(pipeline.presets, name) for name in pipeline.presets.__all__}
    common = {"flip_left_right": True, "crop": "random"}
    for name, values in {
        "fcn": {"scale": (1, 1), "flip_left_right": False, "colour": None},
        "deeplab_paper": {"scale": (0.5, 2.0), "scale_step": 0.0, **common},
        "deeplab_tensorflow": {"scale": (0.5, 2.0), "scale_step": 0.25, **common},
        "deeplab_original_fast": {"scale": (0.5, 2.0), "crop": "centre", "colour": ColourRange(), "fill": 0.0},
        "unet": {"elastic": GridElastic(10.0, 3), "border": "mirror"},
        "segnet": {"scale": (1, 1), "flip_left_right": False},
        "deconvnet_stage1": {"crop": "object", "box_margin": 1.2, "only_object": True, "flip_left_right": True},
        "deconvnet_stage2": {"crop": "proposal", "only_object": False, "flip_left_right": True},
    }.items():
        assert {key: getattr(named[name], key) for key in values} == values
    assert named["deconvnet_stage1"].box_resized == 250 / 224


SMALL = {
    "fcn_staged": {"width": 1 / 64},
    "deeplab_v3_original": {"width": 1 / 32},
    "deeplab_v3_plus": {"width": 1 / 8, "backbone": "mobilenet_v2"},
    "unet_isbi": {"filters": 2, "depth": 1},
    "unet_plus_plus": {"filters": 2, "depth": 2},
    "attention_unet": {"filters": 2, "depth": 2},
    "segnet_camvid": {"width": 1 / 64},
    "deconvnet_two_stage": {"width": 1 / 64},
}
# Of a variable's name within its layer, or of its path: (factor of the rate, whether it decays).
EVERYTHING = {
    "fcn_staged": {"kernel": (1, True), "bias": (2, False)},
    "deeplab_v3_original": {"kernel": (1, False), "bias": (1, False), "gamma": (1, False), "beta": (1, False)},
    "deeplab_v3_plus": {"depthwise": (1, False), "logits_conv/bias": (2, False), "kernel": (1, True),
                        "bias": (1, False), "gamma": (1, False), "beta": (1, False)},
    "unet_isbi": {"kernel": (1, False), "bias": (1, False)},
    "unet_plus_plus": {"up/kernel": (1, False), "kernel": (1, True), "bias": (1, False)},
    "attention_unet": {"kernel": (1, True), "bias": (1, True), "gamma": (1, True), "beta": (1, True)},
    "segnet_camvid": {"kernel": (1, True), "bias": (2, False), "gamma": (1, True), "beta": (1, False)},
    "deconvnet_two_stage": {"kernel": (1, True), "bias": (2, False), "gamma": (1, True), "beta": (1, True)},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_what_an_update_does_to_each_variable(name):
    """All weights 1, all gradients 1 (Adam: 0), rate 1: SGD moves a weight by its factor · (1 + its decay)."""
    stage = made(name, **SMALL[name])[0]
    solver = dataclasses.replace(stage.optimizer, rate=1.0, schedule="constant", drops=())
    optimizer, variables = solver(1), stage.model().trainable_variables
    before = [np.ones(variable.shape, np.float32) for variable in variables]
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    of_adam = solver.name == "adam"
    gradients = [tf.zeros(v.shape) if of_adam else tf.ones(v.shape) for v in variables]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    for variable in variables:
        path = "/".join(getattr(variable, "path", variable.name).split(":")[0].split("/")[-2:])
        factor, decays = next(values for part, values in EVERYTHING[name].items() if part in path)
        decay = solver.weight_decay if decays else 0.0
        moved = 1 - float(np.mean(variable))
        if of_adam:
            # The first step is the rate, whatever the gradient's size, next to epsilon.
            epsilon = optimizer.epsilon
            assert moved == pytest.approx(decay / (decay + epsilon / np.sqrt(0.001)), rel=1e-3, abs=1e-9), path
        else:
            assert moved == pytest.approx(factor * (1 + decay), abs=2e-6), path


@pytest.mark.parametrize(
    ("name", "starts"),
    [
        # The authors' fillers; VGG16 takes the place of msra where it is given.
        ("fcn_staged", {"score_fr": ("Zeros", None), "fc6": ("HeNormal", None)}),
        ("deeplab_v3_plus", {"logits_conv": ("TruncatedNormal", 0.01)}),
        ("unet_isbi", {"down1_conv1": ("HeNormal", None), "up1_conv2": ("HeNormal", None)}),
        ("unet_plus_plus", {"node0_0_conv1": ("HeNormal", None), "node0_1_up": ("GlorotUniform", None)}),
        ("attention_unet", {"down1_conv1": ("HeNormal", None), "logits": ("HeNormal", None)}),
        ("segnet_camvid", {"conv1_1": ("HeNormal", None), "conv1_1_D": ("HeNormal", None)}),
        ("deconvnet_two_stage", {"deconv5_1": ("RandomNormal", 0.01), "fc6-deconv": ("RandomNormal", 0.01),
                                 "seg-score": ("RandomNormal", 0.01)}),
    ],
)  # fmt: skip
def test_what_kernels_start_from(name, starts):
    model = made(name, **SMALL[name])[0].model()
    for layer, (kind, deviation) in starts.items():
        start = model.get_layer(layer).kernel_initializer
        assert type(start).__name__ == kind
        assert getattr(start, "stddev", None) == deviation
    # Shifts of the normalisations: 0.001 in SegNet's and DeconvNet's `shift_filler`.
    shifts = [v for v in model.trainable_variables if "beta" in v.name]
    expected = 0.001 if name in ("segnet_camvid", "deconvnet_two_stage") else 0
    assert all(np.allclose(shift, expected) for shift in shifts)


def test_the_last_layer_of_deeplab_v3_starts_as_its_variant_has_it():
    for variant, kind in (("paper", "TruncatedNormal"), ("original", "HeNormal")):
        model = models.deeplab_v3(2, width=1 / 32, variant=variant)
        assert type(model.get_layer("logits_conv").kernel_initializer).__name__ == kind


def test_fewer_steps_keep_the_shape_of_the_rates():
    first, second = recipes.change(made("deconvnet_two_stage"), steps=60, learning_rate=0.1)
    assert (first.steps, second.steps) == (20, 40)
    for stage, values in ((first, {8: 0.1, 9: 0.01, 18: 0.001}), (second, {9: 0.1, 10: 0.01, 20: 0.001})):
        rate = stage.optimizer.learning_rate(stage.steps)
        assert {step: float(rate(step)) for step in values} == pytest.approx(values)
    staged = recipes.change(made("fcn_staged"), learning_rate=1e-3)
    assert [stage.optimizer.rate for stage in staged] == pytest.approx([1e-3, 1e-5, 1e-7])
    (poly_stage,) = recipes.change(made("deeplab_v3_plus"), steps=10)
    assert float(poly_stage.optimizer.learning_rate(10)(10)) == 0
    (warmed,) = recipes.change(made("small_data"), steps=146)
    assert (warmed.steps, warmed.optimizer.warmup_steps) == (146, 10)


@pytest.mark.parametrize("channels", [1, 4])
def test_recipes_follow_the_data_set(channels):
    """Classes, channels and ignored label; weight maps only where they are stored."""
    data = dataclasses.replace(DATA, channels=channels, has_weights=False)
    for name in sorted(set(recipes.__all__) - {"small_data"}):
        for stage in getattr(recipes, name)(data):
            assert stage.model.keywords["input_shape"] == (None, None, channels)
            assert not stage.pixel_weights
    model = made("deeplab_v3_original", data, width=1 / 32)[0].model()
    assert model.input.shape[-1] == channels


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        ("fcn_staged(variant=2020)", {}, "variant must be one of release, cvpr15, received '2020'"),
        ("unet_isbi", {"wdith": 2}, "unet has no option 'wdith'; it has: variant, filters"),
        ("segnet_camvid(class_weights=mine)", {}, "class_weights must be one of data, authors"),
    ],
)
def test_wrong_options_are_named(call, options, message):
    with pytest.raises(ValueError, match=message):
        made(call, **options)


def test_data_that_a_recipe_cannot_use_are_refused():
    with pytest.raises(DataError, match="'streets' has no boxes of objects"):
        made("deconvnet_two_stage", dataclasses.replace(DATA, has_objects=False))
    with pytest.raises(ValueError, match="the authors' class_weights are for 11 classes, 'streets' has 2"):
        made("segnet_camvid(class_weights=authors)", dataclasses.replace(DATA, class_names=("a", "b"), palette=()))


@pytest.mark.parametrize("name", recipes.__all__)
def test_each_says_how_it_is_run_and_what_it_reached(name):
    text = getattr(recipes, name).__doc__
    assert f"tools/train.py --recipe {name} --data" in text
    assert "Machine and time:" in text
    assert "Score:" in text
    assert len(text.splitlines()[0]) < 110


def test_the_table_shows_what_is_going_to_happen():
    text = recipes.table(made("deconvnet_two_stage"))
    for part in ("1. objects", "2. proposals", "VGG16 trained on ImageNet", "0.01, step, times 0.1 at 9000, 18000",
                 "8 batches of 8", "recalculated over 501 batches of 28", "boxes jittered"):  # fmt: skip
        assert part in " ".join(text.split())
