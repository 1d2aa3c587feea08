"""Reading source masks as class ids: palette PNG, grey PNG, TIFF, colours where told so, and SBD's .mat files."""

import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from kerasseg._opencv import cv2
from kerasseg.records._files import check_size, damaged, is_tiff, read_bytes
from kerasseg.records._mat import read_mat
from kerasseg.records._png import MAGIC as PNG_MAGIC
from kerasseg.records._png import grey_form, read_chunks
from kerasseg.records._tiff import read_pages
from kerasseg.spec import IGNORE_LABEL, DataError, voc_palette

MAX_NAMED = 5
"""Colours or labels that an error names before it says "..."."""


class SourceMask(NamedTuple):
    """A mask file's class ids, and a PNG of them where none has to be packed.

    Attributes:
        mask: uint8 [H, W].
        data: A grey PNG of 8 bits that holds `mask`, quick to decode; None where the file's own data is not that.
    """

    mask: np.ndarray
    data: bytes | None = None


def read_mask(path, *, mapping: Mapping[int, int] | None = None, colours=None) -> np.ndarray:
    """Reads a mask as class ids, uint8 [H, W]: the `mask` of `read_source_mask`."""
    return read_source_mask(path, mapping=mapping, colours=colours).mask


def read_source_mask(path, *, mapping: Mapping[int, int] | None = None, colours=None) -> SourceMask:
    """Reads a mask as class ids.

    Args:
        path: Palette PNG (the ids are its indices, whatever its colours), grey image of 1 to 16 bits, or a colour
            image with `colours`.
        mapping: Source label to class id; labels not named stay.
        colours: RGB triple of each class, [K, 3]: decodes a colour mask. The void colour of PASCAL VOC,
            (224, 224, 192), becomes 255 unless it is a class's own. A palette or grey file with other colours than
            these is read as ids.

    Raises:
        DataError: The file is missing, damaged or no mask; it is coded in colours and no `colours` are given, or
            holds others; a label does not fit into 8 bits.
    """
    labels, data = (None, None) if colours is None else (_decode_colours(path, colours), None)
    if labels is None:
        labels, data = _labels_of(path, read_bytes(path))
    if mapping:
        labels, data = relabel(labels, mapping), None
    if labels.dtype == np.uint8:
        return SourceMask(labels, data)
    if labels.min() < 0 or labels.max() > 255:
        raise DataError(
            f"{path} holds labels from {labels.min()} to {labels.max()}; expected class ids within 0-254 and "
            f"{IGNORE_LABEL} (ignored). Are these instance numbers? Then use convert_cells.py (or evaluate.py "
            "--instances); else map them (--map)"
        )
    return SourceMask(labels.astype(np.uint8))


def relabel(labels: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Returns `labels` with each label of `mapping` replaced, all at once."""
    if labels.dtype == np.uint8 and all(0 <= new < 256 for new in mapping.values()):
        table = np.arange(256, dtype=np.uint8)
        table[[old for old in mapping if 0 <= old < 256]] = [new for old, new in mapping.items() if 0 <= old < 256]
        return cv2.LUT(labels, table)
    result = labels.astype(np.int32)
    for old, new in mapping.items():
        result[labels == old] = new
    return result


def read_labels(path) -> np.ndarray:
    """Reads a one-channel label image of any depth, integer [H, W]: class ids or instance numbers.

    Raises:
        DataError: The file is missing, damaged, in colours, or has no whole numbers.
    """
    return _labels_of(path, read_bytes(path))[0]


def _labels_of(path, data: bytes) -> tuple[np.ndarray, bytes | None]:
    """Returns the labels, and a grey PNG of them if the file is nearly one."""
    try:
        grey = grey_form(data) if data.startswith(PNG_MAGIC) else None
    except ValueError as error:
        raise damaged(path, error) from error
    return grey or (_decoded_labels(path, data), None)


def _decoded_labels(path, data: bytes) -> np.ndarray:
    if is_tiff(data):
        labels = read_pages(path)
        if labels.shape[0] > 1:
            raise DataError(f"{path} holds {labels.shape[0]} pages; expected one mask of one channel")
        labels = labels[0]
    else:
        labels = _with_pillow(path, data, _indices)
        labels = labels // (255 // (2 ** data[24] - 1)) if _is_spread(data) else labels
    if labels.ndim == 3 and labels.shape[2] == 1:
        labels = labels[..., 0]
    if labels.ndim != 2:
        raise _in_colours(path, labels)
    if labels.dtype.kind == "f":
        if not np.array_equal(labels, np.rint(labels)):
            raise DataError(f"{path} holds fractions; expected whole numbers: was the mask resized with interpolation?")
        labels = labels.astype(np.int64)
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def read_sbd(path, field: str = "GTcls") -> np.ndarray:
    """Reads a .mat file of the Semantic Boundaries Dataset.

    Args:
        path: `cls/*.mat` or `inst/*.mat`.
        field: `"GTcls"` for class ids (0 to 20, no void), `"GTinst"` for instance numbers.

    Returns:
        uint8 [H, W] class ids, or uint16 [H, W] instance numbers.
    """
    content = read_mat(path).get(field)
    labels = content.get("Segmentation") if isinstance(content, dict) else None
    if labels is None:
        raise DataError(f"{path} has no {field}.Segmentation; expected a file of the SBD data set")
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iuf" or labels.size == 0:
        raise DataError(f"{path}: {field}.Segmentation is no array of numbers [H, W]; expected labels")
    dtype = np.uint16 if field == "GTinst" else np.uint8
    low, high = labels.min(), labels.max()
    if not (low >= 0 and high <= np.iinfo(dtype).max and np.array_equal(labels, np.rint(labels))):
        raise DataError(
            f"{path}: {field}.Segmentation holds values from {low} to {high}; expected whole numbers from 0 to "
            f"{np.iinfo(dtype).max}"
        )
    return labels.astype(dtype)


def colour_table(colours) -> dict[int, int]:
    """Returns packed RGB to class id; the void's colour to 255 unless a class has it."""
    table = {_pack_one(voc_palette()[IGNORE_LABEL]): IGNORE_LABEL}
    table.update({_pack_one(colour): label for label, colour in enumerate(colours)})
    return table


def _decode_colours(path, colours) -> np.ndarray | None:
    """Returns the class ids of a mask by its colours; None where it has one channel whose colours are not these."""
    rgb, has_channels = _rgb(path, read_bytes(path))
    packed = _pack(rgb)
    table = colour_table(colours)
    known = np.array(sorted(table), np.uint32)
    place = np.searchsorted(known[:-1], packed)  # the last where a colour lies above all others
    unknown = known[place] != packed
    if not unknown.any():
        return np.array([table[colour] for colour in known.tolist()], np.uint8)[place]
    if not has_channels:
        return None
    found, counts = np.unique(packed[unknown], return_counts=True)
    raise DataError(
        f"{path} holds {len(found)} colours that belong to no class: {_name(found, counts)}; "
        "add them to the list of classes, or give the mask without blended borders"
    )


def _rgb(path, data: bytes) -> tuple[np.ndarray, bool]:
    """Returns uint8 [H, W, 3], and whether the file itself has colour channels (no palette, no grey values)."""
    if not is_tiff(data):
        return _with_pillow(
            path, data, lambda image: (np.asarray(image.convert("RGB")), image.mode[:3] in ("RGB", "CMY"))
        )
    array = read_pages(path)[0]
    if array.ndim == 3 and array.shape[2] >= 3:
        return array[..., :3].astype(np.uint8), True
    grey = array.reshape(array.shape[:2]).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), False


def _indices(image: Image.Image) -> np.ndarray:
    """Returns palette indices or grey values [H, W], or channels [H, W, C]."""
    return np.asarray(image.convert("L") if image.mode == "LA" else image)


def _with_pillow(path, data: bytes, function):
    """Returns `function` of the opened image; raises `DataError` where that cannot be read."""
    try:
        if data.startswith(PNG_MAGIC):
            read_chunks(data)  # the checksums, which loading skips
        with Image.open(io.BytesIO(data)) as image:
            check_size(path, *image.size)
            image.load()
            return function(image)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} is no picture that can be read; expected a mask as PNG or TIFF (a volume, such as NIfTI, has "
            "to be cut into slices first)"
        ) from error
    except DataError:
        raise
    except Exception as error:  # Pillow's readers of rarer formats raise IndexError, struct.error and others, too
        raise damaged(path, error) from error


def _is_spread(data: bytes) -> bool:
    """Whether it is a grey PNG of 2 or 4 bits, whose values Pillow spreads over 0-255."""
    return data[:4] == b"\x89PNG" and data[24] in (2, 4) and data[25] == 0


def _in_colours(path, array: np.ndarray) -> DataError:
    expected = "expected one channel of class ids"
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8:
        found, counts = np.unique(_pack(array), return_counts=True)
        largest = np.argsort(-counts, kind="stable")
        if len(found) > 256:
            return DataError(
                f"{path} is an {'RGBA' if array.shape[2] == 4 else 'RGB'} picture of {array.shape[1]}x{array.shape[0]} "
                f"pixels with {len(found)} colours, so it cannot be a mask; {expected}. Is it an overlay or a "
                "photograph?"
            )
        if array[..., :3].max() <= 1:
            return DataError(
                f"{path} has {array.shape[2]} channels of 0 and 1 (one channel for each class); {expected}: save the "
                "number of the channel that is set (argmax)"
            )
        return DataError(
            f"{path} is coded in colours: {_name(found[largest], counts[largest])}; {expected}. Decode it by "
            "colours: convert_pairs.py and evaluate.py take a colour for each class (name R G B), or --voc-colours"
        )
    return DataError(f"{path} is {array.dtype} {array.shape}; {expected}")


def _pack(array: np.ndarray) -> np.ndarray:
    """Returns uint32 [H, W]: red, green and blue in one number."""
    rgb = array[..., :3].astype(np.uint32)
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def _pack_one(colour) -> int:
    red, green, blue = (int(v) for v in colour)
    return red << 16 | green << 8 | blue


def _name(packed: np.ndarray, counts: np.ndarray) -> str:
    named = [
        f"({c >> 16}, {c >> 8 & 255}, {c & 255}) in {n} pixels"
        for c, n in zip(packed[:MAX_NAMED].tolist(), counts[:MAX_NAMED].tolist(), strict=True)
    ]
    return ", ".join(named) + (f", and {len(packed) - MAX_NAMED} more" if len(packed) > MAX_NAMED else "")
