"""From logits to classes, networks of one logit included."""

import numpy as np


def class_logits(logits: np.ndarray) -> np.ndarray:
    """Returns logits [..., K] of K classes; one logit z becomes the two logits 0 and z, as in `kerasseg.losses`.

    The softmax of these is what the sigmoid of z says.
    """
    if logits.shape[-1] > 1:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], -1)


def class_ids(logits: np.ndarray) -> np.ndarray:
    """Returns the most probable class of each pixel, uint8 [...], of logits [..., K]; of one logit, 1 where it is > 0.

    Raises:
        ValueError: There are more than 256 classes.
    """
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).view(np.uint8)
    if logits.shape[-1] == 2:  # argmax takes 25 times as long
        return (logits[..., 1] > logits[..., 0]).view(np.uint8)
    if logits.shape[-1] > 256:
        raise ValueError(f"expected at most 256 classes, which masks of 8 bits can hold, got {logits.shape[-1]}")
    return logits.argmax(-1).astype(np.uint8)
