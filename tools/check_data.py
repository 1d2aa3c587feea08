"""Check a converted data set: every record, every label; the share of each class; a sheet of pictures to look at.

    python tools/check_data.py tfrecords/voc2012
    python tools/check_data.py tfrecords/voc2012 --sheet voc.png --pictures 12 --report voc.json

Reports every fault, not only the first, and ends with 1 if there is any: a file that is missing or damaged, a record
that does not decode, parts that differ in size, labels outside the classes, counts other than dataset.json's, an
image both in train and in val. Mistakes that leave each record legal are named as suspicions: masks of 0 and 255,
labels shifted by one, colours of a palette taken for ids, a missing void, masks blurred by resizing, masks of other
images, constant masks, instances that disagree with the mask, the same picture in train and in val.

For each split it prints pixels, share, images and median-frequency weight of each class, and the mean IoU of
predicting one class everywhere, which every model has to beat.
"""

import _cli

# isort: split
import json
import time
from pathlib import Path

import _convert
import _data_faults
import _examine
import numpy as np

from kerasseg.spec import DataError, DatasetSpec, median_frequency_weights


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("data", type=Path, help="the data set's folder, tfrecords/NAME")
    parser.add_argument("--sheet", type=Path, help="PNG to write (default: contact_sheet.png in the folder)")
    parser.add_argument("--pictures", type=int, default=6, help="images of each split on the sheet; 0: no sheet")
    parser.add_argument("--report", type=Path, help="JSON to write: all faults, suspicions and counts, for programs")
    parser.add_argument("--workers", type=_convert.positive, help="threads (default: one for each core)")
    options = parser.parse_args(arguments)

    spec, started = DatasetSpec.load(options.data), time.monotonic()
    print(
        f"{spec.name}: {spec.num_classes} classes, {spec.channels} channels of {spec.bit_depth} bits, {_extras(spec)}"
    )
    splits = [_check(options, spec, name) for name in spec.splits]
    took = time.monotonic() - started
    faults = [fault for split in splits for fault in split.faults] + _shared_keys(splits)
    suspicions = [text for split in splits for text in _suspicions(split)] + _shared_pictures(splits)
    for split in splits:
        _print_table(split)
    if options.pictures > 0 and any(split.shown for split in splits):
        _write_sheet(options.sheet or options.data / "contact_sheet.png", spec, splits)
    if options.report:
        _write_report(options.report, options.data, splits, faults, suspicions)
    for text in suspicions:
        print(f"suspicion: {text}")
    for fault in faults:
        print(f"fault: {fault}")
    if faults:
        raise DataError(
            f"{options.data}: {len(faults)} faults (listed above); convert the data set again (--overwrite)"
        )
    count = sum(split.counts.num_images for split in splits)
    print(f"no faults in {count} records ({count / took:.0f} images/s)")


def _extras(spec: DatasetSpec) -> str:
    kinds = ("instances", "objects", "weights", "proposals")
    parts = [name for name in kinds if getattr(spec, f"has_{name}")]
    return "with " + " and ".join(parts) if parts else "no instances or weights"


def _check(options, spec: DatasetSpec, name: str) -> _examine.Split:
    """Examines every record of a split, and compares the counts."""
    split, expected = _examine.Split(spec, name), spec.splits[name]
    total, pictures = expected.num_examples, options.pictures
    paths = [options.data / file for file in expected.files]
    shown = {total * i // max(pictures, 1) for i in range(min(pictures, total))}
    split.faults = [_examine.Fault(f"{path} is missing", str(path)) for path in paths if not path.is_file()]
    split.read([path for path in paths if path.is_file()], total, shown, options.workers)
    found = sum(split.files.values())
    if found != total:
        split.faults.append(_examine.Fault(f"{name}: {found} records, but dataset.json says {total}"))
    counted = split.counts.labels
    same = tuple(counted[: spec.num_classes].tolist()) == tuple(expected.class_pixels)
    if not split.faults and not (same and int(counted[spec.ignore_label]) == expected.ignored_pixels):
        # The counts of what is damaged cannot agree.
        split.faults.append(_examine.Fault(f"{name}: the masks' label counts differ from those in dataset.json"))
    return split


def _suspicions(split: _examine.Split) -> list[str]:
    """Returns the tell-tale mistakes of a split."""
    repeated = sum(count - 1 for count in split.keys.values())
    notes = [f"{split.name}: {repeated} records repeat a key that occurred before"] if repeated else []
    return notes + _data_faults.suspicions(split.spec, split.name, split.counts)


def _shared_keys(splits) -> list[_examine.Fault]:
    """An image both in train and in val makes every score of val too good."""
    keys = {split.name: split.keys for split in splits}
    shared = sorted(set(keys.get("train", ())) & set(keys.get("val", ())))
    return [_examine.Fault(f"{len(shared)} images are in both train and val, first {shared[0]}")] if shared else []


def _shared_pictures(splits) -> list[str]:
    """Returns the same for images of other names whose pixels are equal."""
    digests = {split.name: split.digests for split in splits}
    train, val = digests.get("train", {}), digests.get("val", {})
    pairs = [(train[d][0], val[d][0]) for d in val if d in train and not set(train[d]) & set(val[d])]
    if not pairs:
        return []
    return [
        f"{len(pairs)} pictures are in both train and val under two names, first {pairs[0][0]} and {pairs[0][1]}: "
        "scores of val will be too good"
    ]


def _print_table(split: _examine.Split) -> None:
    """Prints the classes of a split."""
    labels, spec = split.counts.labels, split.spec
    total = max(1, int(labels.sum()))
    weights = median_frequency_weights(spec, split.name) if sum(spec.splits[split.name].class_pixels) else None
    width = max(len(name) for name in (*spec.class_names, "ignored"))
    print(f"\n{split.name}: {split.counts.num_images} images")
    print(f"  {'class':>5} {'name':<{width}} {'pixels':>13} {'share %':>8} {'images':>7} {'median-freq. weight':>20}")
    for label, name in [*enumerate(spec.class_names), (spec.ignore_label, "ignored")]:
        weight = f"{weights[label]:20.4f}" if weights is not None and label < spec.num_classes else ""
        pixels, images = int(labels[label]), int(split.counts.images[label])
        print(f"  {label:>5} {name:<{width}} {pixels:>13} {100 * pixels / total:>8.3f} {images:>7} {weight}")
    for label, score in _data_faults.background_scores(labels, spec.num_classes).items():
        print(f"  mean IoU of predicting {spec.class_names[label]!r} everywhere: {score:.4f}")


def _write_report(path: Path, data: Path, splits, faults, suspicions) -> None:
    """Writes all that was found in a form for programs."""
    content = {
        "data": str(data),
        "faults": [
            {"file": fault.file or None, "record": fault.record, "key": fault.key or None, "text": fault.text}
            for fault in faults
        ],
        "suspicions": suspicions,
        "splits": {
            split.name: {
                "num_images": split.counts.num_images,
                "class_pixels": split.counts.labels[: split.spec.num_classes].tolist(),
                "class_images": split.counts.images[: split.spec.num_classes].tolist(),
                "ignored_pixels": int(split.counts.labels[split.spec.ignore_label]),
                "alignment": float(np.mean(split.counts.alignment)) if split.counts.alignment else None,
            }
            for split in splits
        },
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_sheet(path: Path, spec: DatasetSpec, splits) -> None:
    """Writes a picture of images, overlays and masks, instances and weights where there are, with the legend below."""
    from PIL import Image

    from kerasseg import postprocess, records

    palette = spec.palette_256()
    titles = ["image", "overlay", "mask", *["instances"] * spec.has_instances, *["weights"] * spec.has_weights]
    pictures, captions, shown = [], [], set()
    for split in splits:
        for example in split.shown:
            if example.mask is None:
                continue
            legal = np.where(example.mask < spec.num_classes, example.mask, spec.ignore_label).astype(np.uint8)
            shown |= set(np.unique(legal).tolist())
            mask = postprocess.colourise(legal, palette)
            image = records.to_255(example.image, spec)
            row = [image, postprocess.overlay(image, legal, palette), mask]
            height, width = example.mask.shape
            texts = [example.key, f"{split.name}, {width}x{height}", f"{len(np.unique(example.mask))} labels"]
            for name, draw in (("instances", _drawn_instances), ("weight", _drawn_weight)):
                if getattr(spec, f"has_{name.removesuffix('s')}s"):
                    picture, text = draw(getattr(example, name))
                    row.append(picture)
                    texts.append(text)
            pictures.append(row)
            captions.append(texts)
    footer = postprocess.legend(spec.class_names, palette, classes=sorted(shown), width=800)
    sheet = postprocess.montage(pictures, captions=captions, titles=titles, footer=footer, side=260)
    Image.fromarray(sheet).save(path)
    print(f"\nlook at {path}")


def _drawn_instances(instances: np.ndarray | None):
    """Returns the objects in bright colours on black, neighbours in numbers far apart in hue, and a caption."""
    if instances is None:
        return None, "missing"
    hue = instances.astype(np.float64) * 0.618034 % 1  # the golden ratio parts the circle of hues evenly
    phase = 2 * np.pi * (hue[..., None] + np.array([0, 1, 2]) / 3)
    picture = (155 + 100 * np.cos(phase)) * (instances > 0)[..., None]
    return picture.astype(np.uint8), f"{len(np.unique(instances[instances > 0]))} objects"


def _drawn_weight(weight: np.ndarray | None):
    """Returns the weights from black (0) to white (the largest), by their roots, and a caption with their range."""
    if weight is None:
        return None, "missing"
    picture = np.sqrt(weight / max(float(weight.max()), 1e-9)) * 255
    return picture.astype(np.uint8), f"{weight.min():.2f} to {weight.max():.2f}"


if __name__ == "__main__":
    _convert.run(main)
