"""Predictions in the layout that the PASCAL VOC evaluation server takes.

Source: VOCinit.m of the VOC2012 development kit, `VOCopts.seg.clsrespath`, which is
results/VOC2012/Segmentation/%s_%s_cls/%s.png with the competition (comp5: trained on VOC's own data alone, comp6: on
any) and the image set; PNG files with the palette of VOC and the indices 0 to 20.
"""

import contextlib
import io
import os
import re
import shutil
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from kerasseg.spec import VOC_CLASS_NAMES, DataError, voc_palette

_ARCHIVES = {".tar": "w", ".tgz": "w:gz", ".gz": "w:gz"}


def add_options(parser) -> None:
    """Adds what asks for a submission."""
    group = parser.add_argument_group("PASCAL VOC evaluation server")
    group.add_argument(
        "--voc-submission", type=Path, metavar="PATH", help="write the masks for the server: a folder, or .tar or .tgz"
    )
    group.add_argument("--voc-results", default="comp6_test_cls", help="name of the competition and of the image set")


def of(options, num_classes: int):
    """Returns the `Submission` that the options ask for, as a context; of nothing (None) where they do not."""
    if options.voc_submission is None:
        return contextlib.nullcontext()
    return Submission(options.voc_submission, options.voc_results, num_classes)


class Submission:
    """Takes masks and writes them for the server; use as a context, so that a run broken off leaves nothing whole.

    Args:
        path: A folder that results/VOC2012/Segmentation/RESULTS is made in, or a file .tar, .tgz or .tar.gz.
        results: Such as comp5_test_cls or comp6_test_cls.
        num_classes: Of the model: 21.
    Raises:
        DataError: `results` is none of the server's names, the classes are not VOC's, or there are results already.
    """

    def __init__(self, path: Path, results: str, num_classes: int):
        if not re.fullmatch(r"comp[56]_(train|val|trainval|test)_cls", results):
            raise DataError(f"--voc-results {results}: expected comp5_test_cls, comp6_test_cls, or one of another set")
        if num_classes != len(VOC_CLASS_NAMES):
            raise DataError(
                f"--voc-submission: the predictions tell {num_classes} classes apart; expected the "
                f"{len(VOC_CLASS_NAMES)} of PASCAL VOC"
            )
        self.folder = PurePosixPath("results", "VOC2012", "Segmentation", results)
        self._path, self._archive, self._names = Path(path), None, set()
        self._partial = self._path.with_name(self._path.name + ".partial")
        there = self._path if self._is_archive else self._path / self.folder
        if there.is_file() or (there.is_dir() and any(there.iterdir())):
            raise DataError(f"{there} is there already; remove it, or give --voc-submission another place")

    @property
    def _is_archive(self):
        return self._path.suffix in _ARCHIVES

    def __enter__(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._remove()
        if self._is_archive:
            self._archive = tarfile.open(self._partial, _ARCHIVES[self._path.suffix])
        return self

    def add(self, key: str, mask: np.ndarray) -> None:
        """Writes one mask, integer [H, W], 0-20, under the image's name.

        Raises:
            DataError: It holds other labels, or there was a mask of that name.
        """
        name = PurePosixPath(key).name
        if name in self._names:
            raise DataError(f"two images are called {name}; the server knows images by their names alone")
        self._names.add(name)
        if mask.max(initial=0) >= len(VOC_CLASS_NAMES):
            raise DataError(f"the mask of {key} holds the label {mask.max()}; the server takes 0 to 20")
        picture = Image.fromarray(mask.astype(np.uint8)).convert("L")
        picture.putpalette(voc_palette().tobytes())
        data = io.BytesIO()
        picture.save(data, "PNG")
        inside = self.folder / f"{name}.png"
        if self._archive:
            entry = tarfile.TarInfo(str(inside))
            entry.size = len(data.getvalue())
            self._archive.addfile(entry, io.BytesIO(data.getvalue()))
        else:
            file = self._partial / inside
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.getvalue())

    def __exit__(self, kind, error, trace):
        if self._archive:
            self._archive.close()
        if kind is None and self._archive:
            os.replace(self._partial, self._path)
        elif kind is None and self._names:
            target = self._path / self.folder
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                target.rmdir()  # It is empty, else the constructor had refused.
            os.replace(self._partial / self.folder, target)
        self._remove()

    def _remove(self):
        if self._partial.is_dir():
            shutil.rmtree(self._partial)
        self._partial.unlink(missing_ok=True)
