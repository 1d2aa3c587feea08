"""Tell-tale mistakes in a data set, found in the counts of its labels and the texture of its masks."""

import dataclasses

import numpy as np

from kerasseg.spec import IGNORE_LABEL, VOC_CLASS_NAMES, DatasetSpec, voc_palette

MAX_BETWEEN = 0.05
"""Share of the pixels at borders that may have a label between those of their neighbours.

Measured: 0 in VOC, SBD and cell masks, 0.002 in CamVid; 0.10 to 0.58 after bilinear resizing by 0.8 or 2.
"""


MAX_LACKING = 0.5
"""Share of the pixels of objects that may be of class 0, and of the other classes that may be of no object."""

MIN_ALIGNED = 0.2
"""Mean alignment (`Counts.alignment`) that masks have with their own images.

Measured: VOC 0.44, CamVid 0.43, membranes 0.50, cells 0.60 to 1.7; with the mask of another image 0.01 to 0.13 (of the
next frame of a film 0.28 to 0.82, which is not noticed), mirrored 0.00 to 0.03, shifted by 9 pixels 0.04 to 0.15.
"""

MAX_IGNORED = 0.1
"""Share of ignored pixels beyond which it is asked whether a class was lost to them; VOC 0.055, CamVid 0.04."""

BACKGROUNDS = ("background", "_background_", "bg", "other", "others", "none")
"""Names of a first class that most images show."""

MIN_IMAGES = 5
"""Images below which nothing is said about what only many show."""


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
        constant: Keys of images whose mask is of one class and nothing else.
        disagreeing: Keys of images whose instances lie elsewhere than the mask's classes.
        alignment: Of each image, how well the mask's borders follow the image's edges.
    """

    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    class_image_pixels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(256, np.int64))
    edges: int = 0
    between: int = 0
    num_images: int = 0
    empty: list[str] = dataclasses.field(default_factory=list)
    constant: list[str] = dataclasses.field(default_factory=list)
    disagreeing: list[str] = dataclasses.field(default_factory=list)
    alignment: list[float] = dataclasses.field(default_factory=list)

    def add(self, key: str, mask: np.ndarray, image: np.ndarray, instances: np.ndarray | None = None) -> None:
        """Counts a mask, uint8 [H, W], of an image [H, W, C] with instances [H, W], or without."""
        counts = np.bincount(mask.ravel(), minlength=256)
        valid = mask.size - counts[IGNORE_LABEL]
        self.labels += counts
        self.images += counts > 0
        self.class_image_pixels += np.where(counts > 0, valid, 0)
        self.num_images += 1
        if not valid:
            self.empty.append(key)
        elif (counts > 0).sum() == 1:
            self.constant.append(key)
        if instances is not None and _disagrees(mask, instances):
            self.disagreeing.append(key)
        left, middle, right = mask[:, :-2], mask[:, 1:-1], mask[:, 2:]
        known = (left != IGNORE_LABEL) & (right != IGNORE_LABEL) & (left != right)
        between = (np.minimum(left, right) < middle) & (middle < np.maximum(left, right))
        self.edges += int(known.sum())
        self.between += int((known & between).sum())
        aligned = _alignment(mask, image)
        if aligned is not None:
            self.alignment.append(aligned)

    def merge(self, other: "Counts") -> None:
        """Adds the counts of other masks."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def _disagrees(mask: np.ndarray, instances: np.ndarray) -> bool:
    """Whether most pixels of the objects are of class 0, or most of the other classes' pixels of no object."""
    objects, classes = instances > 0, (mask > 0) & (mask != IGNORE_LABEL)
    known = mask != IGNORE_LABEL
    lacking = (objects & known & ~classes).sum() > MAX_LACKING * max((objects & known).sum(), 1)
    return bool(lacking or (classes & ~objects).sum() > MAX_LACKING * max(classes.sum(), 1))


def _alignment(mask: np.ndarray, image: np.ndarray) -> float | None:
    """Returns how much steeper the image is along the borders of the mask than a little beside them.

    In units of the steepness's standard deviation; 0 is expected of a mask of another image. None where there is no
    border or no contrast.
    """
    steep = _steepness(image)
    spread = float(steep.std())
    border = np.zeros(mask.shape, bool)
    border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    border[1:] |= mask[1:] != mask[:-1]
    distance = max(8, min(mask.shape) // 20)
    rows, columns = np.nonzero(border)
    inside = (rows >= distance) & (rows < mask.shape[0] - distance)
    inside &= (columns >= distance) & (columns < mask.shape[1] - distance)
    rows, columns = rows[inside], columns[inside]
    if not spread or len(rows) < 20:
        return None
    beside = [steep[rows + y, columns + x] for y, x in ((distance, 0), (-distance, 0), (0, distance), (0, -distance))]
    return float(steep[rows, columns].mean() - np.mean(beside)) / spread


def _steepness(image: np.ndarray) -> np.ndarray:
    """Returns the differences to the neighbours in one channel, blurred, for borders of masks are not exact."""
    grey = image[..., image.shape[2] // 2].astype(np.float32)
    steep = np.zeros_like(grey)
    steep[:, 1:-1] += np.abs(grey[:, 2:] - grey[:, :-2])
    steep[1:-1] += np.abs(grey[2:] - grey[:-2])
    for axis in (0, 1):
        steep = sum(np.roll(steep, step, axis) for step in range(-2, 3))
    return np.log1p(steep)


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
    else:
        found += _shifts(spec, counts, classes, illegal)
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
    found += _of_images(spec, counts, classes)
    return [f"{split}: {text}" for text in found]


def _shifts(spec: DatasetSpec, counts: Counts, classes: list[int], illegal: list[int]) -> list[str]:
    """Returns whether the labels look as if 1 had been added to them, or taken off."""
    found, last = [], spec.num_classes - 1
    first_name = spec.class_names[0]
    if classes and 0 not in classes and spec.num_classes > 1:
        found.append(
            f"labels shifted by one: class 0 ({first_name!r}) never occurs, the labels are {classes[0]} to "
            f"{classes[-1]}; ids start at 0"
        )
    if illegal == [spec.num_classes]:
        found.append(
            f"labels shifted by one, or a class too few: {spec.num_classes} occurs, but the {spec.num_classes} classes "
            f"are 0 to {last}"
        )
    if illegal == [254]:
        found.append("labels shifted by one: 254 occurs, which is what 255 (ignored) becomes when 1 is taken off")
    ignored = counts.labels[spec.ignore_label] / max(counts.labels.sum(), 1)
    if classes and classes[-1] < last and ignored > MAX_IGNORED and spec.num_classes > 2 and not illegal:
        rare = counts.images[0] < 0.5 * counts.num_images and first_name.lower() in BACKGROUNDS
        if rare or classes == list(range(last)):
            found.append(
                f"labels shifted by one: {100 * ignored:.0f} % of the pixels are ignored and the last class "
                f"({spec.class_names[-1]!r}) never occurs, as when 1 is taken off and {first_name!r} becomes 255"
            )
    return found


def _of_images(spec: DatasetSpec, counts: Counts, classes: list[int]) -> list[str]:
    """Returns what single images, or the images with their masks, look like."""
    found = []
    if counts.empty:
        found.append(f"{len(counts.empty)} images have only ignored pixels, first {counts.empty[0]}")
    only_ignored = classes == [0] and counts.labels[spec.ignore_label]  # told as 0/255 masks
    if len(classes) == 1 and spec.num_classes > 1 and counts.num_images > 1 and not only_ignored:
        found.append(f"one class only: of {spec.num_classes} classes {spec.class_names[classes[0]]!r} alone occurs")
    elif len(counts.constant) > 0.5 * counts.num_images and counts.num_images >= MIN_IMAGES:
        found.append(f"constant masks: {len(counts.constant)} hold one class only, first {counts.constant[0]}")
    if counts.disagreeing:
        found.append(
            f"instances disagree with the mask in {len(counts.disagreeing)} images, first {counts.disagreeing[0]}: "
            "most of the objects' pixels are of class 0, or most of the other classes' of no object"
        )
    if len(counts.alignment) >= MIN_IMAGES and np.mean(counts.alignment) < MIN_ALIGNED:
        found.append(
            "masks that do not follow the edges of their images (alignment "
            f"{np.mean(counts.alignment):.2f}, usual is above 0.4): do they belong to other images, or is one of the "
            "two mirrored, turned or shifted? Look at the sheet"
        )
    return found


def _is_voc(spec: DatasetSpec) -> bool:
    return spec.class_names == VOC_CLASS_NAMES and spec.notes.get("tool") != "convert_sbd.py"


def _palette_greys(spec: DatasetSpec) -> list[int]:
    """Returns the grey levels that the palette's and the VOC map's colours become when a mask is read as a picture."""
    colours = np.concatenate([np.array(spec.palette), voc_palette(spec.num_classes + 1)[1:], voc_palette()[-1:]])
    return [int(v) for v in np.unique(np.rint(colours @ np.array([0.299, 0.587, 0.114]))) if v >= spec.num_classes]
