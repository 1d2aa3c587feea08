"""What is counted while a data set is written."""

import dataclasses
from typing import NamedTuple

import numpy as np

from kerasseg.spec import DatasetSpec


class Prepared(NamedTuple):
    """What is left of an example when a worker has done its part.

    Attributes:
        label: How an error message calls it.
        parts: What it holds beside its image.
        counts: int64 [256], the labels of its mask.
        serialized: Its record.
    """

    label: str
    parts: tuple[str, ...]
    counts: np.ndarray
    serialized: bytes


@dataclasses.dataclass
class Tally:
    """Counts of some examples.

    Attributes:
        class_pixels: int64 [K].
        class_image_pixels: int64 [K], see `SplitSpec`.
        ignored_pixels: With the ignored label.
        num_examples: How many were counted.
        parts: What they hold beside their images.
        first: The label of the first of them.
    """

    class_pixels: np.ndarray
    class_image_pixels: np.ndarray
    ignored_pixels: int = 0
    num_examples: int = 0
    parts: tuple[str, ...] = ()
    first: str = ""

    @classmethod
    def of(cls, spec: DatasetSpec) -> "Tally":
        """Returns one that has counted nothing."""
        zeros = np.zeros(spec.num_classes, np.int64)
        return cls(zeros, zeros.copy())

    def add(self, example: Prepared, ignore_label: int) -> None:
        """Counts one example."""
        classes = example.counts[: len(self.class_pixels)]
        images = np.where(classes > 0, classes.sum(), 0)
        ignored = int(example.counts[ignore_label])
        self.merge(Tally(classes, images, ignored, 1, example.parts, example.label))

    def merge(self, other: "Tally") -> None:
        """Adds the counts of other examples."""
        if not self.num_examples:
            self.parts, self.first = other.parts, other.first
        self.class_pixels += other.class_pixels
        self.class_image_pixels += other.class_image_pixels
        self.ignored_pixels += other.ignored_pixels
        self.num_examples += other.num_examples

    def to_dict(self) -> dict:
        """Returns what `from_dict` takes, in JSON's types."""
        arrays = {name: getattr(self, name).tolist() for name in ("class_pixels", "class_image_pixels")}
        return dataclasses.asdict(self) | arrays

    @classmethod
    def from_dict(cls, content: dict) -> "Tally":
        """Inverse of `to_dict`."""
        arrays = {name: np.array(content[name], np.int64) for name in ("class_pixels", "class_image_pixels")}
        return cls(**{**content, **arrays, "parts": tuple(content["parts"])})
