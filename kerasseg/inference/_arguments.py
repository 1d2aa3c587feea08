"""Arguments of segmenters, checked before there is an image."""

from collections.abc import Mapping

import numpy as np

from kerasseg.postprocess import dense_crf


def crf_options(crf: str | Mapping | None) -> dict | None:
    """Returns the arguments of `dense_crf` that are meant; raises `ValueError` where it would not take them."""
    if crf is None:
        return None
    options = {"preset": crf} if isinstance(crf, str) else crf
    try:
        options = dict(options)
        dense_crf(np.zeros((1, 1, 3), np.float32), np.full((1, 1, 2), 0.5, np.float32), **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"crf must be a preset or a mapping of arguments of dense_crf, got {crf!r} ({error})"
        ) from error
    return options
