"""Sheets of validation images, as the model sees them."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kerasseg.metrics import confusion_matrix, scores
from kerasseg.postprocess import legend, montage, overlay
from kerasseg.spec import IGNORE_LABEL
from kerasseg.training._validation import Sample

_SIDE = 256
_WRONG = ((0, 0, 0), (230, 30, 30))


def sheet(
    samples: Sequence[Sample],
    class_names: Sequence[str],
    palette: np.ndarray,
    ignore_label: int | None = IGNORE_LABEL,
    step: int | None = None,
) -> np.ndarray:
    """Draws image, truth, prediction and error map of each sample side by side, with a legend of the classes.

    In the error map wrong pixels are red; ignored ones are hatched. Below the prediction stands the image's own mean
    IoU, below the error map the share of wrong pixels among those that count.

    Args:
        samples: One at least.
        class_names: K names.
        palette: RGB 0-255, [K, 3].
        ignore_label: Mask value that does not count.
        step: Of the training, to stand above the predictions.
    Returns:
        uint8 [H, W, 3] RGB.
    """
    rows, captions, present = [], [], set()
    for sample in samples:
        matrix = confusion_matrix(sample.mask, sample.predicted, len(class_names), ignore_label)
        found = scores(matrix)
        image, mask, predicted = _thinned(sample.image, sample.mask, sample.predicted)
        ignored = np.zeros(mask.shape, bool) if ignore_label is None else mask == ignore_label
        truth = np.where(ignored, IGNORE_LABEL, mask)
        wrong = np.where(ignored, IGNORE_LABEL, mask != predicted)
        drawn = (overlay(image, labels, palette, alpha=0.7, outlines=False) for labels in (truth, predicted))
        grey = image.mean(axis=2)
        rows.append([image, *drawn, overlay(grey, wrong, _WRONG, alpha=0.7, outlines=False)])
        captions.append(
            [f"image {sample.number}", "", f"IoU {found['mean_iou']:.3f}", f"{1 - found['pixel_accuracy']:.1%} wrong"]
        )
        present |= {*np.unique(truth).tolist(), *np.unique(predicted).tolist()}
    return montage(
        rows,
        titles=["image", "truth", "prediction" if step is None else f"prediction at step {step}", "errors"],
        captions=captions,
        footer=lambda width: legend(class_names, palette, classes=sorted(present), width=width),
        side=_SIDE,
    )


def _thinned(*arrays):
    """Leaves rows and columns out where an image is far larger than it will be drawn."""
    step = max(1, max(arrays[0].shape[:2]) // (2 * _SIDE))
    return [array[::step, ::step] for array in arrays]


def encoded(picture: np.ndarray, kind: str) -> bytes:
    """Returns uint8 [H, W, 3] as a file of the kind "PNG" or "JPEG"."""
    file = io.BytesIO()
    # PNG: twice as fast as the default of 6, and some 5 % larger.
    options = {"compress_level": 3} if kind == "PNG" else {"quality": 90, "subsampling": 0}
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file in one step, its folder too: readers see the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
