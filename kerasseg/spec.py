"""What a data set is, said once: classes, palette, the ignored label, and what each split holds.

NumPy only. Everything that reads or writes data agrees on the terms defined here.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

IGNORE_LABEL = 255
"""Label of pixels that count nowhere: void, unknown, or padding."""

DATASET_FILE = "dataset.json"


class DataError(ValueError):
    """A fault in the user's data or files. The message names the file, what was expected and what to do."""


class CollectedDataError(DataError):
    """Several faults at once: the message gives each a line, the first `MAX_LISTED` of them.

    Attributes:
        faults: All of them, each once.
    """

    MAX_LISTED = 20

    def __init__(self, message: str, faults):
        """Puts the faults below `message`, which is told their number by `{}`."""
        self.faults = tuple(faults)
        lines = [" ".join(str(fault).split()) for fault in self.faults[: self.MAX_LISTED]]
        if len(self.faults) > self.MAX_LISTED:
            lines.append(f"and {len(self.faults) - self.MAX_LISTED} more")
        super().__init__("\n".join([message.format(len(self.faults)), *lines]))

    @classmethod
    def of(cls, message: str, faults) -> DataError:
        """Returns one error for some: the one itself where they all say the same."""
        faults = {str(fault): fault for fault in faults}
        return cls(message, faults) if len(faults) > 1 else next(iter(faults.values()))


def voc_palette(num_colours: int = 256) -> np.ndarray:
    """Returns the PASCAL VOC colour map, uint8 [num_colours, 3] RGB; entry 255 is the void's (224, 224, 192).

    Source: VOCdevkit `VOClabelcolormap.m`: bit j of a label's three bits lands in bit 7-j of red, green, blue.
    """
    labels = np.arange(num_colours)
    palette = np.zeros((num_colours, 3), np.uint8)
    for j in range(8):
        for channel in range(3):
            palette[:, channel] |= ((labels >> channel & 1) << (7 - j)).astype(np.uint8)
        labels = labels >> 3
    return palette


VOC_CLASS_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def centre(outer: int, inner: int) -> slice:
    """Returns the slice that cuts the central `inner` of `outer` elements (the odd one is left at the end).

    Works on numbers and on scalar tensors.
    """
    start = (outer - inner) // 2
    return slice(start, start + inner)


CT_WINDOWS = {
    "brain": (0, 80),
    "lung": (-1350, 150),
    "mediastinum": (-125, 225),
    "abdomen": (-150, 250),
    "liver": (-45, 105),
    "bone": (-500, 1300),
}
"""Ranges of computed tomography that are looked at, in Hounsfield units: air is -1000, water 0.

Source: the centres and widths that https://radiopaedia.org/articles/windowing-ct calls typical; they vary by house.
"""


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """One split of a data set.

    Attributes:
        num_examples: Images in it.
        files: Names of its record files, in order, relative to the data set's folder.
        class_pixels: Number of pixels of each class, K entries.
        ignored_pixels: Number of pixels with the ignored label.
        class_image_pixels: For each class, the pixels (ignored ones left out) of all images in which it occurs:
            the denominator of median-frequency balancing.
    """

    num_examples: int
    files: tuple[str, ...]
    class_pixels: tuple[int, ...]
    ignored_pixels: int = 0
    class_image_pixels: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A converted data set, as `dataset.json` in its folder tells it.

    Attributes:
        name: Also the stem of the record files.
        class_names: K names; the position is the class id.
        palette: K RGB triples 0-255, for drawing. Default: the VOC colour map.
        ignore_label: The mask value that counts nowhere.
        channels: Channels of the images.
        bit_depth: 8 or 16 (bits per channel of the stored images), or 32 for raw float32.
        value_range: The values of images of 16 or 32 bits that become 0 and 255, see `to_255`. None: those of 16 bits
            from 0 to 65535, those of 32 bits as they are.
        splits: Split name to `SplitSpec`.
        has_instances: Whether the records hold instance ids.
        has_weights: Whether the records hold weight maps.
        has_objects: Whether the records hold the boxes and classes of objects.
        has_proposals: Whether the records hold boxes that may be objects, from elsewhere.
        notes: How it was made (source, options), for people.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()
    ignore_label: int = IGNORE_LABEL
    channels: int = 3
    bit_depth: int = 8
    value_range: tuple[float, float] | None = None
    splits: dict[str, SplitSpec] = dataclasses.field(default_factory=dict)
    has_instances: bool = False
    has_weights: bool = False
    has_objects: bool = False
    has_proposals: bool = False
    notes: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not self.class_names:
            raise DataError(f"data set {self.name!r} has no class names; expected at least one")
        if self.num_classes > self.ignore_label:
            raise DataError(
                f"data set {self.name!r} has {self.num_classes} classes, but labels from {self.ignore_label} on "
                "are not class ids; expected at most that many classes"
            )
        if not self.palette:
            colours = voc_palette()[: self.num_classes]
            object.__setattr__(self, "palette", tuple(tuple(int(v) for v in c) for c in colours))
        if len(self.palette) != self.num_classes:
            raise DataError(f"data set {self.name!r}: {len(self.palette)} colours for {self.num_classes} classes")
        if self.value_range is not None and not (self.bit_depth > 8 and _is_range(self.value_range)):
            raise DataError(
                f"data set {self.name!r}: value_range {self.value_range} with {self.bit_depth} bits; expected two "
                "finite values, the lower first, and images of 16 or 32 bits"
            )

    @property
    def num_classes(self) -> int:
        """K: background included, the ignored label excluded."""
        return len(self.class_names)

    def palette_256(self) -> np.ndarray:
        """Returns uint8 [256, 3]: the classes' colours, the void's colour at `ignore_label`, black elsewhere."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: self.num_classes] = self.palette
        palette[self.ignore_label] = voc_palette()[255]
        return palette

    def split(self, name: str) -> SplitSpec:
        """Returns a split; raises `DataError` naming those that there are."""
        if name not in self.splits:
            raise DataError(f"data set {self.name!r} has no split {name!r}; it has: {', '.join(self.splits) or 'none'}")
        return self.splits[name]

    def to_dict(self) -> dict:
        """Returns the content of `dataset.json`."""
        return {"format": 1, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: dict) -> "DatasetSpec":
        """Inverse of `to_dict`."""
        values = {key: value for key, value in values.items() if key != "format"}
        values["class_names"] = tuple(values["class_names"])
        values["palette"] = tuple(tuple(colour) for colour in values["palette"])
        if values.get("value_range") is not None:
            values["value_range"] = tuple(values["value_range"])
        values["splits"] = {
            name: SplitSpec(**{key: tuple(v) if isinstance(v, list) else v for key, v in split.items()})
            for name, split in values["splits"].items()
        }
        return cls(**values)

    def save(self, directory) -> None:
        """Writes `dataset.json` in one step: readers see the whole file or none."""
        path = Path(directory) / DATASET_FILE
        partial = path.with_suffix(".partial")
        with open(partial, "w", encoding="utf-8") as file:
            file.write(json.dumps(self.to_dict(), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    @classmethod
    def load(cls, directory) -> "DatasetSpec":
        """Reads `dataset.json`; raises `DataError` where it is missing or not ours."""
        path = Path(directory) / DATASET_FILE
        if not path.is_file():
            raise DataError(
                f"{path} is missing: {directory} is not a complete converted data set; make one with a "
                "tools/convert_*.py (one that was broken off goes on where it was when it is called again)"
            )
        try:
            spec = cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
            _check_types(spec)
            return spec
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} is damaged ({error}); convert the data set again with --overwrite") from error


def _check_types(spec: DatasetSpec) -> None:
    """Raises `ValueError` where a value that was read from `dataset.json` cannot be what `save` wrote."""

    def is_count(*values) -> bool:
        return all(type(value) is int and value >= 0 for value in values)

    def are_texts(values) -> bool:
        return isinstance(values, tuple) and all(isinstance(value, str) for value in values)

    colours = [value for colour in spec.palette for value in colour]
    good = {
        "name": isinstance(spec.name, str),
        "class_names": are_texts(spec.class_names),
        "palette": all(len(c) == 3 for c in spec.palette) and is_count(*colours) and max(colours) <= 255,
        "ignore_label": spec.ignore_label == IGNORE_LABEL,
        "channels": is_count(spec.channels) and spec.channels > 0,
        "bit_depth": spec.bit_depth in (8, 16, 32),
        "notes": isinstance(spec.notes, dict),
    }
    for name, split in spec.splits.items():
        per_class = (split.class_pixels, split.class_image_pixels)
        good[f"splits of {name!r}"] = (
            are_texts(split.files)
            and is_count(split.num_examples, split.ignored_pixels)
            and all(isinstance(counts, tuple) and is_count(*counts) for counts in per_class)
            and all(len(counts) in (0, spec.num_classes) for counts in per_class)
        )
    wrong = [name for name, is_good in good.items() if not is_good]
    if wrong:
        raise ValueError(f"no legal value of {', '.join(wrong)}")


def _is_range(values) -> bool:
    return len(values) == 2 and -np.inf < values[0] < values[1] < np.inf


def to_255(image, value_range: tuple[float, float] | None = None, clip=np.clip):
    """Returns values of more than 8 bits as 0-255.

    Args:
        image: float32: an array, or a tensor with a `clip` for tensors (`tf.clip_by_value`).
        value_range: What becomes 0 and 255, in a straight line; what lies outside is cut off. None: 0 and 65535.
        clip: Called with values, minimum and maximum.
    """
    if value_range is None:
        return image / 257
    low, high = value_range
    return clip((image - low) / ((high - low) / 255), 0.0, 255.0)


def median_frequency_weights(spec: DatasetSpec, split: str = "train") -> np.ndarray:
    """Returns float32 [K]: median class frequency ÷ class frequency; 0 for a class that the split does not show.

    A class's frequency is its pixels ÷ the valid pixels of the images it occurs in.
    Source: Eigen & Fergus 2015 §6.3.2, as SegNet uses it.
    """
    counts = spec.split(split)
    pixels = np.array(counts.class_pixels, np.float64)
    shown = pixels > 0
    frequency = pixels[shown] / np.array(counts.class_image_pixels, np.float64)[shown]
    weights = np.zeros(spec.num_classes, np.float32)
    weights[shown] = np.median(frequency) / frequency
    return weights
