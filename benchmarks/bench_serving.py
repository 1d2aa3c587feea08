"""Size, load time, memory and latency of exports, by how their weights are stored, and what a server adds to a request.

    python benchmarks/bench_serving.py [--side 257] [--rounds 5] [--only unet] [--json FILE]

DeepLab-v3 (ResNet-50) with random weights and a U-Net of 32 filters, through TensorFlow's C++ loader in a process of
its own for each export, without Keras: `serving_default` with one and with eight images, in turn; and over REST and
gRPC through the stand-in server of the tests (`tests/model_server.py`: TensorFlow's loader behind the official stubs;
PNG in and out included; the real one is C++). Everything is divided by what float32 took. LiteRT's int8 is measured in
bench_lite.py.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WEIGHTS = {  # What `kerasseg.export.Signatures` is told.
    "float32": {"freeze": True},
    "bfloat16": {"weights": "bfloat16", "freeze": True},
    "float16": {"weights": "float16", "freeze": True},
    "float32, variables": {"freeze": False},
    "float16, variables": {"weights": "float16", "freeze": False},
}
BATCHES = (1, 8)

# Waits for a number of images, runs them, tells the seconds; at 0, its bytes of memory; ends with its input.
LOADED = """
import sys, time
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
start = time.perf_counter()
session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
output, input_ = loaded.outputs["segmentation_map"].name, loaded.inputs["images"].name
print(time.perf_counter() - start, flush=True)
images = np.random.default_rng(0).integers(0, 256, (8, int(sys.argv[2]), int(sys.argv[2]), 3), np.uint8)
for line in sys.stdin:
    if line == "0\\n":
        print(4096 * int(open("/proc/self/statm").read().split()[1]), flush=True)
        continue
    start = time.perf_counter()
    session.run(output, {input_: images[: int(line)]})
    print(time.perf_counter() - start, flush=True)
"""


class Loaded:
    """An export in a process of its own."""

    def __init__(self, directory, side):
        command = [sys.executable, "-c", LOADED, str(directory), str(side)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.load_s = self._answer()

    def run_s(self, batch):
        self._process.stdin.write(f"{batch}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self):
        self._process.communicate()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process with the export ended with {self._process.wait()}")
        return float(line)


def models():
    """Returns {name: (title, builder)}. What the weights are does not matter to the time."""
    from kerasseg.models import deeplab_v3, unet

    return {
        "deeplab": ("DeepLab-v3 R50", lambda: deeplab_v3(21)),
        "unet": ("U-Net, 32 filters, same padding", lambda: unet(2, filters=32, padding="same")),
    }


def megabytes(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


def kinds_of_weights(versions, side, rounds):
    """Returns {kind: size, load time, latencies}, the kinds in turn in every round."""
    rows = {kind: {"size_mb": megabytes(version), "load_s": [], "memory_mb": 0.0} for kind, version in versions.items()}
    for turn in range(3):
        for kind, version in versions.items():
            loaded = Loaded(version, side)
            if not turn:
                loaded.run_s(1)
                rows[kind]["memory_mb"] = loaded.run_s(0) / 1e6
            loaded.close()
            if turn:  # The first one reads from the disk.
                rows[kind]["load_s"].append(loaded.load_s)
    loaded = {kind: Loaded(version, side) for kind, version in versions.items()}
    for batch in BATCHES:
        times = {kind: [one.run_s(batch) for _ in range(2)][2:] for kind, one in loaded.items()}
        for _ in range(rounds):
            for kind, one in loaded.items():
                times[kind].append(one.run_s(batch))
        for kind in loaded:
            rows[kind][f"batch_{batch}_s"] = statistics.median(times[kind])
    for one in loaded.values():
        one.close()
    for row in rows.values():
        row["load_s"] = statistics.median(row["load_s"])
    return rows


def weights_table(rows):
    keys = {
        "size_mb": "MB",
        "memory_mb": "MB of memory",
        "load_s": "load s",
        **{f"batch_{n}_s": f"{n} image{'s'[: n > 1]} s" for n in BATCHES},
    }
    lines = ["| weights | " + " | ".join(keys.values()) + " | ÷ float32 |", "|---" * (len(keys) + 2) + "|"]
    for kind, row in rows.items():
        ratios = ", ".join(f"{row[key] / rows['float32'][key]:.2f}" for key in keys)
        lines.append(f"| {kind} | " + " | ".join(f"{row[key]:.3g}" for key in keys) + f" | {ratios} |")
    return "\n".join(lines)


def over_the_network(version, side, rounds):
    """Returns seconds per request of one image: run directly, and asked for over gRPC and REST, in turn."""
    import cv2

    from kerasseg.client import Client

    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    image = cv2.imencode(".png", cv2.GaussianBlur(image, (0, 0), 3))[1].tobytes()
    command = [sys.executable, str(ROOT / "tests" / "model_server.py"), f"model={version.parent}"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    ports = json.loads(server.stdout.readline())
    direct = Loaded(version, side)
    clients = {name: Client(f"127.0.0.1:{ports[name]}", "model", protocol=name) for name in ("grpc", "rest")}

    def asked(name):
        start = time.perf_counter()
        clients[name].segment([image])
        return time.perf_counter() - start

    calls = {
        "in the process": lambda: direct.run_s(1),
        "gRPC": lambda: asked("grpc"),
        "REST": lambda: asked("rest"),
    }
    times = {name: [] for name in calls}
    try:
        for turn in range(2 + 3 * rounds):
            for name, call in calls.items():
                seconds = call()
                if turn >= 2:
                    times[name].append(seconds)
    finally:
        direct.close()
        server.communicate()
    return {name: {"median_s": statistics.median(t), "min_s": min(t)} for name, t in times.items()}


def network_table(rows):
    base = rows["in the process"]["median_s"]
    lines = ["| one image | min ms | median ms | more than in the process, ms |", "|---|---|---|---|"]
    for name, row in rows.items():
        more = f"{1e3 * (row['median_s'] - base):+.1f}"
        lines.append(f"| {name} | {1e3 * row['min_s']:.1f} | {1e3 * row['median_s']:.1f} | {more} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=257, help="of the images, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("deeplab", "unet"), help="this network alone")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()

    from kerasseg.export import Signatures

    report = {"side": options.side}
    with tempfile.TemporaryDirectory() as folder:
        for name, (title, builder) in models().items():
            if options.only not in (None, name):
                continue
            model = builder()
            versions = {kind: Path(folder) / f"{name}_{kind}" / "1" for kind in WEIGHTS}
            for kind, version in versions.items():  # As saved_model writes it, not compared with the model again.
                Signatures(model, **WEIGHTS[kind]).save(str(version))
            rows = kinds_of_weights(versions, options.side, options.rounds)
            report[name] = {"weights": rows}
            print(f"\n### {title}, {options.side}²\n\n{weights_table(rows)}", flush=True)
            if name == "unet":
                rows = over_the_network(versions["float32"], options.side, options.rounds)
                report[name]["requests"] = rows
                print(f"\n### {title}, {options.side}², one request at a time\n\n{network_table(rows)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
