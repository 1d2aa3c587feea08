"""Single objects from a class map."""

import numpy as np
from skimage.measure import label
from skimage.segmentation import expand_labels

# How far objects grow over pixels of other classes than the background: over the rims that part them.
_RIM = 2


def objects(mask: np.ndarray, object_class: int = 1) -> np.ndarray:
    """Turns a class map into objects: the connected components (4 neighbours) of one class.

    Where there is a third class besides background and object, such as the rims that part touching cells, the objects
    grow over it by up to two pixels.

    Args:
        mask: Class ids, integer [H, W]; 0 is the background.
        object_class: The class whose components are the objects.

    Returns:
        int32 [H, W]: 0 = no object, 1, 2, ... the objects.
    """
    found = label(mask == object_class, connectivity=1).astype(np.int32)
    others = (mask != 0) & (mask != object_class)
    return np.where(others, expand_labels(found, _RIM), found) if others.any() else found
