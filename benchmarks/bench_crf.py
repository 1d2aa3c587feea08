"""Time of the dense CRF on photographs of 500 x 375 with 21 classes, and how far it is from sums over all pixels.

    python benchmarks/bench_crf.py

Sums over all pairs are not run on whole photographs: their time is measured on one of 80 x 60 and scaled by pairs.
Differences are measured on photographs at half size, against `detail` beyond all pixels. pydensecrf is compared where
it is installed.
"""

import time
from functools import partial

import numpy as np
from _photographs import photographs

from kerasseg._opencv import cv2
from kerasseg.postprocess import CRF_PRESETS, dense_crf

try:
    import pydensecrf.densecrf as densecrf
except ImportError:
    densecrf = None


def case(data, mask, size):
    """Returns the image, cut or enlarged to `size`, and probabilities of a coarse mask."""
    image = cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), size)[..., ::-1]
    small = cv2.resize(np.where(mask > 20, 0, mask), (size[0] // 16, size[1] // 16), interpolation=cv2.INTER_NEAREST)
    layers = [cv2.resize((small == k).astype(np.float32), size) for k in range(21)]
    return np.ascontiguousarray(image), 0.9 * np.stack(layers, -1) + 0.1 / 21


def seconds(call, *arguments):
    """Returns elapsed and processor seconds of one call."""
    start, busy = time.perf_counter(), time.process_time()
    call(*arguments)
    return time.perf_counter() - start, time.process_time() - busy


def all_pairs(image, probabilities, settings):
    """Mean field's sums of one bilateral kernel over all pairs of pixels, as often as the CRF needs them."""
    H, W, K = probabilities.shape
    rows, columns = np.mgrid[:H, :W] / settings.bilateral_sigma
    features = np.dstack([rows, columns, image / settings.colour_sigma]).reshape(H * W, -1).astype(np.float32)
    half = 0.5 * (features**2).sum(1)
    for _ in range(settings.iterations + 1):
        np.exp(features @ features.T - half - half[:, None]) @ probabilities.reshape(H * W, K)


def lattice(image, probabilities, settings):
    H, W, K = probabilities.shape
    crf = densecrf.DenseCRF2D(W, H, K)
    crf.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities).reshape(-1, K).T, np.float32))
    kind = {"symmetric": densecrf.NORMALIZE_SYMMETRIC, "none": densecrf.NO_NORMALIZATION}[settings.normalization]
    crf.addPairwiseGaussian(sxy=settings.gaussian_sigma, compat=settings.gaussian_weight, normalization=kind)
    crf.addPairwiseBilateral(
        sxy=settings.bilateral_sigma,
        srgb=settings.colour_sigma,
        rgbim=image,
        compat=settings.bilateral_weight,
        normalization=kind,
    )
    return np.array(crf.inference(settings.iterations)).T.reshape(H, W, K)


def main():
    what, pairs = photographs()
    pairs = pairs[:2]
    print(f"\n### First {len(pairs)} of {what}\n")
    print("| preset | | s median | CPU s | largest difference | mean difference | other class |")
    print("|---|---|---|---|---|---|---|")
    for preset, settings in CRF_PRESETS.items():
        calls = {f"detail {d}": partial(dense_crf, preset=preset, detail=d) for d in (500, 1000, 2000)}
        if densecrf:
            calls["pydensecrf"] = partial(lattice, settings=settings)
        exact = [dense_crf(*case(*pair, (250, 188)), preset, detail=10**9) for pair in pairs]
        for name, call in calls.items():
            times = np.median([seconds(call, *case(*pair, (500, 375))) for pair in pairs], axis=0)
            found = [call(*case(*pair, (250, 188))) for pair in pairs]
            apart = [np.abs(one - other) for one, other in zip(found, exact, strict=True)]
            other = [(one.argmax(-1) != two.argmax(-1)).mean() for one, two in zip(found, exact, strict=True)]
            figures = [f"{times[0]:.1f}", f"{times[1]:.1f}", f"{max(a.max() for a in apart):.4f}"]
            figures += [f"{np.mean([a.mean() for a in apart]):.1e}", f"{100 * np.mean(other):.2f} %"]
            print(f"| {preset} | {' | '.join([name, *figures])} |", flush=True)
        elapsed, busy = seconds(all_pairs, *case(*pairs[0], (80, 60)), settings)
        scale = (500 * 375 / (80 * 60)) ** 2
        print(
            f"| {preset} | all pairs, scaled from 80 x 60 | {elapsed * scale:.0f} | {busy * scale:.0f} | 0 | 0 | 0 % |"
        )


if __name__ == "__main__":
    main()
