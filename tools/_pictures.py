"""What the tools that make masks share: which images, whose classes and colours, and how the results are written."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from kerasseg.spec import DataError, DatasetSpec, voc_palette

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")


def image_files(paths: list[Path]) -> dict[str, Path]:
    """Returns {name to write to: file}: the files given, and the images of the folders given.

    Raises:
        DataError: There is no image in a folder, or two files would be written to the same name.
    """
    files = []
    for path in paths:
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: expected images ({', '.join(SUFFIXES)}) in this folder, found none")
        files += found
    stems = Counter(file.stem for file in files)
    names = [file.stem if stems[file.stem] == 1 else file.name.replace(".", "_") for file in files]
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        same = [str(file) for file, name in zip(files, names, strict=True) if name == double[0]]
        raise DataError(f"{' and '.join(same)} would be written to one name; predict them into different folders")
    return dict(zip(names, files, strict=True))


@dataclasses.dataclass(frozen=True)
class Classes:
    """Names and colours of a model's classes: those of its data set, or numbers and the VOC colours."""

    names: tuple[str, ...]
    palette: np.ndarray
    """uint8 [256, 3], the void's colour at 255."""

    @property
    def colours(self) -> np.ndarray:
        """uint8 [K, 3]."""
        return self.palette[: len(self.names)]

    @classmethod
    def numbered(cls, num_classes: int) -> "Classes":
        """Returns classes without names."""
        return cls(tuple(str(k) for k in range(num_classes)), voc_palette())

    @classmethod
    def of_data(cls, spec: DatasetSpec) -> "Classes":
        """Returns the classes of a data set."""
        return cls(tuple(spec.class_names), spec.palette_256())

    @classmethod
    def of_model(cls, path: Path, num_classes: int) -> "Classes":
        """Returns what `run.json` beside a trained model says, if it is there and says it of as many classes."""
        spec = dataset_of(path)
        return cls.of_data(spec) if spec and spec.num_classes == num_classes else cls.numbered(num_classes)

    @classmethod
    def of_export(cls, path: Path) -> "Classes":
        """Returns what the `kerasseg.json` of an exported model says.

        Raises:
            DataError: The file is missing or says nothing of classes.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            classes = cls.numbered(len(content["class_names"]))
            if content["palette"]:
                classes.palette[: len(content["palette"])] = content["palette"]
            return cls(tuple(content["class_names"]), classes.palette)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected the kerasseg.json of an exported model ({error})") from error


def run_of(model: Path) -> dict:
    """Returns `run.json` beside a trained model; empty where there is none that can be read."""
    try:
        content = json.loads((model.parent / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def dataset_of(model: Path) -> DatasetSpec | None:
    """Returns the data set that a model was trained on, if `run.json` beside it tells."""
    try:
        return DatasetSpec.from_dict(run_of(model)["dataset"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def save_mask(path: Path, mask: np.ndarray, palette: np.ndarray) -> None:
    """Writes a palette PNG: the pixels hold class ids, viewers show the colours."""
    picture = Image.fromarray(mask).convert("L")
    picture.putpalette(palette.tobytes())
    picture.save(path)


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture as PNG: RGB, or grey of 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
