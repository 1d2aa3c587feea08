"""Make a data set of record files that others wrote, without converting them: only dataset.json is added.

    python tools/index_records.py --data deeplab/datasets/pascal_voc_seg/tfrecord --train 'train-*' --val 'val-*' \\
        --classes voc
    python tools/index_records.py --data deeplab_v3/dataset/tfrecords --train train.tfrecords \\
        --val validation.tfrecords --classes voc

Takes the records of TensorFlow DeepLab's build_*_data.py scripts, the raw ones of the original DeepLab-v3 project, and
ours. Every record is read, decoded and checked once; faults are reported all together, and with any of them nothing is
written. Channels and bits are those of the images. Training, evaluation and check_data.py then work on the folder.
Labels stay as they are: 255 is ignored, and where another label is to be, tools/convert_legacy.py changes it.
"""

import _cli

# isort: split
from pathlib import Path

import _convert
import _data_faults
import _examine
import _record_files

from kerasseg.spec import DATASET_FILE, CollectedDataError, DataError, DatasetSpec, SplitSpec


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder of the record files; dataset.json goes there")
    parser.add_argument("--train", required=True, nargs="+", metavar="PATTERN", help="files to train on, in the folder")
    parser.add_argument("--val", nargs="+", metavar="PATTERN", help="files for validation")
    parser.add_argument("--classes", required=True, help="text file, a class per line in the order of ids; or voc")
    parser.add_argument("--name", help="of the data set (default: the folder's)")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset.json that is there")
    parser.add_argument("--workers", type=_convert.positive, help="threads (default: one for each core)")
    options = parser.parse_args(arguments)

    target = options.data / DATASET_FILE
    if target.exists() and not options.overwrite:
        raise DataError(f"{target} exists already; replace it with --overwrite")
    patterns = {"train": options.train, **({"val": options.val} if options.val else {})}
    files = _record_files.find(options.data, patterns)
    names, palette = _record_files.classes(options.classes)
    channels, bit_depth = _record_files.pixel_format([path for paths in files.values() for path in paths])
    spec = DatasetSpec(
        name=options.name or _convert.name_of(options.data),
        class_names=names,
        palette=palette or (),
        channels=channels,
        bit_depth=bit_depth,
        notes={"tool": "index_records.py"},
        **_parts(next(iter(files.values()))[0]),
    )
    splits = []
    for split, paths in files.items():
        examined = _examine.Split(spec, split)
        examined.read(paths, _count(paths), workers=options.workers)
        splits.append(examined)
    faults = [fault for split in splits for fault in split.faults]
    suspicions = [text for split in splits for text in _data_faults.suspicions(spec, split.name, split.counts)]
    for text in suspicions:
        _convert.warn(f"suspicion: {text}")
    if faults:
        raise CollectedDataError(f"{options.data}: {{}} faults, so no {DATASET_FILE} was written:", map(str, faults))
    for split in splits:
        spec.splits[split.name] = _split_spec(split, options.data)
    spec.save(options.data)
    for split, counts in spec.splits.items():
        print(f"{split}: {counts.num_examples} images in {len(counts.files)} files, {_convert.shares(names, counts)}")
    print(f"{target} is written; look at the data with: python tools/check_data.py {options.data}")


def _count(paths) -> int:
    from kerasseg import records

    return sum(len(records.frames(path)) for path in paths)


def _parts(path: Path) -> dict[str, bool]:
    """Returns what the records hold beside image and mask, as the first sound one of a file does."""
    from kerasseg import records

    for record in records.scan(path):
        if isinstance(record, DataError):
            continue
        try:
            example = records.from_record(record)
        except DataError:
            continue
        return {
            "has_instances": example.instances is not None,
            "has_weights": example.weight is not None,
            "has_proposals": example.proposals is not None,
            "has_objects": b"image/object/class/label" in record,
        }
    return {}


def _split_spec(split: _examine.Split, folder: Path) -> SplitSpec:
    counts, classes = split.counts, split.spec.num_classes
    return SplitSpec(
        num_examples=counts.num_images,
        files=tuple(path.relative_to(folder).as_posix() for path in split.files),
        class_pixels=tuple(counts.labels[:classes].tolist()),
        ignored_pixels=int(counts.labels[split.spec.ignore_label]),
        class_image_pixels=tuple(counts.class_image_pixels[:classes].tolist()),
    )


if __name__ == "__main__":
    _convert.run(main)
