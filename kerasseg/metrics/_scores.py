"""The confusion matrix and the scores that follow from it, in NumPy."""

from collections.abc import Sequence

import numpy as np

from kerasseg.spec import IGNORE_LABEL


def confusion_matrix(
    mask: np.ndarray, predicted: np.ndarray, num_classes: int, ignore_label: int | None = IGNORE_LABEL
) -> np.ndarray:
    """Counts pixels by true class (row) and predicted class (column).

    Matrices of several images add up to the matrix of them all.

    Args:
        mask: Class ids, any shape, integers in 0..K-1 or `ignore_label`.
        predicted: Class ids, same shape, integers in 0..K-1; where `mask` is ignored, any value will do.
        num_classes: K.
        ignore_label: Pixels with this `mask` value do not count. None: every pixel counts.
    Returns:
        int64 [K, K].
    Raises:
        ValueError: Shapes differ, or a label that counts is outside 0..K-1. (The original DeepLab-v3 code counts
            such labels as further classes; a score over classes that the model cannot name helps nobody.)
        TypeError: An array is not of integers.
    """
    mask, predicted = check_pair(mask, predicted, num_classes, ignore_label)
    if ignore_label is not None:
        counts = mask != ignore_label
        mask, predicted = mask[counts], predicted[counts]
    cells = mask.ravel().astype(np.int64) * num_classes + predicted.ravel()
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def scores(confusion_matrix: np.ndarray, class_names: Sequence[str] | None = None, *, per_image: bool = False) -> dict:
    """Derives the usual scores from a confusion matrix, or from those of single images.

    Args:
        confusion_matrix: [K, K], rows truth, columns prediction; with `per_image`, [N, K, K]: one for each image.
        class_names: K names; default "0", "1", ...
        per_image: Score each image alone and take the mean over the images, as the original DeepLab-v3 project does;
            images without a pixel that counts are left out. Its mean IoU of an image sums over the classes in truth or
            prediction, but divides by the number of those in the truth: a class that is predicted wrongly and nowhere
            true costs only the pixels that it takes from others. It counts 255 as one more class where that was not
            taken out before; `confusion_matrix(..., 256, ignore_label=None)` does.
    Returns:
        Plain Python values, ready for JSON:
            mean_iou: Mean over the classes that occur in truth or prediction (`per_image`: in the image's truth).
            pixel_accuracy: Right pixels ÷ all pixels.
            mean_accuracy: Mean over the classes in the truth of right pixels ÷ true pixels.
            frequency_weighted_iou: IoU weighted by the share of true pixels.
            per_class_iou: {name: intersection ÷ union}, without the absent classes (`per_image`: the mean over the
                images whose truth shows the class, without classes that no image's truth shows).
            absent_classes: Names of classes in neither truth nor prediction: no IoU, left out of the mean (`per_image`:
                names of classes in no image's truth).
        A matrix without any pixel gives 0 for each and lists every class as absent.
    Raises:
        ValueError: The matrix is not square, or there are not K names.
    Source: the four measures of FCN (Long et al. 2015, §5), accumulated over the set as its `score.py` does;
        `per_image` as the original DeepLab-v3 project's `metrics.py`.
    """
    matrix = np.asarray(confusion_matrix, np.float64)
    axes = 3 if per_image else 2
    if matrix.ndim != axes or matrix.shape[-2] != matrix.shape[-1]:
        raise ValueError(
            f"expected {'confusion matrices [N, K, K]' if per_image else 'a confusion matrix [K, K]'}, received shape "
            f"{matrix.shape}"
        )
    num_classes = matrix.shape[-1]
    names = [str(k) for k in range(num_classes)] if class_names is None else [str(name) for name in class_names]
    if len(names) != num_classes:
        raise ValueError(f"expected {num_classes} class names, one a row, received {len(names)}")
    if per_image:
        return _means_over_images(matrix, names)

    right, true = matrix.diagonal(), matrix.sum(1)
    union = true + matrix.sum(0) - right
    present = union > 0
    iou = _ratio(right, union)
    return {
        "mean_iou": _mean(iou[present]),
        "pixel_accuracy": float(_ratio(right.sum(), true.sum())),
        "mean_accuracy": _mean(_ratio(right, true)[true > 0]),
        "frequency_weighted_iou": float(_ratio((true * iou).sum(), true.sum())),
        "per_class_iou": {name: float(v) for name, v, there in zip(names, iou, present, strict=True) if there},
        "absent_classes": [name for name, there in zip(names, present, strict=True) if not there],
    }


def _means_over_images(matrices: np.ndarray, names: list[str]) -> dict:
    """Returns the scores of each image, averaged over the images, from float64 [N, K, K]."""
    matrices = matrices[matrices.sum((1, 2)) > 0]
    right, true = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(2)  # [N, K]
    iou = _ratio(right, true + matrices.sum(1) - right)
    shown, total = true > 0, true.sum(1)
    images = shown.sum(0)  # [K]: those whose truth shows the class
    # A class that is predicted, but not true, has an IoU of 0 and so no part in the sum.
    return {
        "mean_iou": _mean(_ratio(iou.sum(1), shown.sum(1))),
        "pixel_accuracy": _mean(_ratio(right.sum(1), total)),
        "mean_accuracy": _mean(_ratio(_ratio(right, true).sum(1), shown.sum(1))),
        "frequency_weighted_iou": _mean(_ratio((true * iou).sum(1), total)),
        "per_class_iou": {
            name: float(v) for name, v, n in zip(names, _ratio(iou.sum(0), images), images, strict=True) if n
        },
        "absent_classes": [name for name, n in zip(names, images, strict=True) if not n],
    }


def _ratio(numerator, denominator):
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


def check_pair(mask, predicted, num_classes: int, ignore_label: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns mask and prediction as arrays; what is wrong with them raises as `confusion_matrix` says."""
    mask, predicted = np.asarray(mask), np.asarray(predicted)
    if mask.shape != predicted.shape:
        raise ValueError(
            f"expected a mask and a prediction of one shape, received {mask.shape} and {predicted.shape}; "
            "cut or resize one to the other first"
        )
    _check_integers(mask, "mask")
    _check_integers(predicted, "prediction")
    counts = slice(None) if ignore_label is None else mask != ignore_label
    _check_range(mask[counts], num_classes, "mask")
    _check_range(predicted[counts], num_classes, "prediction")
    return mask, predicted


def _check_integers(labels: np.ndarray, what: str) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"expected integer class ids in the {what}, received {labels.dtype}; take argmax of logits first"
        )


def _check_range(labels: np.ndarray, num_classes: int, what: str) -> None:
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if outside.size:
        raise ValueError(
            f"expected labels 0..{num_classes - 1} in the {what}, received {np.unique(outside)[:5].tolist()} at "
            f"{outside.size} pixels; check num_classes and ignore_label against the data set"
        )
