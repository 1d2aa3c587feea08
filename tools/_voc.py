"""PASCAL VOC and the Semantic Boundaries Dataset on disk: the lists, and where each image has its labels."""

import dataclasses
import os
from pathlib import Path

import _convert

from kerasseg.spec import CollectedDataError, DataError

# The numbers of names in the official lists, and in what is put together from them.
FULL_LISTS = {"VOC train": 1464, "VOC val": 1449, "SBD train": 8498, "SBD val": 2857}
FULL_TRAIN_SETS = {"train_aug": 10582, "original": 8252}


def train_aug(voc_train: list[str], voc_val: list[str], sbd_train: list[str], sbd_val: list[str]) -> list[str]:
    """Returns (VOC train + SBD train + SBD val) without VOC val, each name once, in that order: 10,582 names.

    Source: Hariharan et al. 2011; the "trainaug" of DeepLab and most later work.
    """
    excluded = set(voc_val)
    return [name for name in dict.fromkeys([*voc_train, *sbd_train, *sbd_val]) if name not in excluded]


def original(
    voc_train: list[str], voc_val: list[str], sbd_train: list[str], sbd_val: list[str], sbd_train_noval: list[str]
) -> list[str]:
    """Returns the training list of the original DeepLab-v3 project, in its order: 8,252 names, of which 19 twice.

    VOC train names that are in neither SBD list (330), SBD val without VOC val (2,299), SBD train_noval (5,623).
    """
    in_sbd, excluded = {*sbd_train, *sbd_val}, set(voc_val)
    return [
        *(name for name in voc_train if name not in in_sbd),
        *(name for name in sbd_val if name not in excluded),
        *sbd_train_noval,
    ]


@dataclasses.dataclass(frozen=True)
class Source:
    """Folders of VOC, of SBD, or of both.

    Attributes:
        voc: `VOCdevkit/VOC2012`, or None.
        sbd: `benchmark_RELEASE/dataset`, or None.
    """

    voc: Path | None
    sbd: Path | None

    def voc_list(self, split: str) -> list[str]:
        """Returns the names in `ImageSets/Segmentation/<split>.txt`."""
        return _convert.read_list(self.voc / "ImageSets" / "Segmentation" / f"{split}.txt")

    def sbd_list(self, split: str) -> list[str]:
        """Returns the names in SBD's `<split>.txt`."""
        return _convert.read_list(self.sbd / f"{split}.txt")

    def train_list(self, train_set: str) -> list[str]:
        """Returns the names of a training set: `"train"`, `"train_aug"` or `"original"`.

        Raises:
            DataError: It needs SBD, which is not there, or the full lists give another number than they should.
        """
        if train_set == "train":
            return self.voc_list("train")
        if self.sbd is None:
            return self._train_aug_of_voc(train_set)
        lists = [self.voc_list("train"), self.voc_list("val"), self.sbd_list("train"), self.sbd_list("val")]
        build = original if train_set == "original" else train_aug
        names = build(*lists, *([self.sbd_list("train_noval")] if train_set == "original" else []))
        if [len(part) for part in lists] == list(FULL_LISTS.values()) and len(names) != FULL_TRAIN_SETS[train_set]:
            raise DataError(
                f"the lists of {self.voc} and {self.sbd} give {len(names)} names for {train_set}; expected "
                f"{FULL_TRAIN_SETS[train_set]}: one of the lists is not the official one"
            )
        return names

    def _train_aug_of_voc(self, train_set: str) -> list[str]:
        """The list that many copies of VOC carry, for the masks in `SegmentationClassAug`."""
        lists = [self.voc / "ImageSets" / "Segmentation" / f"{name}.txt" for name in ("trainaug", "train_aug")]
        there = [path for path in lists if path.is_file()]
        if train_set != "train_aug" or not there or not (self.voc / "SegmentationClassAug").is_dir():
            raise DataError(
                f"--train-set {train_set} needs --sbd benchmark_RELEASE/dataset"
                + (f", or {lists[0]} with SegmentationClassAug" if train_set == "train_aug" else "")
            )
        excluded = set(self.voc_list("val"))
        return [name for name in _convert.read_list(there[0]) if name not in excluded]

    def image(self, name: str) -> Path:
        """Returns the path of the JPEG, there or not; SBD's copy where VOC has none."""
        places = [f"{self.voc}/JPEGImages/{name}.jpg"] if self.voc else []
        places += [f"{self.sbd}/img/{name}.jpg"] if self.sbd else []
        return _first_there(places)

    def mask(self, name: str) -> Path:
        """Returns the path of the class labels, there or not: VOC's own where it has them, for these hold the void."""
        places = [f"{self.voc}/SegmentationClass/{name}.png"] if self.voc else []
        places += [f"{self.sbd}/cls/{name}.mat"] if self.sbd else []
        places += [f"{self.voc}/SegmentationClassAug/{name}.png"] if self.voc else []
        return _first_there(places)

    def instances(self, name: str) -> Path:
        """Returns the path of the object labels that belong to `mask`, there or not."""
        if self.mask(name).suffix == ".mat":
            return self.sbd / "inst" / f"{name}.mat"
        return self.voc / "SegmentationObject" / f"{name}.png"

    def missing(self, name: str, instances: bool) -> Path | None:
        """Returns the first file that is missing for a name; None where all are there."""
        paths = [self.image(name), self.mask(name), *([self.instances(name)] if instances else [])]
        return next((path for path in paths if not path.is_file()), None)


def _first_there(places: list[str]) -> Path:
    """Returns the first that is a file, else the first. (Strings, for asking is cheaper than making a `Path`.)"""
    return Path(next(filter(os.path.isfile, places), places[0]))


def keep_complete(source: Source, splits: dict[str, list[str]], instances: bool, allow_missing: bool) -> dict:
    """Returns the names of each split whose files are all there.

    Raises:
        DataError: Files are missing and `allow_missing` is false, or nothing is left of a split.
    """
    kept, faults = {}, []
    for split, names in splits.items():
        missing = {name: path for name in dict.fromkeys(names) if (path := source.missing(name, instances))}
        kept[split] = [name for name in names if name not in missing]
        if not names:
            faults.append(DataError(f"the list of split {split!r} is empty; expected one image name per line"))
        elif missing and not allow_missing:
            text = f"split {split!r}: {len(missing)} of {len(names)} images lack a file, first"
            advice = "complete the data set, or convert what is there with --allow-missing"
            faults.append(DataError(f"{text} {next(iter(missing.values()))}; {advice}"))
        elif not kept[split]:
            text = f"split {split!r}: none of its {len(names)} images is there"
            faults.append(DataError(f"{text}; is {source.voc or source.sbd} complete?"))
        elif missing:
            _convert.warn(f"split {split!r}: {len(missing)} of {len(names)} images lack a file and are left out:")
            for path in missing.values():
                _convert.warn(f"  missing: {path}")
    if faults:
        raise CollectedDataError.of("{} lists cannot be converted:", faults)
    return kept


def has_all_instances(source: Source, splits: dict[str, list[str]]) -> bool:
    """Returns whether every image has object labels; says so where only some have."""
    names = list(dict.fromkeys(name for names in splits.values() for name in names))
    lacking = [path for name in names if not (path := source.instances(name)).is_file()]
    if lacking and len(lacking) < len(names):
        text = f"{len(lacking)} of {len(names)} images have no object labels, first {lacking[0]}"
        _convert.warn(f"{text}: no instances are kept (with --instances their lack is an error)")
    return not lacking


def maker(source: Source, name: str, instances: bool):
    """Returns the `records.Deferred` that reads one image with its labels."""
    from kerasseg import records

    image_path, mask_path = source.image(name), source.mask(name)
    objects_path = source.instances(name) if instances else None

    def make() -> records.Example:
        image = records.read_image(image_path, channels=3, pixels=False)
        is_sbd = mask_path.suffix == ".mat"
        objects = None
        if objects_path:
            objects = (
                records.read_sbd(objects_path, "GTinst")
                if is_sbd
                else records.read_labels(objects_path).astype("uint16")
            )
            objects[objects == 255] = 0  # VOC's void, not an object; no VOC image has 255 of these
        mask = records.SourceMask(records.read_sbd(mask_path)) if is_sbd else records.read_source_mask(mask_path)
        return records.Example(
            key=name,
            image=image.image,
            mask=mask.mask,
            instances=objects,
            image_bytes=image.data,
            image_format=image.format,
            mask_bytes=mask.data,
            source=f"{image_path}, {mask_path}",
        )

    return records.Deferred(name, tuple(filter(None, (image_path, mask_path, objects_path))), make)
