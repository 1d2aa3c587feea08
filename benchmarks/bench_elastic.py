"""Elastic deformation of a 512x512 grey image with its mask: images a second against the usual ways.

    python benchmarks/bench_elastic.py

U-Net's: displacements on a 3x3 grid, normal with a standard deviation of 10 pixels, between them bicubic; the image
bilinear, the mask nearest, mirrored at borders. Simard's: noise for each pixel, blurred. Every call draws and
interpolates a field of its own.
"""

import argparse
import json
import os
from pathlib import Path

import _rates
import numpy as np

SIDE, POINTS, SIGMA = 512, 3, 10.0
SIMARD = {"alpha": 300.0, "sigma": 10.0}
CALLS = 20
KERAS, ALBUMENTATIONS = "Keras map_coordinates", "albumentations ElasticTransform"


def pictures():
    """Returns an image uint8 [H, W, 1] of discs of any grey, and the mask uint8 [H, W] of these."""
    from kerasseg._opencv import cv2

    rng = np.random.default_rng(0)
    image, mask = np.full((SIDE, SIDE), 60, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(60):
        centre = tuple(int(v) for v in rng.integers(0, SIDE, 2))
        radius = int(rng.integers(8, 40))
        cv2.circle(image, centre, radius, int(rng.integers(100, 255)), -1)
        cv2.circle(mask, centre, radius, 1, -1)
    noisy = image + rng.normal(scale=8, size=image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)[..., np.newaxis], mask


def ours_with_opencv(image, mask):
    from kerasseg import augment

    rng = np.random.default_rng(1)
    here = np.stack(np.mgrid[:SIDE, :SIDE], -1).astype(np.float32)

    def warped(field):
        positions = here + field
        augment.warp_cv(image, positions), augment.warp_cv(mask[..., np.newaxis], positions, nearest=True)

    def grid():
        warped(augment.grid_displacement_cv(rng.normal(scale=SIGMA, size=(2, POINTS, POINTS)), (SIDE, SIDE)))

    def simard():
        warped(augment.simard_displacement_cv(int(rng.integers(2**31)), (SIDE, SIDE), **SIMARD))

    return {"kerasseg, OpenCV": grid, "kerasseg, OpenCV, Simard's": simard}


def ours_with_tensorflow(image, mask):
    import tensorflow as tf

    from kerasseg import augment

    image, mask = tf.constant(image), tf.constant(mask[..., np.newaxis])
    here = tf.constant(np.stack(np.mgrid[:SIDE, :SIDE], -1), tf.float32)

    @tf.function
    def warped(seed):
        grid = tf.random.stateless_normal([2, POINTS, POINTS], seed, stddev=SIGMA)
        positions = here + augment.grid_displacement(grid, (SIDE, SIDE))
        return augment.warp(image, positions), augment.warp(mask, positions, nearest=True)

    return {"kerasseg, TensorFlow": _seeded(warped)}


def keras_map_coordinates(image, mask):
    import tensorflow as tf
    from tensorflow import keras

    image, mask = tf.constant(image[..., 0], tf.float32), tf.constant(mask, tf.float32)
    here = tf.constant(np.mgrid[:SIDE, :SIDE], tf.float32)

    @tf.function
    def warped(seed):
        grid = tf.random.stateless_normal([POINTS, POINTS, 2], seed, stddev=SIGMA)
        field = tf.image.resize(grid, [SIDE, SIDE], "bicubic")
        positions = here + tf.transpose(field, [2, 0, 1])
        read = keras.ops.image.map_coordinates
        return read(image, positions, 1, "nearest"), read(mask, positions, 0, "nearest")

    return {KERAS: _seeded(warped)}


def scipy_map_coordinates(image, mask):
    from scipy import ndimage

    rng = np.random.default_rng(1)
    here = np.mgrid[:SIDE, :SIDE].astype(np.float32)

    def warped():
        grid = rng.normal(scale=SIGMA, size=(2, POINTS, POINTS)).astype(np.float32)
        field = [ndimage.zoom(part, SIDE / POINTS, order=3, mode="nearest", grid_mode=True) for part in grid]
        positions = here + field
        ndimage.map_coordinates(image[..., 0], positions, order=1, mode="mirror")
        ndimage.map_coordinates(mask, positions, order=0, mode="mirror")

    return {"SciPy map_coordinates": warped}


def albumentations_transforms(image, mask):
    import albumentations

    from kerasseg._opencv import cv2

    transforms = {
        ALBUMENTATIONS + ", Simard's": albumentations.ElasticTransform(
            **SIMARD, border_mode=cv2.BORDER_REFLECT_101, p=1
        ),
        "albumentations GridElasticDeform": albumentations.GridElasticDeform((POINTS, POINTS), int(SIGMA), p=1),
    }
    composed = {name: albumentations.Compose([transform]) for name, transform in transforms.items()}
    return {name: lambda compose=compose: compose(image=image, mask=mask) for name, compose in composed.items()}


def _seeded(function):
    import tensorflow as tf

    generator = np.random.default_rng(1)

    def call():
        for array in function(tf.constant(generator.integers(2**31, size=2))):
            array.numpy()

    return call


def _repeated(call):
    def calls():
        for _ in range(CALLS):
            call()

    return calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help=f"samples of {CALLS} calls of each (default: 15)")
    parser.add_argument("--only", default="", help="only those with one of these, parted by commas, in their name")
    parser.add_argument("--json", type=Path, help="file to write all samples to")
    options = parser.parse_args()
    image, mask = pictures()
    calls, skipped = {}, {}
    makers = (ours_with_opencv, ours_with_tensorflow, keras_map_coordinates, scipy_map_coordinates)
    for maker in (*makers, albumentations_transforms):
        try:
            calls |= maker(image, mask)
        except (ImportError, AttributeError) as error:
            skipped[maker.__name__.replace("_", " ")] = str(error).splitlines()[0]
    wanted = options.only.split(",")
    calls = {name: _repeated(call) for name, call in calls.items() if any(part in name for part in wanted)}
    rows = _rates.summary(_rates.repeated(calls, CALLS, options.rounds), (KERAS, ALBUMENTATIONS + ", Simard's"))
    print(f"\n### Elastic deformation, {SIDE}x{SIDE} grey with mask\n\n{_rates.table(rows, skipped)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"sources": rows, "skipped": skipped}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    main()
