"""From instance numbers to the boxes and classes of objects."""

import numpy as np
import scipy.ndimage

from kerasseg.spec import IGNORE_LABEL


def object_boxes(
    instances: np.ndarray, mask: np.ndarray, ignore_label: int = IGNORE_LABEL
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the box and the class of each object, in the order of their numbers.

    An object's class is the one that most of its pixels have in the mask, ignored pixels not counted; of equally many
    the lower one. An object all of whose pixels are ignored has no class and is left out. A box holds all of an
    object's pixels, the ignored ones too.

    Args:
        instances: Integers [H, W], 0 = none; numbers need not be consecutive.
        mask: uint8 [H, W], class ids.
        ignore_label: The mask's value for unknown pixels.

    Returns:
        Boxes float32 [N, 4]: ymin, xmin, ymax, xmax, where 0 and 1 are the outer edges of the image, so that a pixel in
        column x of W lies from x / W to (x + 1) / W. Classes int64 [N].

    Raises:
        ValueError: Shapes or types are not these.
    """
    instances, mask = np.asarray(instances), np.asarray(mask)
    if instances.ndim != 2 or instances.dtype.kind not in "ui" or mask.dtype != np.uint8:
        raise ValueError(
            "expected instances as integers [H, W] and a mask of uint8, received "
            f"{instances.dtype} {instances.shape} and {mask.dtype} {mask.shape}"
        )
    if instances.shape != mask.shape:
        raise ValueError(f"expected a mask of the instances' shape {instances.shape}, received {mask.shape}")
    if instances.size and instances.max() > np.iinfo(np.uint16).max:  # `find_objects` goes through all numbers
        ids, instances = np.unique(instances, return_inverse=True)
        instances = instances.reshape(mask.shape) + (ids[0] > 0)
    slices = scipy.ndimage.find_objects(instances.astype(np.int32, copy=False))
    counted = (instances > 0) & (mask != ignore_label)
    labels = mask[counted].astype(np.int64)
    num_labels = int(labels.max(initial=0)) + 1
    keys = (instances[counted].astype(np.int64) - 1) * num_labels + labels
    counts = np.bincount(keys, minlength=len(slices) * num_labels).reshape(len(slices), num_labels)
    kept = np.flatnonzero(counts.any(axis=1))
    edges = [(y.start, x.start, y.stop, x.stop) for y, x in (slices[i] for i in kept)]
    height, width = instances.shape
    boxes = np.array(edges, np.float64).reshape(-1, 4) / (height, width, height, width)
    return boxes.astype(np.float32), counts[kept].argmax(axis=1)
