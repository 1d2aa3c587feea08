"""What TensorFlow runs on, in one line."""

import functools
import os
import platform
from pathlib import Path

import tensorflow as tf

from kerasseg._version import versions

_SETS = {
    "AMX": "amx_tile",
    "AVX-512-VNNI": "avx512_vnni",
    "AVX-512": "avx512f",
    "AVX-VNNI": "avx_vnni",
    "AVX2": "avx2",
    "AVX": "avx",
}
"""Instruction sets that decide about TensorFlow's kernels, the widest first, and their flags in /proc/cpuinfo."""


def runtime() -> str:
    """Returns one line: versions, processor, and what the environment variable TF_ENABLE_ONEDNN_OPTS would change.

    TensorFlow has two sets of CPU kernels. By default it takes oneDNN's on x86 processors with AVX-512-VNNI, AVX-VNNI
    or AMX, and its own on others. The variable decides otherwise, if it is set before TensorFlow is imported. Results
    of the two differ by rounding. `python -m kerasseg --version` prints the line.

    Example:
        >>> from kerasseg.inspection import runtime
        >>> runtime().startswith("kerasseg ")
        True
    """
    version = ", ".join(f"{name} {version}" for name, version in versions().items())
    gpus = len(tf.config.list_physical_devices("GPU"))
    devices = f"{gpus} GPU(s)" if gpus else "no GPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{version}; {_processor()}, {cores} cores, {devices}; {_onednn()}"


@functools.cache
def onednn_is_on() -> bool:
    """Returns whether convolutions on the CPU are oneDNN's. Found by trying what TensorFlow's own kernels refuse."""
    with tf.init_scope(), tf.device("CPU:0"):
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=tf.ones((1, 4, 4, 1)),
                filter_sizes=(3, 3, 1, 1),
                out_backprop=tf.ones((1, 4, 4, 1)),
                strides=[1, 1, 1, 1],
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def _onednn():
    setting = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    why = "the default here" if setting is None else f"TF_ENABLE_ONEDNN_OPTS={setting}"
    if onednn_is_on():
        return f"oneDNN on ({why}); TF_ENABLE_ONEDNN_OPTS=0 changes rounding, and takes longer on processors with AVX2"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"oneDNN off ({why})"
    return (
        f"oneDNN off ({why}); TF_ENABLE_ONEDNN_OPTS=1 changes rounding, and is quicker on processors with AVX2; "
        "with AVX alone it trains quicker, but dilated convolutions take longer"
    )


def _processor():
    """Returns name and widest instruction set, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    facts = {}
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    flags = facts.get("flags", "").split()
    widest = next((name for name, flag in _SETS.items() if flag in flags), "")
    return " with ".join(filter(None, [facts.get("model name") or platform.machine(), widest]))
