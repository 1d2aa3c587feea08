"""Check a converted data set: every record, every label; the share of each class; a sheet of pictures to look at.

    python tools/check_data.py tfrecords/voc2012
    python tools/check_data.py tfrecords/voc2012 --sheet voc.png --pictures 12

Reports every fault, not only the first, and ends with 1 if there is any: a file that is missing or damaged, a record
that does not decode, parts that differ in size, labels outside the classes, counts other than dataset.json's, an
image both in train and in val. Mistakes that leave each record legal are named as suspicions: masks of 0 and 255,
labels shifted by one, colours of a palette taken for ids, a missing void, masks blurred by resizing.

For each split it prints pixels, share, images and median-frequency weight of each class, and the mean IoU of
predicting one class everywhere, which every model has to beat.
"""

import _cli

# isort: split
import collections
from pathlib import Path

import _convert
import numpy as np

from kerasseg.spec import DataError, DatasetSpec, median_frequency_weights


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("data", type=Path, help="the data set's folder, tfrecords/NAME")
    parser.add_argument("--sheet", type=Path, help="PNG to write (default: contact_sheet.png in the folder)")
    parser.add_argument("--pictures", type=int, default=6, help="images of each split on the sheet; 0: no sheet")
    options = parser.parse_args(arguments)

    spec = DatasetSpec.load(options.data)
    print(
        f"{spec.name}: {spec.num_classes} classes, {spec.channels} channels of {spec.bit_depth} bits, {_extras(spec)}"
    )
    faults, suspicions, rows, keys = [], [], [], {}
    for split in spec.splits:
        checked = _Split(options.data, spec, split, options.pictures)
        checked.check()
        faults += checked.faults
        suspicions += checked.suspicions()
        rows += checked.rows
        keys[split] = checked.keys
        checked.print_table()
    faults += _shared_keys(keys)
    if options.pictures > 0 and rows:
        _write_sheet(options.sheet or options.data / "contact_sheet.png", spec, rows)
    for text in suspicions:
        print(f"suspicion: {text}")
    for text in faults:
        print(f"fault: {text}")
    if faults:
        raise DataError(
            f"{options.data}: {len(faults)} faults (listed above); convert the data set again (--overwrite)"
        )
    print(f"no faults in {sum(split.num_examples for split in spec.splits.values())} records")


def _extras(spec: DatasetSpec) -> str:
    kinds = ("instances", "objects", "weights", "proposals")
    parts = [name for name in kinds if getattr(spec, f"has_{name}")]
    return "with " + " and ".join(parts) if parts else "no instances or weights"


class _Split:
    """The records of one split, what is wrong with them, and what is counted."""

    def __init__(self, folder: Path, spec: DatasetSpec, split: str, pictures: int):
        import _data_faults

        self.folder, self.spec, self.split = folder, spec, split
        self.counts = _data_faults.Counts()
        self.faults: list[str] = []
        self.keys: collections.Counter = collections.Counter()
        self.rows: list = []
        total = spec.splits[split].num_examples
        self._shown = {total * i // max(pictures, 1) for i in range(min(pictures, total))}

    def check(self) -> None:
        """Reads every record of every file."""
        from tqdm import tqdm

        from kerasseg import records

        expected = self.spec.splits[self.split]
        found = 0
        with tqdm(total=expected.num_examples, desc=f"{self.spec.name} {self.split}", unit="images") as bar:
            for name in expected.files:
                path = self.folder / name
                if not path.is_file():
                    self.faults.append(f"{path} is missing")
                    continue
                for number, record in enumerate(records.scan(path)):
                    self._check_record(f"{path}, record {number}", record, found)
                    found += 1
                    bar.update()
        if found != expected.num_examples:
            self.faults.append(f"{self.split}: {found} records, but dataset.json says {expected.num_examples}")
        self._compare_counts(expected)

    def _check_record(self, place: str, record, index: int) -> None:
        from kerasseg import records

        if isinstance(record, DataError):
            self.faults.append(f"{place}: {record}")
            return
        try:
            example = records.from_record(record, self.spec.channels)
        except DataError as error:
            self.faults.append(f"{place}: {error}")
            return
        self.keys[example.key] += 1
        texts = _faults_of(example, self.spec) + _object_faults(record, example, self.spec)
        self.faults += [f"{place}: {text}" for text in texts]
        if example.mask is not None:
            self.counts.add(example.key, example.mask)
        if index in self._shown and example.mask is not None:
            self.rows.append((self.split, example))

    def _compare_counts(self, expected) -> None:
        if self.faults:
            return  # the counts of what is damaged cannot agree
        counted = self.counts.labels
        same = tuple(counted[: self.spec.num_classes].tolist()) == tuple(expected.class_pixels)
        if not same or int(counted[self.spec.ignore_label]) != expected.ignored_pixels:
            self.faults.append(f"{self.split}: the masks' label counts differ from those in dataset.json")

    def suspicions(self) -> list[str]:
        """Returns the tell-tale mistakes of the split."""
        import _data_faults

        repeated = sum(count - 1 for count in self.keys.values())
        notes = [f"{self.split}: {repeated} records repeat a key that occurred before"] if repeated else []
        return notes + _data_faults.suspicions(self.spec, self.split, self.counts)

    def print_table(self) -> None:
        """Prints the classes of the split."""
        import _data_faults

        labels, spec = self.counts.labels, self.spec
        total = max(1, int(labels.sum()))
        weights = median_frequency_weights(spec, self.split) if sum(spec.splits[self.split].class_pixels) else None
        width = max(len(name) for name in (*spec.class_names, "ignored"))
        print(f"\n{self.split}: {self.counts.num_images} images")
        print(
            f"  {'class':>5} {'name':<{width}} {'pixels':>13} {'share %':>8} {'images':>7} {'median-freq. weight':>20}"
        )
        for label, name in [*enumerate(spec.class_names), (spec.ignore_label, "ignored")]:
            weight = f"{weights[label]:20.4f}" if weights is not None and label < spec.num_classes else ""
            pixels, images = int(labels[label]), int(self.counts.images[label])
            print(f"  {label:>5} {name:<{width}} {pixels:>13} {100 * pixels / total:>8.3f} {images:>7} {weight}")
        for label, score in _data_faults.background_scores(labels, spec.num_classes).items():
            print(f"  mean IoU of predicting {spec.class_names[label]!r} everywhere: {score:.4f}")


def _faults_of(example, spec: DatasetSpec) -> list[str]:
    """Returns in what a decoded example contradicts `dataset.json`."""
    depth = {"uint8": 8, "uint16": 16, "float32": 32}[example.image.dtype.name]
    found = []
    if depth != spec.bit_depth:
        found.append(f"{example.key}: the image has {depth} bits, but the data set {spec.bit_depth}")
    if example.image.shape[2] != spec.channels:
        found.append(
            f"{example.key}: the image has {example.image.shape[2]} channels, but the data set {spec.channels}"
        )
    if example.mask is None:
        found.append(f"{example.key}: the record has no mask")
    else:
        illegal = [v for v in np.unique(example.mask).tolist() if v >= spec.num_classes and v != spec.ignore_label]
        if illegal:
            legal = f"0 to {spec.num_classes - 1} or {spec.ignore_label}"
            found.append(f"{example.key}: labels {illegal[:6]}; expected {legal}")
    parts = {"instances": spec.has_instances, "weight": spec.has_weights, "proposals": spec.has_proposals}
    for name, expected in parts.items():
        if (getattr(example, name) is not None) != expected:
            found.append(f"{example.key}: {name} {'missing' if expected else 'there'}, against dataset.json")
    return found


def _object_faults(record: bytes, example, spec: DatasetSpec) -> list[str]:
    """Returns whether the stored boxes and classes of objects are other than those of the instances."""
    import tensorflow as tf

    from kerasseg import records

    if not spec.has_objects or example.instances is None or example.mask is None:
        return []
    try:
        stored = records.parse_features(record, objects=True)
    except tf.errors.InvalidArgumentError:
        return [f"{example.key}: the boxes of its objects have not the same number of sides each"]
    expected = records.object_boxes(example.instances, example.mask, spec.ignore_label)
    found = [stored[name].numpy() for name in ("objects", "object_labels")]
    if not all(map(np.array_equal, found, expected)):
        return [f"{example.key}: the boxes or classes of its {len(expected[1])} objects are not those of its instances"]
    return []


def _shared_keys(keys: dict) -> list[str]:
    """An image both in train and in val makes every score of val too good."""
    shared = sorted(set(keys.get("train", ())) & set(keys.get("val", ())))
    return [f"{len(shared)} images are in both train and val, first {shared[0]}"] if shared else []


def _write_sheet(path: Path, spec: DatasetSpec, rows) -> None:
    """Writes a picture of images, overlays and masks, with the legend below."""
    from PIL import Image

    from kerasseg import postprocess

    palette = spec.palette_256()
    pictures, captions, shown = [], [], set()
    for split, example in rows:
        legal = np.where(example.mask < spec.num_classes, example.mask, spec.ignore_label).astype(np.uint8)
        shown |= set(np.unique(legal).tolist())
        mask = postprocess.colourise(legal, palette)
        pictures.append([example.image, postprocess.overlay(example.image, legal, palette), mask])
        height, width = example.mask.shape
        captions.append([example.key, f"{split}, {width}x{height}", f"{len(np.unique(example.mask))} labels"])
    footer = postprocess.legend(spec.class_names, palette, classes=sorted(shown), width=800)
    titles = ("image", "overlay", "mask")
    sheet = postprocess.montage(pictures, captions=captions, titles=titles, footer=footer, side=260)
    Image.fromarray(sheet).save(path)
    print(f"\nlook at {path}")


if __name__ == "__main__":
    _convert.run(main)
