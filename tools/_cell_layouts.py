"""How the cell data sets lie on disk: each layout becomes a list of images that can be read one by one."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import _convert
import numpy as np

from kerasseg import records
from kerasseg.spec import DataError

MIN_COVERED = 0.25
"""A cell of the reference counts as labelled if gold truth covers more than this share of its pixels."""


@dataclasses.dataclass(frozen=True)
class CellImage:
    """One image of a cell data set.

    Attributes:
        key: Its name in the data set.
        sequence: The film that it belongs to; "" where there is none.
        read: Returns `SourceImage`, instances (integer [H, W]), and bool [H, W] of the unknown pixels or None. Takes
            the number of channels to give, or None.
        source: Its files, for error messages.
        files: All files that it is read from.
    """

    key: str
    read: Callable[[int | None], tuple[records.SourceImage, np.ndarray, np.ndarray | None]]
    source: str
    sequence: str = ""
    files: tuple[Path, ...] = ()


def isbi2012(root: Path) -> list[CellImage]:
    """The ISBI 2012 membrane challenge: `train/{image,label}/N.png`, or `train-volume*.tif` with `train-labels*.tif`.

    Labels are 255 in cells and 0 on membranes. Instances are the connected components (4-neighbours) of the cells.
    """
    if root.is_file():
        return _isbi_stack(root, _labels_of_volume(root))
    for base in (root / "train", root):
        if (base / "image").is_dir():
            return _isbi_folders(base)
    volumes = sorted(root.glob("train-volume*.tif*"))
    if len(volumes) != 1:
        raise DataError(
            f"{root} holds neither train/image and train/label nor one train-volume*.tif (found {len(volumes)}); "
            "expected the ISBI 2012 layout"
        )
    return _isbi_stack(volumes[0], _labels_of_volume(volumes[0]))


def _isbi_folders(base: Path) -> list[CellImage]:
    images = _convert.images_in(base / "image", "the slices of ISBI 2012")
    labels = _convert.images_in(base / "label", "the labels of ISBI 2012")
    _same_stems(images, labels, base / "image", base / "label")

    def reader(stem):
        return lambda channels: _isbi(
            records.read_image(images[stem], channels), records.read_labels(labels[stem]), labels[stem]
        )

    return [_pair(stem, reader(stem), images[stem], labels[stem]) for stem in images]


def _isbi_stack(volume: Path, labels: Path) -> list[CellImage]:
    images, masks = records.read_pages(volume), records.read_pages(labels)
    if len(images) != len(masks):
        raise DataError(
            f"{volume} has {len(images)} pages, but {labels} {len(masks)}; expected one label for each slice"
        )
    if masks.ndim != 3:
        raise DataError(f"{labels} has pages of shape {masks.shape[1:]}; expected one channel of 0 and 255")

    def reader(i):
        image = images[i] if images[i].ndim == 3 else images[i][..., None]
        return lambda channels: _isbi(records.SourceImage(image), masks[i], f"{labels}, page {i}")

    return [_pair(str(i), reader(i), volume, labels, f", page {i}") for i in range(len(images))]


def _labels_of_volume(volume: Path) -> Path:
    labels = volume.with_name(volume.name.replace("volume", "labels"))
    if labels == volume or not labels.is_file():
        raise DataError(f"{volume} has no labels beside it; expected {volume.name.replace('volume', 'labels')}")
    return labels


def _isbi(image, label, source):
    cell = binary(label, source)
    return image, records.components(cell), None


def binary(label: np.ndarray, source) -> np.ndarray:
    """Returns bool [H, W] of a mask of 0 and 255 (or 0 and 1); raises `DataError` where it holds anything else."""
    foreground = label > 0
    top = label.max()
    if top not in (0, 1, 255) or not np.array_equal(foreground, label == max(top, 1)):
        found = np.unique(label)
        raise DataError(
            f"{source} holds {len(found)} different values ({', '.join(map(str, found[:6]))}...); expected only 0 "
            "and 255: was the mask resized with interpolation, or stored as JPEG?"
        )
    return foreground


def ctc(root: Path, annotations: str, partial: str) -> list[CellImage]:
    """One data set of the Cell Tracking Challenge: `01/tNNN.tif`, `01_GT/SEG/man_segNNN.tif`, `01_ST/SEG/...`.

    Args:
        root: Its folder.
        annotations: `"both"`: gold truth where a frame has it, else silver; or only `"gt"` or `"st"`.
        partial: For gold truth that labels only some cells: `"ignore"` makes what is unknown 255, `"background"` leaves
            it background. See `unknown_pixels`.
    """
    sequences = [entry for entry in sorted(_convert.folder(root, "a CTC data set").iterdir()) if _is_sequence(entry)]
    if not sequences:
        raise DataError(f"{root} holds no sequence (01/t000.tif); expected the folder of one Cell Tracking data set")
    return [image for sequence in sequences for image in _ctc_sequence(sequence, annotations, partial)]


def _is_sequence(entry: Path) -> bool:
    return entry.is_dir() and re.fullmatch(r"\d+", entry.name) is not None


def _ctc_sequence(sequence: Path, annotations: str, partial: str) -> list[CellImage]:
    root, name = sequence.parent, sequence.name
    frames = _numbered(sequence, r"t(\d+)")
    gold = _numbered(root / f"{name}_GT" / "SEG", r"man_seg_?(\d+)") if annotations in ("both", "gt") else {}
    silver = _numbered(root / f"{name}_ST" / "SEG", r"man_seg_?(\d+)")
    markers = _numbered(root / f"{name}_GT" / "TRA", r"man_track(\d+)")
    wanted = sorted({**gold, **(silver if annotations in ("both", "st") else {})})
    if not wanted:
        raise DataError(f"{sequence} has no labels; expected {name}_GT/SEG or {name}_ST/SEG beside it (--annotations)")
    lacking = [number for number in wanted if number not in frames]
    if lacking:
        label = gold.get(lacking[0]) or silver[lacking[0]]
        raise DataError(f"{label} has no image: {sequence} lacks frame {lacking[0]} ({len(lacking)} such in all)")
    if len(wanted) < len(frames):
        _convert.warn(
            f"{sequence}: {len(frames) - len(wanted)} of {len(frames)} frames have no labels and are left out"
        )

    def reader(number):
        reference, has_extent = (silver.get(number), True) if number in silver else (markers.get(number), False)

        def read(channels):
            image = records.read_image(frames[number], channels)
            if number not in gold:
                return image, records.read_labels(silver[number]), None
            labels = records.read_labels(gold[number])
            if partial == "background" or reference is None:
                return image, labels, None
            return image, labels, unknown_pixels(labels, records.read_labels(reference), has_extent, reference)

        return read

    def files(number):
        return tuple(kind[number] for kind in (frames, gold, silver, markers) if number in kind)

    def source(number):
        return f"{frames[number]}, {gold.get(number) or silver[number]}"

    return [CellImage(f"{name}_{frames[n].stem}", reader(n), source(n), name, files(n)) for n in wanted]


def unknown_pixels(labels: np.ndarray, reference: np.ndarray, has_extent: bool, source="") -> np.ndarray | None:
    """Returns where gold truth says nothing, bool [H, W]; None where it labels every cell of the reference.

    Gold truth of the Cell Tracking Challenge labels all cells of some frames and a few of others, and does not say
    which. A cell of the reference of which gold truth covers no more than a quarter is unlabelled there. Silver truth
    has the cells' extent: the pixels of its unlabelled cells are unknown, all else is known. Tracking markers have
    not: where one is unlabelled, every pixel outside the labelled cells is unknown. Without either a frame counts
    as complete.
    """
    if labels.shape != reference.shape:
        raise DataError(f"{source} is {reference.shape}, but the gold truth of its frame {labels.shape}")
    size = int(reference.max()) + 1
    total = np.bincount(reference.ravel(), minlength=size)
    covered = np.bincount(reference[labels > 0], minlength=size)
    unlabelled = (total > 0) & (covered <= MIN_COVERED * total)
    unlabelled[0] = False
    if not unlabelled.any():
        return None
    return (unlabelled[reference] if has_extent else True) & (labels == 0)


def _numbered(directory: Path, pattern: str) -> dict[int, Path]:
    """Returns frame number to path of the TIFFs in a folder; none where there is no such folder."""
    found = {}
    for path in sorted(directory.glob("*.tif")) if directory.is_dir() else ():
        match = re.fullmatch(pattern, path.stem)
        if match:
            found[int(match[1])] = path
        elif re.fullmatch(r"man_seg_\d+_\d+", path.stem):
            raise DataError(f"{path} is a slice of a 3-D data set; only 2-D ones are supported")
    return found


def dsb2018(root: Path) -> list[CellImage]:
    """A stage1_* folder of the Data Science Bowl 2018: `ID/images/ID.png`, `ID/masks/*.png` (0 and 255), one a nucleus.

    The number of an instance is the place of its file among the sorted names, from 1; where two overlap, the later
    one has the pixel. An alpha channel is dropped.
    """
    entries = sorted(entry for entry in _convert.folder(root, "a DSB 2018 stage1 folder").iterdir() if entry.is_dir())
    entries = [entry for entry in entries if (entry / "images").is_dir()]
    if not entries:
        raise DataError(f"{root} holds no ID/images; expected a stage1_* folder of the Data Science Bowl 2018")
    return [_dsb_image(entry) for entry in entries]


def _dsb_image(entry: Path) -> CellImage:
    images = list(_convert.images_in(entry / "images", "one image").values())
    if len(images) > 1:
        raise DataError(f"{entry / 'images'} holds {len(images)} images; expected one")
    masks = list(_convert.images_in(entry / "masks", "one mask for each nucleus of this image").values())

    def read(channels):
        image = records.read_image(images[0], channels)
        instances = np.zeros(image.image.shape[:2], np.uint16)
        shared = 0
        for number, path in enumerate(masks, start=1):
            nucleus = binary(records.read_labels(path), path)
            if nucleus.shape != instances.shape:
                raise DataError(f"{path} is {_size(nucleus)} pixels, but its image {_size(instances)} ({images[0]})")
            shared += np.count_nonzero(instances[nucleus])
            instances[nucleus] = number
        if shared:
            hidden = len(masks) - (len(np.unique(instances)) - (0 in instances))
            _convert.warn(
                f"{entry}: nuclei overlap in {shared} pixels, which the later one has (by the masks' names); "
                f"{hidden} of {len(masks)} masks are empty or wholly below others"
            )
        return image, instances, None

    return CellImage(entry.name, read, f"{images[0]}, {entry / 'masks'}", files=(images[0], *masks))


def pairs(root: Path) -> list[CellImage]:
    """Any images with instance masks: `images/NAME.*` and `masks/NAME.*` (or `image`, `labels`, `label`, `mask`).

    A mask holds instance numbers; one with a single number beside 0 is taken as binary, its connected components
    (4-neighbours) as the instances.
    """
    _convert.folder(root, "a folder with images/ and masks/")
    folders = [
        next((root / name for name in names if (root / name).is_dir()), root / names[0])
        for names in (("images", "image"), ("masks", "labels", "label", "mask"))
    ]
    images, masks = (_convert.images_in(folder, "images and masks of the same names") for folder in folders)
    _same_stems(images, masks, *folders)

    def reader(stem):
        def read(channels):
            labels = records.read_labels(masks[stem])
            if labels.max() > 0 and len(np.unique(labels[labels > 0])) == 1:
                labels = records.components(labels > 0)
            return records.read_image(images[stem], channels), labels, None

        return read

    return [_pair(stem, reader(stem), images[stem], masks[stem]) for stem in images]


def _pair(key: str, read, image: Path, labels: Path, page: str = "") -> CellImage:
    return CellImage(key, read, f"{image}, {labels}{page}", files=(image, labels))


def _same_stems(images: dict, masks: dict, image_folder, mask_folder) -> None:
    for stems, others, where in ((images, masks, mask_folder), (masks, images, image_folder)):
        lacking = [stem for stem in stems if stem not in others]
        if lacking:
            raise DataError(
                f"{where} lacks {len(lacking)} of {len(stems)} counterparts, first that of {stems[lacking[0]]}; each "
                "image needs a mask of the same name"
            )


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
