"""The files that hold proposals: text and CSV tables, and MATLAB's, for one image or for all."""

import re
from pathlib import Path

import _convert
import numpy as np

from kerasseg.spec import DataError

ORDERS = {
    "xyxy": ("xmin", "ymin", "xmax", "ymax"),
    "yxyx": ("ymin", "xmin", "ymax", "xmax"),
    "xywh": ("x", "y", "w", "h"),
}
"""What the four columns of a box are."""


def read_table(path: Path, order: str) -> np.ndarray:
    """Returns the boxes of a text or CSV file of one image, float64 [N, 4], as they are there."""
    return _numbers([row for _, row in _rows(path, order, 0)], path)


def read_table_of_all(path: Path, order: str) -> dict[str, np.ndarray]:
    """Returns the boxes of each image of a table whose first column is the image's name."""
    grouped: dict[str, list] = {}
    for name, row in _rows(path, order, 1):
        grouped.setdefault(_convert.stem_of(name), []).append(row)
    return {name: _numbers(rows, path) for name, rows in grouped.items()}


def _rows(path: Path, order: str, first: int):
    """Yields (name or "", (line number, four numbers as text)) of a table; `first` columns come before the numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no text file that can be read ({error}); expected a table of boxes") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        row = [word.strip() for word in line.split(",")] if "," in line else re.split(r"[;\s]+", line)
        if number == 1 and len(row) >= first + 4 and not _is_number(row[first]):
            _check_header(path, order, [word.lower() for word in row[first : first + 4]])
            continue
        if len(row) not in (first + 4, first + 5):
            expected = ("name, " if first else "") + ", ".join(ORDERS[order])
            raise DataError(f"{path}, line {number}: expected {expected} and perhaps a score, found {' '.join(row)!r}")
        yield row[0] if first else "", (number, row[first : first + 4])


def _check_header(path: Path, order: str, found: list[str]) -> None:
    expected = list(ORDERS[order])
    if found != expected and any(sorted(found) == sorted(names) for names in ORDERS.values()):
        raise DataError(
            f"{path} says that its columns are {', '.join(found)}; --proposals-order {order} "
            f"means {', '.join(expected)}"
        )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(rows, path: Path) -> np.ndarray:
    values = np.zeros((len(rows), 4))
    for i, (line, row) in enumerate(rows):
        if not all(map(_is_number, row)):
            raise DataError(f"{path}, line {line}: expected four numbers, found {' '.join(row)!r}")
        values[i] = [float(word) for word in row]
    return _finite(values, path)


_NOTHING = np.zeros((0, 4))


def read_mat(path: Path) -> np.ndarray:
    """Returns the array `boxes` of a .mat file of one image."""
    return _box_array(_load_mat(path)["boxes"], path)


def read_mat_of_all(path: Path) -> dict[str, np.ndarray]:
    """Returns the boxes of each image of a .mat file with the cells `images` (names) and `boxes`, as Fast R-CNN's."""
    content = _load_mat(path)
    if "images" not in content or content["images"].size != content["boxes"].size or content["boxes"].dtype != object:
        raise DataError(
            f"{path}: expected two cell arrays of one length, `images` (names) and `boxes`; a folder with a .mat for "
            "each image works as well"
        )
    names = [str(np.ravel(name)[0]) for name in content["images"].ravel()]
    return {
        _convert.stem_of(name): _box_array(boxes, f"{path}, image {name!r}")
        for name, boxes in zip(names, content["boxes"].ravel(), strict=True)
    }


def _load_mat(path: Path) -> dict:
    from kerasseg.records import read_mat

    content = read_mat(path)
    if "boxes" not in content:
        found = ", ".join(content) or "nothing"
        raise DataError(f"{path} holds no array `boxes`, but {found}; save the proposals under that name")
    if not all(isinstance(content.get(name, _NOTHING), np.ndarray) for name in ("boxes", "images")):
        raise DataError(f"{path}: `boxes` and `images` have to be arrays, or cell arrays, of full matrices")
    return content


def _box_array(boxes, source) -> np.ndarray:
    if not isinstance(boxes, np.ndarray):
        raise DataError(f"{source}: `boxes` is no matrix; expected numbers [N, 4], or [N, 5] with scores")
    if boxes.size == 0:
        return _NOTHING
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5) or boxes.dtype.kind not in "iuf":
        raise DataError(
            f"{source}: `boxes` is {boxes.dtype} {boxes.shape}; expected numbers [N, 4], or [N, 5] with scores"
        )
    return _finite(boxes[:, :4].astype(np.float64), source)


def _finite(values: np.ndarray, source) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DataError(f"{source}: box {int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0]) + 1} is not a number")
    return values
