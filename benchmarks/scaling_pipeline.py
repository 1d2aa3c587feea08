"""How the input pipeline and tiled inference grow: with cores, batch, crop and record files; with the image's side.

    python benchmarks/scaling_pipeline.py [--write docs/how-it-grows.md] [--json FILE] [--rounds 3]

The pipeline is DeepLab's with colour, on the photographs of bench_pipeline.py. The engines are measured in turn in one
process (each number of cores in its own); tiles are bench_tiles.py's, at several sides. --write replaces the table
between the marks of a page, and draws the curves in a PNG beside it.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _marks import write_marked
from run import machine

ENGINES = {"opencv": "OpenCV", "tensorflow": "TensorFlow's operations"}
USUAL = {"batch": 8, "crop": 513, "files": 4}
AXES = {"batch": [1, 2, 8, 32], "crop": [129, 257, 513, 1025], "files": [1, 2, 4, 16]}
TILES, SIDES = "same padding, Gaussian blending, .npy to .npy", [500, 1000, 2000, 4000]

TEXT = """## Measured: the input pipeline, and images in tiles

![Images a second against cores, batch, crop and record files; time and peak memory of tiled images]({picture})

{machine}
DeepLab's preset with colour on {data}; where nothing else is said,
batches of 8 crops of 513² from 4 record files. Images in tiles: a U-Net of 8 filters, from file to file, within a
memory budget of 512 MiB.

{table}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a page with the marks <!-- pipeline --> ... <!-- /pipeline -->")
    parser.add_argument("--json", type=Path, help="write what was measured here")
    parser.add_argument("--rounds", type=int, default=3, help="samples of each point, of which the median (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a sample (default: 1.5)")
    parser.add_argument("--images", type=int, default=500, help="records; photographs repeat (default: 500)")
    parser.add_argument("--measure", choices=("cores", *AXES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.measure:
        measure(options)
        return
    points = [point for run in _runs(options) for point in _points(run)]
    if options.json:
        options.json.write_text(json.dumps(points, indent=1))
    print(table(points))
    if options.write:
        picture = options.write.with_name(options.write.stem + "-data.png")
        plot(points, picture)
        text = TEXT.format(picture=picture.name, machine=machine(), data=points[0]["data"], table=table(points))
        write_marked(options.write, {"pipeline": text})


def _runs(options):
    """Yields commands; the number of cores is set from outside, as by a container."""
    common = ["--rounds", str(options.rounds), "--seconds", str(options.seconds), "--images", str(options.images)]
    every = sorted(os.sched_getaffinity(0))
    cores = [2**i for i in range(len(every).bit_length()) if 2**i <= len(every)]
    for number in cores:
        pinned = ["taskset", "--cpu-list", ",".join(map(str, every[:number]))]
        yield [*pinned, sys.executable, __file__, *common, "--measure", "cores"]
    for axis in AXES:
        yield [sys.executable, __file__, *common, "--measure", axis]
    for side in SIDES:
        yield [sys.executable, str(Path(__file__).with_name("bench_tiles.py")), f"--side={side}", f"--measure={TILES}"]


def _points(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            point = json.loads(line)
            yield point if "axis" in point else {"axis": "side", "value": _side(command), **point}


def _side(command):
    return next(int(part.partition("=")[2]) for part in command if part.startswith("--side="))


def measure(options) -> None:
    """Prints a line for each value of an axis and each engine."""
    import _rates
    from _photographs import photograph_records

    axis = options.measure
    values = AXES.get(axis, [len(os.sched_getaffinity(0))])
    with tempfile.TemporaryDirectory() as folder:
        for value in values:
            setting = USUAL | ({axis: value} if axis in USUAL else {})
            directory = Path(folder, f"of-{setting['files']}-files")
            data = photograph_records(directory, options.images, setting["files"])
            sources = {engine: _source(directory, engine, setting) for engine in ENGINES}
            samples = _rates.sampled(sources, setting["batch"], options.rounds, options.seconds)
            for engine, row in _rates.summary(samples, ()).items():
                rates = {"rate": row["median_images_per_s"], "cpu_ms": row["min_cpu_ms"]}
                print(json.dumps({"axis": axis, "value": value, "engine": engine, "data": data, **rates}), flush=True)


def _source(directory, engine, setting):
    from kerasseg.augment import ColourRange
    from kerasseg.pipeline import presets, train_batches

    preset = dataclasses.replace(presets.deeplab_paper, colour=ColourRange())
    options = {"seed": 0, "engine": engine, "compact": True}
    batches = train_batches(directory, "train", setting["batch"], setting["crop"], preset, **options)
    return lambda: iter(batches)


def table(points) -> str:
    named = {
        "cores": "{} core(s)",
        "batch": "batches of {}",
        "crop": "crops of {0} x {0}",
        "files": "{} record file(s)",
    }
    lines = [f"| | images/s: {' | '.join(ENGINES.values())} | CPU ms per image: {' | '.join(ENGINES.values())} |"]
    lines.append("|---" * 5 + "|")
    for axis, text in named.items():
        for value in sorted({point["value"] for point in points if point["axis"] == axis}):
            rows = {p["engine"]: p for p in points if (p["axis"], p["value"]) == (axis, value)}
            cells = [f"{rows[engine]['rate']:.0f}" for engine in ENGINES]
            cells += [f"{rows[engine]['cpu_ms']:.2f}" for engine in ENGINES]
            lines.append(f"| {' | '.join([text.format(value), *cells])} |")
    lines += ["", "| image | tiles | s a megapixel | ÷ forward passes | peak MiB |", "|---" * 5 + "|"]
    for point in points:
        if point["axis"] == "side":
            side, seconds = point["value"], point["seconds"] / point["value"] ** 2 * 1e6
            cells = [f"{side:,} x {side:,}", point["tiles"], f"{seconds:.2f}", f"{point['ratio']:.3f}"]
            lines.append(f"| {' | '.join(cells)} | {point['peak']:.0f} |")
    return "\n".join(lines)


def plot(points, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6), layout="constrained")
    labels = {"cores": "cores", "batch": "batch", "crop": "side of the crop, pixels", "files": "record files"}
    for place, (axis, label) in zip(axes[:, :2].flat, labels.items(), strict=True):
        for engine, name in ENGINES.items():
            line = [p for p in points if p["axis"] == axis and p.get("engine") == engine]
            where = [p["value"] for p in line]
            place.plot(where, [p["rate"] for p in line], "o-", label=name)
        place.set(xscale="log", xlabel=label, ylabel="images/s", ylim=0, xticks=where, xticklabels=where)
    axes[0, 0].legend()
    tiled = [p for p in points if p["axis"] == "side"]
    sides = [p["value"] for p in tiled]
    axes[0, 2].plot(sides, [p["seconds"] / p["value"] ** 2 * 1e6 for p in tiled], "o-", color="tab:green")
    axes[0, 2].set(ylabel="s a megapixel, in tiles")
    axes[1, 2].plot(sides, [p["peak"] for p in tiled], "o-", color="tab:green", label="peak")
    axes[1, 2].plot(sides, [p["before"] for p in tiled], ":", color="gray", label="of it before")
    axes[1, 2].set(ylabel="MiB")
    axes[1, 2].legend()
    for place in axes[:, 2]:
        place.set(xscale="log", xlabel="side of the image, pixels", ylim=0, xticks=sides, xticklabels=sides)
    for place in axes.flat:
        place.minorticks_off()
        place.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
