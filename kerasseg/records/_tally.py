"""What is counted while a data set is written."""

import base64
import dataclasses
import zlib
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
        values: int64 [65536], how often its image has each value; None where nobody asks.
    """

    label: str
    parts: tuple[str, ...]
    counts: np.ndarray
    serialized: bytes
    values: np.ndarray | None = None


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
        values: int64 [65536], how often their images have each value; None where nobody asks.
    """

    class_pixels: np.ndarray
    class_image_pixels: np.ndarray
    ignored_pixels: int = 0
    num_examples: int = 0
    parts: tuple[str, ...] = ()
    first: str = ""
    values: np.ndarray | None = None

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
        self.merge(Tally(classes, images, ignored, 1, example.parts, example.label, example.values))

    def merge(self, other: "Tally") -> None:
        """Adds the counts of other examples."""
        if not self.num_examples:
            self.parts, self.first = other.parts, other.first
            self.values = None if other.values is None else np.zeros_like(other.values)
        self.class_pixels += other.class_pixels
        self.class_image_pixels += other.class_image_pixels
        self.ignored_pixels += other.ignored_pixels
        self.num_examples += other.num_examples
        if self.values is not None:
            self.values += other.values

    def to_dict(self) -> dict:
        """Returns what `from_dict` takes, in JSON's types."""
        arrays = {name: getattr(self, name).tolist() for name in ("class_pixels", "class_image_pixels")}
        values = None if self.values is None else zlib.compress(self.values.astype("<i8").tobytes())
        return dataclasses.asdict(self) | arrays | {"values": values and base64.b64encode(values).decode()}

    @classmethod
    def from_dict(cls, content: dict) -> "Tally":
        """Inverse of `to_dict`."""
        arrays = {name: np.array(content[name], np.int64) for name in ("class_pixels", "class_image_pixels")}
        if content["values"] is not None:
            packed = zlib.decompress(base64.b64decode(content["values"]))
            arrays["values"] = np.frombuffer(packed, "<i8").astype(np.int64)
        return cls(**{**content, **arrays, "parts": tuple(content["parts"])})
