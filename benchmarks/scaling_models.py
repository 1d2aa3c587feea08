"""How time and memory of networks grow: with the image, the batch, the threads, and two replicas in place of one.

    python benchmarks/scaling_models.py [--write docs/how-it-grows.md] [--json FILE] [--rounds 3] [--counted]

Measures on this machine's CPU, each curve in a process of its own, whose peak memory (TensorFlow's own included) is
given; and counts operations and bytes in the networks' graphs, for machines that are not at hand. --counted does the
latter alone. --write replaces the tables between the marks of a page, and draws the curves in a PNG beside it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from _marks import write_marked
from run import machine

MEASURED = {
    "DeepLab-v3, ResNet-50": ("deeplab_v3", {"num_classes": 21}, 257),
    "U-Net, 16 filters": ("unet", {"num_classes": 2, "filters": 16, "padding": "same", "batch_norm": True}, 256),
}
PIPELINE_MS = {"OpenCV": 3.1, "TensorFlow's operations": 6.3}
"""Processor time per image of the DeepLab pipeline with colour (RESULTS.md, bench_pipeline.py)."""


MEASURED_TEXT = """## Measured

![Time per image and peak memory against the image's side, and against the batch]({picture})

{machine}
Peak memory is that of the whole process, of which TensorFlow itself takes some 600 MiB. Two replicas on one CPU share
its cores: they show what keeping them in step costs, not a gain.

{table}
"""


def rows(name):
    """Yields (what changes, its values, threads) of a network; each is a process of its own."""
    side = MEASURED[name][2]
    odd = side % 2
    yield "size", [128 + odd, 256 + odd, 512 + odd, 1024 + odd], 2
    yield "batch", [1, 2, 4, 8], 2
    for threads in (1, 2):
        yield "threads", [threads], threads
    for replicas in (1, 2):
        yield "replicas", [replicas], 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a page with the marks <!-- measured --> ... <!-- /measured -->")
    parser.add_argument("--json", type=Path, help="write what was measured here")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each point, of which the least (default: 3)")
    parser.add_argument("--counted", action="store_true", help="measure nothing")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, axis, values, threads = options.measure
        measure(name, axis, json.loads(values), int(threads), options.rounds)
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tables = {}
    if not options.counted:
        points = measured(options.rounds)
        picture = options.write.with_suffix(".png").name if options.write else ""
        tables["measured"] = MEASURED_TEXT.format(machine=machine(), picture=picture, table=table(points))
        if options.json:
            options.json.write_text(json.dumps(points, indent=1))
        if options.write:
            plot(points, options.write.with_suffix(".png"))
    from _counted import table_of_machines, table_of_sizes

    tables |= {"counted": table_of_sizes(), "machines": table_of_machines(PIPELINE_MS)}
    for title, text in tables.items():
        print(f"\n### {title}\n\n{text}")
    if options.write:
        write_marked(options.write, tables)


def measured(rounds) -> list[dict]:
    points = []
    for name in MEASURED:
        for axis, values, threads in rows(name):
            command = [sys.executable, __file__, "--rounds", str(rounds)]
            command += ["--measure", name, axis, json.dumps(values), str(threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            points += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return points


def measure(name, axis, values, threads, rounds) -> None:
    """Prints a line for each value: of images' sides, forward passes; of the rest, training steps (threads: both)."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from tensorflow import keras

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    network, options, side = MEASURED[name]
    replicas = values[0] if axis == "replicas" else 1
    if replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    keras.utils.set_random_seed(0)
    # A strategy of one replica costs nothing, but is not the usual way; so only where replicas are compared.
    with strategy.scope() if axis == "replicas" else tf.init_scope():
        forward, step = _calls(tf, network, options, strategy if axis == "replicas" else None)
    for value in values:
        size = value if axis == "size" else side
        batch = {"size": 1, "batch": value}.get(axis, 4)
        calls = {"size": {"forward pass": forward}, "threads": {"forward pass": forward, "training step": step}}
        for what, call in calls.get(axis, {"training step": step}).items():
            seconds, busy = _least(call(batch, size), rounds)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            point = {"network": name, "axis": axis, "value": value, "what": what, "batch": batch, "side": size}
            print(json.dumps({**point, "seconds": seconds, "cpu": busy, "peak_mib": peak}), flush=True)


def _calls(tf, network, options, strategy):
    """Returns two functions of batch and side, which return a forward pass and a training step to be called."""
    from _shared_data import images, masks

    from kerasseg import models, training
    from kerasseg.losses import CrossEntropy

    model = getattr(models, network)(**options)
    model.compile(training.optimizer("sgd", 1e-3, momentum=0.9), CrossEntropy(), jit_compile=False)
    function = tf.function(lambda x: model(x, training=False), autograph=False, reduce_retracing=True)

    def forward(batch, side):
        image = tf.constant(images((batch, side, side, 3)))
        return lambda: function(image).numpy()

    def step(batch, side):
        data = tf.data.Dataset.from_tensors((images((batch, side, side, 3)), masks((batch, side, side)))).repeat()
        data = iter(data if strategy is None else strategy.experimental_distribute_dataset(data))
        model.make_train_function()
        return lambda: model.train_function(data)

    return forward, step


def _least(call, rounds):
    call()
    samples = []
    for _ in range(rounds):
        begin, busy = time.perf_counter(), time.process_time()
        call()
        samples.append((time.perf_counter() - begin, time.process_time() - busy))
    return tuple(map(min, zip(*samples, strict=True)))


def table(points) -> str:
    lines = ["| | | batch x side | s | s per image | CPU s per image | peak MiB |", "|---" * 7 + "|"]
    for p in points:
        ways = {"replicas": f", {p['value']} replica(s)", "threads": f", {p['value']} thread(s)"}.get(p["axis"], "")
        cells = [p["network"], p["what"] + ways, f"{p['batch']} x {p['side']}²", f"{p['seconds']:.3g}"]
        cells += [f"{p[key] / p['batch']:.3g}" for key in ("seconds", "cpu")]
        lines.append(f"| {' | '.join(cells)} | {p['peak_mib']:.0f} |")
    return "\n".join(lines)


def plot(points, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), sharex="col", layout="constrained")
    labels = {"size": "side of the image, pixels (forward pass)", "batch": "batch (training step)"}
    for column, (axis, label) in enumerate(labels.items()):
        for name in MEASURED:
            line = [p for p in points if p["axis"] == axis and p["network"] == name]
            where = [p["value"] for p in line]
            axes[0, column].plot(where, [p["seconds"] / p["batch"] for p in line], "o-", label=name)
            axes[1, column].plot(where, [p["peak_mib"] for p in line], "o-", label=name)
        axes[0, column].set(xscale="log", ylabel="s per image")
        axes[1, column].set(xscale="log", ylabel="peak MiB", ylim=0, xlabel=label, xticks=where, xticklabels=where)
        axes[1, column].minorticks_off()
        for row in axes[:, column]:
            row.grid(alpha=0.3)
    axes[0, 0].set(yscale="log")
    axes[0, 1].set(ylim=0)
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
