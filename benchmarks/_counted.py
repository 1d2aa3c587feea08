"""What the networks cost as counted in their graphs, and what follows from it for machines that are not at hand."""

import functools
import math
from typing import NamedTuple

import numpy as np

from kerasseg import inspection, models
from kerasseg.inference._memory import bytes_per_pixel
from kerasseg.inspection._trace import trace

NETWORKS = {
    "DeepLab-v3, ResNet-50": ("deeplab_v3", {"num_classes": 21}, 513),
    "DeepLab-v3+, Xception-65": ("deeplab_v3_plus", {"num_classes": 21, "backbone": "xception_65"}, 513),
    "FCN-8s": ("fcn_8s", {"num_classes": 21}, 512),
    "SegNet": ("segnet", {"num_classes": 11}, 512),
    "DeconvNet": ("deconvnet", {"num_classes": 21, "input_shape": (None, None, 3)}, 512),
    "U-Net, same padding": ("unet", {"num_classes": 2, "padding": "same", "batch_norm": True}, 512),
    "UNet++": ("unet_plus_plus", {"num_classes": 2}, 512),
}
MAKE_MAPS = {
    *("Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative", "FusedBatchNormV3", "BiasAdd", "Relu", "AddV2"),
    *("ConcatV2", "MaxPool", "MaxPoolGrad", "ResizeBilinear", "Pad", "BatchToSpaceND", "SpaceToBatchND"),
}


class Device(NamedTuple):
    """What an estimate assumes. The first three are a data sheet's (NVIDIA A100 SXM 80 GB); shares are guesses."""

    peak_tera: float = 312.0
    """10^12 operations a second in bfloat16."""
    memory_gb_s: float = 2000.0
    within_gb_s: float = 300.0
    """Between the GPUs of a machine, in each direction."""
    between_gb_s: float = 12.5
    """Between machines: 100 Gbit/s."""
    share: float = 0.4
    """Of the peak that convolutions reach, and of the memory's speed that the rest does."""


A100 = Device()


class Counted(NamedTuple):
    """Of one image: billions of multiply-adds, MiB alive in inference and made in a forward pass; and parameters."""

    giga: float
    alive_mib: float
    maps_mib: float
    parameters: int


@functools.cache
def _model(name):
    network, options, _ = NETWORKS[name]
    return getattr(models, network)(**options)


@functools.cache
def counted(name: str, size: int) -> Counted:
    """Counts in the graph of a network of `NETWORKS` for an image of `size` pixels a side; nothing is computed."""
    model, maps = _model(name), 0
    for operation in trace(model, size, size).get_operations():
        if operation.type in MAKE_MAPS:
            maps += math.prod(operation.outputs[0].shape) * operation.outputs[0].dtype.size
    return Counted(
        1e-9 * sum(each.multiply_adds for each in inspection.convolutions(model, size)),
        bytes_per_pixel(model, (size, size)) * size**2 / 2**20,
        maps / 2**20,
        sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
    )


def table_of_sizes(sizes=(512, 2048)) -> str:
    """Returns a Markdown table of multiply-adds and memory of inference against the image's size."""
    lines = [f"| | {' | '.join(f'{size}²' for size in sizes)} | parameters |", "|---" * (len(sizes) + 2) + "|"]
    for name, (_, _, own) in NETWORKS.items():
        rows = [counted(name, size + own % 2) for size in sizes]
        cells = [f"{row.giga:,.0f} G, {_mib(row.alive_mib)}" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} | {rows[0].parameters / 1e6:.1f} M |")
    return "\n".join(lines)


def table_of_machines(pipeline_ms: dict[str, float], device=A100, per_gpu=8, machines=8) -> str:
    """Returns a Markdown table of what training is expected to do on one GPU, eight, and several machines of eight.

    A step is three forward passes' operations (the gradients of weights and of maps are as large as the pass itself),
    two operations to a multiply-add; and its maps are written and read about three times each, in two bytes. These
    times add up. The gradients, four bytes each, are summed over a ring: twice their bytes over the slowest link, after
    the step, as if nothing of it ran beside.
    """
    gpus = 8
    lines = [
        "| | batch per GPU | step, ms | images/s: 1 GPU | 8 GPUs | " + f"{machines} x 8 GPUs | sums of gradients, ms | "
        f"cores to feed a GPU: {', '.join(pipeline_ms)} |",
        "|---" * 8 + "|",
    ]
    for name, (_, _, size) in NETWORKS.items():
        row = counted(name, size)
        operations = per_gpu * 3 * 2 * row.giga / (1e3 * device.peak_tera * device.share)
        traffic = per_gpu * 3 * row.maps_mib * 2**20 / 1e9 / (device.memory_gb_s * device.share)
        step = operations + traffic
        gradients = 4 * row.parameters / 1e9
        within, between = (2 * gradients / speed for speed in (device.within_gb_s, device.between_gb_s))
        rates = [per_gpu / step, gpus * per_gpu / (step + within), machines * gpus * per_gpu / (step + between)]
        cores = ", ".join(f"{rates[0] * ms / 1e3:.1f}" for ms in pipeline_ms.values())
        cells = [name, str(per_gpu), f"{1e3 * step:.0f}", *(f"{rate:,.0f}" for rate in rates)]
        lines.append(f"| {' | '.join(cells)} | {1e3 * within:.1f}; {1e3 * between:.0f} | {cores} |")
    return "\n".join(lines)


def _mib(mib):
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
