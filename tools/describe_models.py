"""Describe the networks: parameters, output size, receptive field and multiply-adds, beside the published figures.

    python tools/describe_models.py
    python tools/describe_models.py --only deeplab
    python tools/describe_models.py --write README.md

Every figure is taken from the built network: sizes, fields and multiply-adds from the graph that TensorFlow would run.
Where a published figure differs, the tool says so and ends with 1. --write replaces the table between the lines
`<!-- models -->` and `<!-- /models -->` of a file.
"""

import _cli

# isort: split
import dataclasses
from pathlib import Path

from kerasseg.spec import DataError

MARKS = ("<!-- models -->", "<!-- /models -->")
GIGA_TOLERANCE = 0.005
"""Published multiply-adds do not tell what they count beside convolutions; the rest is within this share."""
HEADER = (
    "| network | classes | trained parameters | all | output | receptive field | multiply-adds at 512² |\n"
    "|---|---|---|---|---|---|---|\n"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A published form of a network.

    Attributes:
        title: In the table.
        model: Name in `kerasseg.models`.
        num_classes, options: What it is built with.
        trained, total: Published parameters: trained ones, and all, with fixed kernels and moving statistics. None:
            none is published.
        features: The layer whose receptive field is published, or else the one that the classifier reads.
        field: Published receptive field of that layer, in pixels.
        size: Side of the image for the output size and the multiply-adds: 512, or the nearest that is legal.
        output: Published side of the output.
        giga: Published multiply-adds for one image of this size, in 10^9.
    """

    title: str
    model: str
    num_classes: int
    features: str
    options: dict = dataclasses.field(default_factory=dict)
    trained: int | None = None
    total: int | None = None
    field: int | None = None
    size: int = 512
    output: int = 512
    giga: float | None = None


ANY_SIZE, GREY = {"input_shape": (None, None, 3)}, {"input_shape": (None, None, 1)}
SAME, RELEASED, BILINEAR = {**GREY, "padding": "same"}, {**GREY, "variant": "release"}, {**GREY, "variant": "bilinear"}
R50, R101 = {"backbone": "resnet_v1_50"}, {"backbone": "resnet_v1_101"}
ROWS = (
    Row("FCN-32s", "fcn_32s", 21, "fc7", {}, 134_346_581, 136_152_917, 404),
    Row("FCN-16s", "fcn_16s", 21, "fc7", {}, 134_357_354, 134_815_994, 404),
    Row("FCN-8s", "fcn_8s", 21, "fc7", {}, 134_362_751, 134_489_759, 404),
    Row("FCN-8s of CVPR 2015", "fcn_8s", 21, "fc7", {"upsampling": "cvpr15"}, 134_376_884, None, 404),
    Row("FCN-AlexNet", "fcn_alexnet", 21, "fc7", {}, 56_954_261, 58_704_590, 355),
    Row("DeconvNet", "deconvnet", 21, "fc7", ANY_SIZE, 251_805_653, 251_839_061, size=224, output=224),
    Row("SegNet", "segnet", 11, "relu5_3", {}, 29_449_355, 29_465_227),
    Row("SegNet, 21 classes", "segnet", 21, "relu5_3", {}, 29_455_125, 29_470_997),
    Row("SegNet-Basic", "segnet_basic", 11, "relu4", {}, 1_416_587, 1_417_611),
    Row("Bayesian SegNet", "bayesian_segnet", 11, "relu5_3", {}, 29_449_355, 29_465_227),
    Row("U-Net", "unet", 2, "bottom_relu2", GREY, 31_030_658, 31_030_658, size=572, output=388),
    Row("U-Net, as released", "unet", 2, "bottom_relu2", RELEASED, 31_100_354, size=572, output=388),
    Row("U-Net, bilinear", "unet", 2, "bottom_relu2", BILINEAR, 28_941_698, size=572, output=388),
    Row("U-Net, half width", "unet", 1, "bottom_relu2", {**SAME, "variant": "half"}, 7_759_521),
    Row("U-Net, quarter width", "unet", 1, "bottom_relu2", {**SAME, "variant": "quarter"}, 1_940_817),
    Row("UNet++", "unet_plus_plus", 1, "node4_0_relu2", GREY, 9_041_601),
    Row("UNet++, all heads", "unet_plus_plus", 1, "node4_0_relu2", {**GREY, "deep_supervision": True}, 9_041_700),
    Row("Attention U-Net", "attention_unet", 2, "bottom_relu2", GREY, None, 2_209_781),
    Row("Attention U-Net, 64 filters", "attention_unet", 2, "bottom_relu2", {**GREY, "filters": 64}, None, 35_218_373),
    Row("DeepLab-v3, ResNet-50", "deeplab_v3", 21, "block4_unit3_relu", R50, 39_048_533, 39_104_725, None, 513, 513),
    Row("DeepLab-v3, ResNet-101", "deeplab_v3", 21, "block4_unit3_relu", R101, 58_040_661, 58_149_077, None, 513, 513),
    Row(
        "DeepLab-v3, ResNet-50 *beta*", "deeplab_v3", 21, "block4_unit3_relu", {"backbone": "resnet_v1_50_beta"},
        39_172_309, 39_228_885, None, 513, 513,
    ),
    Row("DeepLab-v3, ResNet-v2-50", "deeplab_v3", 21, "postnorm_relu", {}, None, 39_108_373, None, 513, 513),
    Row(
        "DeepLab-v3 of TensorFlow 1", "deeplab_v3", 21, "block4_unit3_add", {"variant": "original"},
        None, 39_100_181, None, 513, 513,
    ),
    Row("DeepLab-v3 in cascade, ResNet-101", "deeplab_v3_cascade", 21, "block7_unit3_relu", {}, size=513, output=513),
    Row(
        "DeepLab-v3, MobileNet-v2, no pyramid", "deeplab_v3", 21, "unit16_project_norm",
        {"backbone": "mobilenet_v2", "atrous_rates": ()}, size=513, output=513, giga=2.75,
    ),
    Row("DeepLab-v3+, ResNet-50", "deeplab_v3_plus", 21, "aspp_projection_relu", R50, None, 26_766_853, None, 513, 513),
    Row(
        "DeepLab-v3+, ResNet-50, plain convolutions", "deeplab_v3_plus", 21, "aspp_projection_relu",
        {**R50, "separable": False}, None, 40_409_493, None, 513, 513,
    ),
    Row(
        "DeepLab-v3+, ResNet-101", "deeplab_v3_plus", 21, "aspp_projection_relu", R101,
        None, 45_811_205, None, 513, 513,
    ),
    Row(
        "DeepLab-v3+, Xception-65", "deeplab_v3_plus", 21, "aspp_projection_relu", {},
        41_055_413, 41_258_213, None, 513, 513, 54.17,
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a built network has; see `Row`."""

    trained: int
    total: int
    field: int
    output: int
    giga: float


def main(arguments=None):
    options = _parser().parse_args(arguments)
    from tqdm import tqdm

    rows = [row for row in ROWS if options.only is None or options.only in row.model]
    if not rows:
        raise DataError(f"--only {options.only}: expected a part of one of {', '.join(row.model for row in ROWS)}")
    lines, faults = [], []
    for row in tqdm(rows, unit="network", disable=None):
        facts = describe(row)
        lines.append(line(row, facts))
        faults += differences(row, facts)
    table = HEADER + "\n".join(lines) + "\n"
    print(table)
    if faults:
        raise DataError("; ".join(faults))
    if options.write:
        _replace(options.write, table)


def _parser():
    parser = _cli.parser(__doc__)
    parser.add_argument("--only", metavar="NAME", help="networks with this in their name")
    parser.add_argument("--write", type=Path, metavar="FILE", help="file whose table is to be replaced")
    return parser


def describe(row: Row) -> Facts:
    """Builds a network at its full size and measures it."""
    import numpy as np
    from tensorflow import keras

    from kerasseg import inspection, models

    model = getattr(models, row.model)(row.num_classes, **row.options)
    field = inspection.receptive_field(model, row.features)
    shapes = model.compute_output_shape((1, row.size, row.size, model.input_shape[-1]))
    output = shapes[-1] if isinstance(shapes, list) else shapes
    facts = Facts(
        trained=sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        total=model.count_params(),
        field=field[0],
        output=output[1],
        giga=inspection.multiply_adds(model, row.size) / 1e9,
    )
    keras.backend.clear_session()
    return facts


def differences(row: Row, facts: Facts) -> list[str]:
    """Returns a line for each published figure that the network does not have."""
    found = [
        f"{row.title}: {name} is {getattr(facts, name)}, published is {published}"
        for name in ("trained", "total", "field", "output")
        if (published := getattr(row, name)) not in (None, getattr(facts, name))
    ]
    if row.giga is not None and abs(facts.giga / row.giga - 1) > GIGA_TOLERANCE:
        found.append(f"{row.title}: multiply-adds are {facts.giga:.2f} G, published are {row.giga}")
    return found


def line(row: Row, facts: Facts) -> str:
    """Returns the row of the table; figures that are published, and the same, are bold."""

    def figure(name):
        text = f"{getattr(facts, name):,}"
        return text if getattr(row, name) is None else f"**{text}**"

    sides = f"{row.size}² → {facts.output}²"
    giga = f"{facts.giga:.1f} G" + ("" if row.size == 512 else f" at {row.size}²")
    giga += "" if row.giga is None else f" (authors: {row.giga})"
    return (
        f"| {row.title} | {row.num_classes} | {figure('trained')} | {figure('total')} | {sides} | {figure('field')} "
        f"({row.features}) | {giga} |"
    )


def _replace(path: Path, table: str) -> None:
    text = path.read_text(encoding="utf-8")
    if any(text.count(mark) != 1 for mark in MARKS):
        raise DataError(f"{path}: expected the lines {' and '.join(MARKS)} once each, to put the table between")
    before, rest = text.split(MARKS[0])
    path.write_text(f"{before}{MARKS[0]}\n{table}{MARKS[1]}{rest.split(MARKS[1])[1]}", encoding="utf-8")


if __name__ == "__main__":
    _cli.run(main)
