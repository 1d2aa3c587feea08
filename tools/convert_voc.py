"""Convert PASCAL VOC 2012, alone or with the Semantic Boundaries Dataset (SBD), to records for training.

    python tools/convert_voc.py --voc VOCdevkit/VOC2012 --output tfrecords/voc2012
    python tools/convert_voc.py --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset --output tfrecords/voc2012aug
    python tools/convert_voc.py --voc VOCdevkit/VOC2012 --sbd benchmark_RELEASE/dataset --train-set original \\
        --output tfrecords/deeplab
    python tools/convert_voc.py --voc my_data --classes my_data/classes.txt --output tfrecords/mine

Training sets (--train-set): `train`, VOC's own 1,464 images; `train_aug`, these and all of SBD without VOC's
validation images, 10,582; `original`, the list of the original DeepLab-v3 project, 8,252 lines of which 19 name an
image a second time. The default is train_aug with --sbd and train without. Without --sbd, train_aug is made of
SegmentationClassAug and ImageSets/Segmentation/trainaug.txt where they are there.

An image that both label has VOC's labels, which mark object borders as void (255); SBD has no void. JPEG files are
stored untouched. Data of one's own in the layout of VOC (JPEGImages/*.jpg, SegmentationClass/*.png,
ImageSets/Segmentation/*.txt) convert as well.

DeconvNet trains on objects: their numbers are kept where every image has them (SegmentationObject, SBD's inst), and the
record of each image holds their boxes. Its second stage also wants boxes that may hold an object (--proposals), which
EdgeBox or Selective Search made before.
"""

import _cli

# isort: split
import argparse
from pathlib import Path

import _convert
import _proposals
import _voc

from kerasseg.spec import VOC_CLASS_NAMES, DataError, DatasetSpec


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--voc", required=True, type=Path, help="VOCdevkit/VOC2012")
    parser.add_argument("--sbd", type=Path, help="SBD's benchmark_RELEASE/dataset")
    _convert.add_output_options(parser)
    parser.add_argument("--train-set", choices=("train", "train_aug", "original"), help="what the split train holds")
    parser.add_argument("--splits", default="train,val", help="lists of ImageSets/Segmentation to convert")
    parser.add_argument("--allow-missing", action="store_true", help="convert what is there; list what is missing")
    parser.add_argument(
        "--val-share", type=_convert.share, default=0, help="take val from the training set, this share"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --val-share")
    parser.add_argument(
        "--instances",
        action=argparse.BooleanOptionalAction,
        help="keep object numbers (SegmentationObject, SBD's inst); default: where every image has them",
    )
    _proposals.add_options(parser)
    parser.add_argument("--classes", type=Path, help="class names, one per line (default: the 21 of VOC)")
    options = parser.parse_args(arguments)

    source = _voc.Source(_voc_folder(options.voc), options.sbd and _convert.folder(options.sbd, "SBD's dataset folder"))
    train_set = options.train_set or ("train_aug" if source.sbd else "train")
    names, palette = _convert.read_classes(options.classes) if options.classes else (VOC_CLASS_NAMES, None)
    lists = _lists(source, train_set, options)
    kept = _voc.keep_complete(source, lists, bool(options.instances), options.allow_missing)
    instances = _voc.has_all_instances(source, kept) if options.instances is None else options.instances
    spec = DatasetSpec(
        name=_convert.name_of(options.output),
        class_names=names,
        palette=palette or (),
        notes={
            "tool": "convert_voc.py",
            "train_set": train_set,
            "with_sbd": source.sbd is not None,
            "val_share": options.val_share,
            "seed": options.seed,
            "proposals": options.proposals and options.proposals.name,
            "missing": {split: sorted(set(lists[split]) - set(kept[split])) for split in lists},
        },
    )
    named = {split: [(name, _voc.maker(source, name, instances)) for name in kept[split]] for split in kept}
    _convert.write(options, spec, _proposals.added(options, named))


def _voc_folder(path: Path) -> Path:
    """Returns the folder with JPEGImages: `path`, or VOC2012 in it."""
    for candidate in (path, path / "VOC2012", path / "VOCdevkit" / "VOC2012"):
        if (candidate / "JPEGImages").is_dir():
            return candidate
    raise DataError(f"{path} has no JPEGImages; expected VOCdevkit/VOC2012 (--voc)")


def _lists(source: _voc.Source, train_set: str, options) -> dict[str, list[str]]:
    """Returns the names of each split that is asked for."""
    wanted = [split.strip() for split in options.splits.split(",") if split.strip()]
    if not wanted:
        raise DataError("--splits names no split; expected for example train,val")
    lists = {}
    for split in wanted:
        if split == "train":
            lists |= _convert.seeded_split(source.train_list(train_set), options.val_share, options.seed)
        elif split not in lists:
            lists[split] = source.voc_list(split)
    return lists


if __name__ == "__main__":
    _convert.run(main)
