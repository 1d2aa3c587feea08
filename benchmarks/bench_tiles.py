"""Segmenting an image larger than memory should be, from file to file: peak memory, and time beside the network's own.

    python benchmarks/bench_tiles.py                 # scaled down: 5,000 x 5,000 pixels
    python benchmarks/bench_tiles.py --side 20000    # minutes for each row

Each row is a process of its own, so that its peak is its own: it maps a generated image from a file and writes the mask
to another (`kerasseg.inference.segment_file`). The peak is all that the process ever held, TensorFlow included. The
time is given as a multiple of the forward passes of the same run; what is above 1 is reading, blending and writing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SUBJECTS = {
    "valid padding, .npy to .npy": ("valid", ".npy"),
    "same padding, Gaussian blending, .npy to .npy": ("same", ".npy"),
    "same padding, Gaussian blending, tiled TIFF to tiled TIFF": ("same", ".tif"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=5000, help="pixels of the image's height and width (default: 5000)")
    parser.add_argument("--memory-mib", type=int, default=512, help="memory_budget (default: 512)")
    parser.add_argument("--filters", type=int, default=8, help="of the U-Net's first level (default: 8)")
    parser.add_argument("--only", choices=SUBJECTS, help="one row")
    parser.add_argument("--measure", choices=SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options, *SUBJECTS[options.measure])))
        return
    scaled = "" if options.side >= 20000 else ", scaled down (--side 20000 is the whole)"
    print(f"\n### {options.side:,} x {options.side:,} pixels, U-Net of {options.filters} filters{scaled}\n")
    print("| | tiles | time ÷ forward passes | peak MiB | of it before | estimated MiB |\n|---|---|---|---|---|---|")
    for name in [options.only] if options.only else SUBJECTS:
        command = [sys.executable, __file__, "--measure", name]
        command += [f"--{key}={getattr(options, key.replace('-', '_'))}" for key in ("side", "memory-mib", "filters")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            "| {name} | {tiles} | {ratio:.3f} | {peak:.0f} | {before:.0f} | {estimate:.0f} |".format(name=name, **row)
        )


def measure(options, padding, suffix) -> dict:
    """Segments an image in this process."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from tensorflow import keras

    from kerasseg.inference import segment_file
    from kerasseg.inference._network import network
    from kerasseg.models import unet

    keras.utils.set_random_seed(0)
    model = unet(2, input_shape=(None, None, 1), filters=options.filters, padding=padding)
    net = network(model)
    forward, passes = net.forward, []

    def timed(images):
        start = time.perf_counter()
        logits = forward(images)
        logits.numpy()
        passes.append(time.perf_counter() - start)
        return logits

    with tempfile.TemporaryDirectory() as folder:
        source, target = (Path(folder, name + suffix) for name in ("image", "mask"))
        write_image(source, options.side)
        budget = options.memory_mib * 2**20
        net.forward = timed
        # One tile before, for what is done once: the graph's tracing, the libraries' own tables.
        segment_file(model, np.zeros((64, 64), np.uint8), target, memory_budget=budget)
        before = peak_mib()
        passes.clear()
        start = time.perf_counter()
        tiling = segment_file(model, source, target, memory_budget=budget)
        seconds = time.perf_counter() - start
    return {
        "tiles": f"{tiling.num_tiles} of {tiling.tile_size[0]}²",
        "seconds": seconds,
        "ratio": seconds / sum(passes),
        "before": before,
        "peak": peak_mib(),
        "estimate": tiling.bytes / 2**20,
    }


def write_image(path: Path, side: int) -> None:
    """Writes a uint8 image [side, side] in bands; as TIFF, in packed tiles of 512 x 512."""
    rng = np.random.default_rng(0)

    def bands(height=512):
        for _ in range(0, side, height):
            coarse = rng.integers(0, 256, (height // 16, -(-side // 16)), np.uint8)
            yield coarse.repeat(16, 0).repeat(16, 1)[:, :side] ^ rng.integers(0, 8, (1, side), np.uint8)

    if path.suffix == ".npy":
        with open(path, "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (side, side)}
            np.lib.format.write_array_header_1_0(file, header)
            written = 0
            for band in bands():
                file.write(np.ascontiguousarray(band[: side - written]).data)
                written += len(band)
        return
    import tifffile

    def tiles():
        for band in bands():
            for left in range(0, side, 512):
                part = band[:, left : left + 512]
                yield np.pad(part, [(0, 0), (0, 512 - part.shape[1])])

    shape = {"shape": (side, side), "dtype": np.uint8, "tile": (512, 512)}
    tifffile.imwrite(path, tiles(), compression="zlib", bigtiff=True, photometric="minisblack", **shape)


def peak_mib() -> float:
    """Returns the most memory that the process has held so far (Linux: in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
