"""Tell-tale mistakes in a data set, found in the counts of its labels and the texture of its masks."""

import dataclasses

import numpy as np

from kerasseg.spec import IGNORE_LABEL, VOC_CLASS_NAMES, DatasetSpec, voc_palette

MAX_BETWEEN = 0.05
"""Share of the pixels at borders that may have a label between those of their neighbours.

Measured: 0 in VOC, SBD and cell masks, 0.002 in CamVid; 0.10 to 0.58 after bilinear resizing by 0.8 or 2.
"""


@dataclasses.dataclass
class Counts:
    """What is counted of the masks of a split.

    Attributes:
        labels: Pixels of each label 0-255.
        images: Images in which each label occurs.
        class_image_pixels: For each label, the pixels that are not ignored of all images in which it occurs.
        edges: Pixels whose left and right neighbours differ.
        between: Those of them whose label lies strictly between these two.
        num_images: Masks counted.
        empty: Keys of images with no pixel that counts.
    """

    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    class_image_pixels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    edges: int = 0
    between: int = 0
    num_images: int = 0
    empty: list[str] = dataclasses.field(default_factory=list)

    def add(self, key: str, mask: np.ndarray) -> None:
        """Counts a mask, uint8 [H, W]."""
        counts = np.bincount(mask.ravel(), minlength=256)
        valid = mask.size - counts[IGNORE_LABEL]
        self.labels += counts
        self.images += counts > 0
        self.class_image_pixels += np.where(counts > 0, valid, 0)
        self.num_images += 1
        if not valid:
            self.empty.append(key)
        left, middle, right = mask[:, :-2], mask[:, 1:-1], mask[:, 2:]
        known = (left != IGNORE_LABEL) & (right != IGNORE_LABEL) & (left != right)
        between = (np.minimum(left, right) < middle) & (middle < np.maximum(left, right))
        self.edges += int(known.sum())
        self.between += int((known & between).sum())


def background_scores(labels: np.ndarray, num_classes: int) -> dict[int, float]:
    """Returns class to mIoU of predicting it everywhere, for class 0 and for the most frequent one.

    With that class everywhere its IoU is its share of the pixels that count, and that of every other class that
    occurs is 0; classes that neither occur nor are predicted are left out of the mean.
    """
    classes = labels[:num_classes]
    total = int(classes.sum())
    if not total:
        return {}
    scores = {}
    for label in dict.fromkeys([0, int(np.argmax(classes))]):
        shown = classes > 0
        shown[label] = True
        scores[label] = float(classes[label] / total / shown.sum())
    return scores


def suspicions(spec: DatasetSpec, split: str, counts: Counts) -> list[str]:
    """Returns what looks like a mistake though each record is legal, one line each."""
    found = []
    shown = [int(v) for v in np.flatnonzero(counts.labels)]
    classes = [v for v in shown if v < spec.num_classes]
    illegal = [v for v in shown if v >= spec.num_classes and v != spec.ignore_label]
    if set(shown) == {0, 255} or shown == [255]:
        found.append(
            f"0/255 masks: only {shown} occur, and 255 is ignored; if 255 means {spec.class_names[-1]!r}, convert "
            "again with --map 255=1"
        )
    elif classes and 0 not in classes and spec.num_classes > 1:
        found.append(
            f"labels shifted by one: class 0 ({spec.class_names[0]!r}) never occurs, the labels are {classes[0]} to "
            f"{classes[-1]}; ids start at 0"
        )
    if illegal == [spec.num_classes]:
        found.append(
            f"labels shifted by one, or a class too few: {spec.num_classes} occurs, but the {spec.num_classes} classes "
            f"are 0 to {spec.num_classes - 1}"
        )
    greys = set(_palette_greys(spec))
    if illegal and sum(v in greys for v in illegal) > 0.8 * len(illegal):
        found.append(
            f"palette decoded as colour: the labels {illegal[:6]} are the grey levels of the palette's colours"
        )
    if _is_voc(spec) and not counts.labels[spec.ignore_label]:
        found.append("void missing: no pixel is 255, but VOC's masks have a border of 255 around each object")
    if counts.edges and counts.between > MAX_BETWEEN * counts.edges and spec.num_classes > 2:
        found.append(
            f"masks blurred by resizing: {100 * counts.between / counts.edges:.0f} % of the pixels on borders have a "
            "label between those of their neighbours; resize masks with nearest neighbour only"
        )
    if counts.empty:
        found.append(f"{len(counts.empty)} images have only ignored pixels, first {counts.empty[0]}")
    return [f"{split}: {text}" for text in found]


def _is_voc(spec: DatasetSpec) -> bool:
    return spec.class_names == VOC_CLASS_NAMES and spec.notes.get("tool") != "convert_sbd.py"


def _palette_greys(spec: DatasetSpec) -> list[int]:
    """Returns the grey levels that the palette's and the VOC map's colours become when a mask is read as a picture."""
    colours = np.concatenate([np.array(spec.palette), voc_palette(spec.num_classes + 1)[1:], voc_palette()[-1:]])
    return [int(v) for v in np.unique(np.rint(colours @ np.array([0.299, 0.587, 0.114]))) if v >= spec.num_classes]
