"""Convert record files that others wrote to ours: smaller, named, with labels changed where they have to be.

    python tools/convert_legacy.py --data deeplab_v3/dataset/tfrecords --classes voc --output tfrecords/voc_original
    python tools/convert_legacy.py --data ade20k --train 'train-*' --val 'val-*' --classes ade20k.txt \\
        --map 0=255 --shift -1 --output tfrecords/ade20k

Takes the raw records of the original DeepLab-v3 project (train.tfrecords and validation.tfrecords are found in its
folder) and those of TensorFlow DeepLab's scripts. Raw images become PNG, without loss: the JPEG files that they came
from cannot be had back. JPEG and PNG files inside records are copied untouched; masks become one-channel PNG.

Raw records hold no names: images are called after file and number (train-17), or after --names, a list with a name for
each record in the order of the records, train before val. The original project shuffled its custom_train.txt with no
seed and left out what it did not find, so only a list that was saved in the order of the records fits.
"""

import _cli

# isort: split
import time
from pathlib import Path

import _convert
import _record_files

from kerasseg.spec import IGNORE_LABEL, DataError, DatasetSpec

ORIGINAL_FILES = {"train": "train.tfrecords", "val": "validation.tfrecords"}


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--data", required=True, type=Path, help="folder of the record files")
    parser.add_argument("--train", nargs="+", metavar="PATTERN", help="files to train on, in the folder")
    parser.add_argument("--val", nargs="+", metavar="PATTERN", help="files for validation")
    parser.add_argument("--classes", required=True, help="text file, a class per line in the order of ids; or voc")
    parser.add_argument("--names", type=Path, help="text file, a name for each record in their order")
    parser.add_argument("--map", type=_mapping, default={}, help="labels to change, for example 255=1 or 0=255")
    parser.add_argument("--shift", type=int, default=0, help="added to every label that --map does not name, but 255")
    _convert.add_output_options(parser)
    options = parser.parse_args(arguments)

    from kerasseg import records

    started = time.monotonic()
    files = _record_files.find(options.data, _patterns(options))
    names, palette = _record_files.classes(options.classes)
    channels, bit_depth = _record_files.pixel_format([path for paths in files.values() for path in paths])
    spec = DatasetSpec(
        name=_convert.name_of(options.output),
        class_names=names,
        palette=palette or (),
        channels=channels,
        bit_depth=bit_depth,
        notes={
            "tool": "convert_legacy.py",
            "files": [path.name for paths in files.values() for path in paths],
            "map": {str(old): new for old, new in options.map.items()},
            "shift": options.shift,
        },
    )
    frames = {split: [(path, n, frame) for path in paths for n, frame in enumerate(records.frames(path))]
              for split, paths in files.items()}  # fmt: skip
    keys = _keys(options.names, sum(map(len, frames.values())))
    table = _table(options)
    splits = {split: [_deferred(*place, next(keys), channels, table) for place in found]
              for split, found in frames.items()}  # fmt: skip
    _convert.write(options, spec, splits)
    before = sum(path.stat().st_size for paths in files.values() for path in paths)
    after = sum(path.stat().st_size for split in splits for path in records.shard_paths(options.output, split))
    print(f"{before / 1e6:.1f} MB became {after / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")


def _patterns(options) -> dict[str, list[str]]:
    if options.val and not options.train:
        raise DataError("--val is given without --train; name the files of both")
    if options.train:
        return {"train": options.train, **({"val": options.val} if options.val else {})}
    _convert.folder(options.data, "the folder of the record files")
    found = {split: [name] for split, name in ORIGINAL_FILES.items() if (options.data / name).is_file()}
    if "train" not in found:
        raise DataError(
            f"{options.data} holds no train.tfrecords, as the original project's folder does; name the files with "
            "--train and --val"
        )
    return found


def _mapping(text: str) -> dict[int, int]:
    pairs = [part.split("=") for part in text.split(",")]
    mapping = {int(old): int(new) for old, new in pairs}
    if not all(0 <= label <= 255 for pair in mapping.items() for label in pair):
        raise ValueError(text)
    return mapping


def _keys(path: Path | None, count: int):
    """Returns an iterator over the names of the records, None where they have none."""
    if path is None:
        return iter([None] * count)
    names = _convert.read_list(path)
    if len(names) != count:
        raise DataError(
            f"{path} has {len(names)} names, but there are {count} records; expected a name for each, in their order"
        )
    return iter(names)


def _table(options):
    """Returns the new label of each label, uint8 [256], or None where they stay; -1 marks one that has none."""
    import numpy as np

    if not options.map and not options.shift:
        return None
    table = np.arange(256) + options.shift
    table[IGNORE_LABEL] = IGNORE_LABEL
    for old, new in options.map.items():
        table[old] = new
    return np.where((table < 0) | (table > 255), -1, table)


def _deferred(path: Path, number: int, frame, key: str | None, channels: int, table):
    """Returns a record that is read, checked and decoded in its turn, in a worker thread."""
    from kerasseg import records

    place = f"{path}, record {number}"
    default = f"{path.name.partition('.')[0]}-{number}"

    def make():
        try:
            example = records.from_record(records.read_frame(path, frame), channels, default_key=default)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
        if example.mask is None:
            raise DataError(f"{place}: the record has no mask")
        return records.Example(
            key=key or example.key,
            image=example.image,
            mask=example.mask if table is None else _changed(example.mask, table, place),
            instances=example.instances,
            weight=example.weight,
            proposals=example.proposals,
            image_bytes=example.image_bytes,
            image_format=example.image_format,
            source=place,
        )

    return records.Deferred(key or default, (path,), make)


def _changed(mask, table, place):
    import numpy as np

    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    lost = [int(label) for label in found if table[label] < 0]
    if lost:
        raise DataError(f"{place}: --shift takes the labels {lost[:5]} out of 0 to 255; name them in --map")
    return table[mask].astype(np.uint8)


if __name__ == "__main__":
    _convert.run(main)
