"""Where a prediction is right and where it is wrong, as a picture."""

import numpy as np

from kerasseg.postprocess._drawing import displayable, hatching
from kerasseg.spec import IGNORE_LABEL

# Dark blue against bright amber: apart by lightness alone, so in every kind of colour vision and in print.
RIGHT = np.array([28, 62, 104], np.uint8)
WRONG = np.array([255, 182, 0], np.uint8)


def error_map(
    mask: np.ndarray,
    predicted: np.ndarray,
    image: np.ndarray | None = None,
    *,
    ignore_label: int | None = IGNORE_LABEL,
) -> np.ndarray:
    """Draws right pixels dark blue, wrong ones amber, and those that do not count hatched in grey.

    Args:
        mask: The truth, integer [H, W].
        predicted: Integer [H, W].
        image: Shines through where the prediction is right; [H, W] or [H, W, C], as `displayable` takes it. None:
            plain blue.
        ignore_label: Pixels with this `mask` value do not count. None: every pixel counts.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: Sizes differ.
    """
    mask, predicted = np.asarray(mask), np.asarray(predicted)
    if mask.shape != predicted.shape or mask.ndim != 2:
        raise ValueError(
            f"expected a mask and a prediction [H, W] of one size, received {mask.shape}, {predicted.shape}"
        )
    picture = np.broadcast_to(RIGHT, (*mask.shape, 3)).astype(np.float32)
    if image is not None:
        shown = displayable(image)
        if shown.shape[:2] != mask.shape:
            raise ValueError(f"expected an image of the mask's size {mask.shape}, received {shown.shape[:2]}")
        # A third of the picture's lightness around the blue: it stays darker than the amber.
        picture = picture + (shown.mean(axis=2, keepdims=True) - 96) / 3
    ignored = np.zeros(mask.shape, bool) if ignore_label is None else mask == ignore_label
    picture[mask != predicted] = WRONG
    picture[ignored] = hatching(mask.shape)[ignored]
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
