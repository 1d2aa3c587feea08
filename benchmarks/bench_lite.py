"""LiteRT files by kind: size and time of an image, beside the Keras model and beside each other.

    python benchmarks/bench_lite.py                          # networks of a quarter of the width, scaled down
    python benchmarks/bench_lite.py --width 1 --side 513     # the published networks and crop, with memory for it

The weights are random: neither sizes nor times hang on them. All on the processor's cores that TensorFlow takes; a
phone's processor has other kernels for 8 bits, and its own ratios.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from _timing import interleaved
from tensorflow import keras

from kerasseg.export import LITE_KINDS, LiteModel, frozen, lite
from kerasseg.models import deeplab_v3, unet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=257, help="of the images (default: 257)")
    parser.add_argument("--rounds", type=int, default=5, help="turns that are measured (default: 5)")
    parser.add_argument("--width", type=float, default=0.25, help="of DeepLab-v3; U-Net has 64 times it (default: .25)")
    options = parser.parse_args()
    side, width = options.side, options.width
    even = side // 16 * 16
    subjects = {
        f"DeepLab-v3, ResNet-50, width {width:g}, {side} x {side}": (lambda: deeplab_v3(21, width=width), side),
        f"U-Net, {round(64 * width)} filters, {even} x {even}": (
            lambda: unet(2, filters=round(64 * width), padding="same", batch_norm=True),
            even,
        ),
    }
    for title, (build, side) in subjects.items():
        keras.utils.set_random_seed(0)
        print(f"\n### {title}\n", flush=True)
        print(table(measured(build(), side, options.rounds)), flush=True)
        keras.backend.clear_session()


def measured(model, side, rounds) -> dict[str, dict]:
    """Returns {kind: {"mb", "min_s", "median_s"}}, the Keras model's first."""
    image = np.random.default_rng(0).integers(0, 256, (side, side, model.input_shape[-1]), np.uint8)
    batch = tf.constant(image[None], tf.float32)
    keras_call = tf.function(lambda x: tf.argmax(model(x, training=False), -1))
    network = frozen(model)
    frozen_call = tf.function(lambda x: tf.argmax(network(x), -1))
    calls = {"Keras": lambda: keras_call(batch).numpy(), "frozen graph": lambda: frozen_call(batch).numpy()}
    sizes = {"Keras": 4 * model.count_params() / 1e6}
    sizes["frozen graph"] = sizes["Keras"]
    # What random weights answer says nothing: the bound is off, and the truth of one class.
    data = [(image, np.zeros((side, side), np.int32))]
    with tempfile.TemporaryDirectory() as folder:
        variants = [(kind, (side, side)) for kind in LITE_KINDS] + [("float32", None)]
        for kind, size in variants:
            name = f"LiteRT {kind}" + ("" if size else ", any size")
            path = Path(folder, f"{kind}-{bool(size)}.tflite")
            lite(model, path, kind, size=size, data=data if kind in ("dynamic", "int8") else None, max_drop=1.0)
            run = LiteModel(path, num_threads=os.cpu_count())
            sizes[name] = path.stat().st_size / 1e6
            calls[name] = lambda run=run: run.segment(image)
        times = interleaved(calls, rounds=rounds, warm_up=1)
    return {name: {"mb": sizes[name], **row} for name, row in times.items()}


def table(rows: dict[str, dict]) -> str:
    """Returns a Markdown table of sizes and times, with their ratios to LiteRT float32's."""
    reference = rows["LiteRT float32"]
    lines = ["| | MB | MB ÷ float32 | min s | median s | s ÷ float32 |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        size, time = row["mb"] / reference["mb"], row["median_s"] / reference["median_s"]
        lines.append(
            f"| {name} | {row['mb']:.1f} | {size:.2f} | {row['min_s']:.3f} | {row['median_s']:.3f} | {time:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
