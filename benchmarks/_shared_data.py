"""Generated images and masks, the same for all contestants."""

import numpy as np


def images(shape):
    """Returns float32 of this shape, 0-255."""
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def masks(shape):
    """Returns int32 of this shape, of the first two classes."""
    return np.random.default_rng(1).integers(0, 2, shape).astype(np.int32)
