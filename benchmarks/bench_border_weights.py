"""Speed of U-Net's weight map against the same map from one distance transform of the whole image for each cell.

    python benchmarks/bench_border_weights.py

The usual way to compute it runs scipy's Euclidean distance transform once for each cell; OpenCV's, which is exact too,
is the faster stand-in. All three maps are compared with each other.
"""

import numpy as np
from _timing import interleaved
from scipy import ndimage

from kerasseg._opencv import cv2
from kerasseg.augment import border_weights


def discs(count: int, size: int) -> np.ndarray:
    """Returns instances uint16 [size, size]: discs of radius 4 to 14 at random places, later ones on top."""
    rng = np.random.default_rng(0)
    instances = np.zeros((size, size), np.uint16)
    rows, columns = np.ogrid[:size, :size]
    for i in range(count):
        y, x = rng.uniform(0, size, 2)
        instances[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(4, 14) ** 2] = i + 1
    return instances


def per_cell(instances, distance_to):
    """The same map, with `distance_to(bool [H, W])` of the whole image for each cell, two smallest kept."""
    nearest = np.full(instances.shape, np.inf, np.float32)
    second = nearest.copy()
    for cell in np.unique(instances[instances > 0]):
        distance = distance_to(instances == cell).astype(np.float32)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    share = (instances > 0).mean()
    balance = np.where(instances > 0, 0.5 / share, 0.5 / (1 - share))
    return (balance + 10 * np.exp(-((nearest + second) ** 2) / 50)).astype(np.float32)


def scipy_distance(cell):
    return ndimage.distance_transform_edt(~cell)


def opencv_distance(cell):
    return cv2.distanceTransform((~cell).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def main():
    for count in (50, 200):
        instances = discs(count, 512)
        calls = {
            "kerasseg": lambda i=instances: border_weights(i),
            "OpenCV per cell": lambda i=instances: per_cell(i, opencv_distance),
            "scipy per cell": lambda i=instances: per_cell(i, scipy_distance),
        }
        reference = calls["scipy per cell"]()
        differences = {name: float(np.abs(call() - reference).max()) for name, call in calls.items()}
        results = interleaved(calls, rounds=5, warm_up=1)
        ours = results["kerasseg"]
        print(f"\n### {count} cells in 512 x 512\n")
        print("| | min ms | median ms | kerasseg takes (medians) | kerasseg takes (minima) | largest difference |")
        print("|---|---|---|---|---|---|")
        for name, row in results.items():
            ratios = (f"1/{row[key] / ours[key]:.1f}" for key in ("median_s", "min_s"))
            times = (f"{1000 * row[key]:.1f}" for key in ("min_s", "median_s"))
            print(f"| {' | '.join([name, *times, *ratios, f'{differences[name]:.1e}'])} |", flush=True)


if __name__ == "__main__":
    main()
