"""What each head of a UNet++ trained with deep supervision gives and costs: parameters, time, IoU on a split.

    python tools/train.py --recipe unet_plus_plus --data tfrecords/dsb2018 --output runs/unet_plus_plus
    python benchmarks/score_heads.py --model runs/unet_plus_plus/best.keras --data tfrecords/dsb2018

L1 to L4 are the network pruned to its heads, "mean" is all heads together. Time is that of one 256 x 256 image, the
fastest of 20, the networks taken in turn. `--and OTHER.keras` scores more models beside them.
"""

import argparse
import time
from pathlib import Path

import numpy as np

SIDE, ROUNDS = 256, 20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="best.keras of a UNet++ with deep supervision")
    parser.add_argument("--data", type=Path, required=True, help="converted data set")
    parser.add_argument("--split", default="val")
    parser.add_argument("--and", dest="others", type=Path, nargs="*", default=[], help="other models on the same data")
    options = parser.parse_args()

    from kerasseg.inference import evaluate, load_model
    from kerasseg.metrics import scores
    from kerasseg.models import unet_plus_plus_pruned
    from kerasseg.pipeline import eval_images
    from kerasseg.spec import DatasetSpec

    spec = DatasetSpec.load(options.data)
    whole = load_model(options.model)
    depth = sum(layer.name.startswith("logits") and layer.name[6:].isdigit() for layer in whole.layers)
    networks = {f"L{level}": unet_plus_plus_pruned(whole, level) for level in range(1, depth + 1)}
    networks["mean"] = whole
    networks |= {str(path): load_model(path) for path in options.others}
    times = fastest(networks, spec.channels)
    print("| network | parameters | ms for 256² | mIoU | IoU " + " | IoU ".join(spec.class_names) + " |")
    print("|---" * (4 + spec.num_classes) + "|")
    for name, model in networks.items():
        matrix = evaluate(model, eval_images(options.data, options.split), spec.num_classes, spec.ignore_label)
        result = scores(matrix, spec.class_names)
        ious = " | ".join(f"{result['per_class_iou'].get(c, float('nan')):.3f}" for c in spec.class_names)
        print(f"| {name} | {model.count_params():,} | {times[name]:.1f} | {result['mean_iou']:.3f} | {ious} |")


def fastest(networks, channels):
    """Returns the milliseconds of each network for one image, the shortest of all rounds."""
    import tensorflow as tf

    image = tf.constant(np.random.default_rng(0).uniform(0, 255, (1, SIDE, SIDE, channels)), tf.float32)
    calls = {name: tf.function(lambda x, m=model: m(x, training=False)) for name, model in networks.items()}
    for call in calls.values():
        call(image)
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call(image)
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    main()
