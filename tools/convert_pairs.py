"""Convert any folder of images and one of masks to records for training.

    python tools/convert_pairs.py --images images --masks masks --classes classes.txt --val-share 0.2 \\
        --output tfrecords/mine
    python tools/convert_pairs.py --images CamVid/train --masks CamVid/trainannot --val-images CamVid/val \\
        --val-masks CamVid/valannot --classes camvid.txt --ignore 11 --output tfrecords/camvid
    python tools/convert_pairs.py --images leftImg8bit --image-suffix _leftImg8bit --masks gtFine \\
        --mask-suffix _gtFine_labelTrainIds --classes cityscapes.txt --train-list train.txt --val-list val.txt \\
        --output tfrecords/city

An image and its mask have the same name but for the suffixes; folders below are looked into. classes.txt names one
class per line in the order of the ids, with a colour or without (`road 128 64 128`). Masks hold ids, in a palette PNG
(its indices), a grey PNG or a TIFF; masks in colours need the colours in classes.txt, or --voc-colours.
"""

import _cli

# isort: split
from pathlib import Path

import _convert
import _scaling

from kerasseg.spec import IGNORE_LABEL, DataError, DatasetSpec


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder of images")
    parser.add_argument("--masks", required=True, type=Path, help="folder of masks")
    parser.add_argument("--classes", required=True, type=Path, help="text file, one class per line")
    _convert.add_output_options(parser)
    parser.add_argument("--image-suffix", default="", help="end of every image's stem that its mask has not")
    parser.add_argument("--mask-suffix", default="", help="end of every mask's stem that its image has not")
    parser.add_argument("--ignore", type=_labels, default=[], help="labels that become 255, for example 11 or 0,12")
    parser.add_argument("--map", type=_mapping, default={}, help="labels to change, for example 255=1,128=2")
    parser.add_argument("--voc-colours", action="store_true", help="decode colours by the VOC colour map")
    parser.add_argument("--channels", type=_convert.positive, help="to store (default: as found, colour if any is)")
    _scaling.add_options(parser)
    parser.add_argument("--val-images", type=Path, help="folder of images for validation")
    parser.add_argument("--val-masks", type=Path, help="folder of their masks")
    parser.add_argument("--train-list", type=Path, help="names of the images to train on, one per line")
    parser.add_argument("--val-list", type=Path, help="names of those for validation, in the same folders")
    parser.add_argument(
        "--val-share", type=_convert.share, default=0, help="share kept for validation, drawn by --seed"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --val-share")
    options = parser.parse_args(arguments)

    names, palette = _convert.without_ignored_classes(*_convert.read_classes(options.classes), options.ignore)
    splits = _split(options)
    everything = [pair for pairs in splits.values() for pair in pairs]
    channels, bit_depth = _pixel_format(options, [image for _, image, _ in everything])
    spec = DatasetSpec(
        name=_convert.name_of(options.output),
        class_names=names,
        palette=palette or (),
        channels=channels,
        bit_depth=bit_depth,
        value_range=_scaling.value_range(options, bit_depth),
        notes={
            "tool": "convert_pairs.py",
            "ignore": options.ignore,
            "map": {str(old): new for old, new in options.map.items()},
            "val_share": options.val_share,
            "seed": options.seed,
        }
        | _scaling.notes(options, bit_depth, channels),
    )
    mapping = {**options.map, **dict.fromkeys(options.ignore, IGNORE_LABEL)}
    colours = _convert.default_palette(len(names)) if options.voc_colours else palette
    examples = {split: [_maker(*pair, mapping, colours, channels) for pair in pairs] for split, pairs in splits.items()}
    _convert.write(options, spec, examples)


def _labels(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _mapping(text: str) -> dict[int, int]:
    pairs = [part.split("=") for part in text.split(",")]
    return {int(old): int(new) for old, new in pairs}


def _split(options) -> dict[str, list[tuple[str, Path, Path]]]:
    """Returns the (key, image, mask) of each split."""
    ways = [
        bool(options.val_images or options.val_masks),
        bool(options.train_list or options.val_list),
        options.val_share > 0,
    ]
    if sum(ways) > 1:
        raise DataError("choose one of --val-images with --val-masks, --train-list with --val-list, and --val-share")
    pairs = _pairs(options, options.images, options.masks)
    if ways[0]:
        if not (options.val_images and options.val_masks):
            raise DataError("--val-images and --val-masks belong together; one of them is missing")
        return {"train": pairs, "val": _pairs(options, options.val_images, options.val_masks)}
    if ways[1]:
        lists = {"train": options.train_list, "val": options.val_list}
        return {split: _listed(path, pairs, options) for split, path in lists.items() if path}
    return _convert.seeded_split(pairs, options.val_share, options.seed)


def _pairs(options, image_folder: Path, mask_folder: Path) -> list[tuple[str, Path, Path]]:
    if image_folder.resolve() == mask_folder.resolve() and options.image_suffix == options.mask_suffix:
        raise DataError(f"{image_folder} is given for images and masks; tell them apart with --mask-suffix")
    masks = _convert.images_in(mask_folder, "masks", options.mask_suffix, deep=True)
    images = _convert.images_in(image_folder, "images", options.image_suffix, deep=True)
    if options.mask_suffix and image_folder.resolve() == mask_folder.resolve():
        images = {stem: path for stem, path in images.items() if path not in set(masks.values())}
    lacking = [stem for stem in images if stem not in masks]
    if lacking:
        expected = mask_folder / f"{lacking[0]}{options.mask_suffix}.png"
        raise DataError(
            f"{images[lacking[0]]} has no mask: expected {expected} ({len(lacking)} of {len(images)} images lack "
            "theirs); add it, remove the image, or name the difference of the names with --mask-suffix"
        )
    surplus = [stem for stem in masks if stem not in images]
    if surplus:
        _convert.warn(f"{len(surplus)} masks have no image and are left out, first {masks[surplus[0]]}")
    return [(stem, images[stem], masks[stem]) for stem in images]


def _listed(path: Path, pairs, options) -> list[tuple[str, Path, Path]]:
    by_name = {key: (key, image, mask) for key, image, mask in pairs}
    by_name |= {key.rsplit("/", 1)[-1]: pair for key, pair in by_name.items()}
    names = [name.removesuffix(options.image_suffix) for name in _convert.read_list(path)]
    lacking = [name for name in names if name not in by_name]
    if lacking:
        raise DataError(f"{path} names {lacking[0]!r}, which is not in {options.images} ({len(lacking)} such in all)")
    return [by_name[name] for name in names]


def _pixel_format(options, paths: list[Path]) -> tuple[int, int]:
    """Returns channels and bits of the data set: colour where any JPEG or PNG is, else as the first image."""
    from kerasseg import records

    first = _convert.first_readable(paths, lambda path: records.read_image(path, options.channels).image)
    channels = first.shape[2]
    if options.channels is None and channels == 1:
        encoded = (path for path in paths if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        channels = max(map(_convert.lenient(records.image_channels, 1), encoded), default=1)
    return channels, {"uint8": 8, "uint16": 16, "float32": 32}[first.dtype.name]


def _maker(key: str, image_path: Path, mask_path: Path, mapping, colours, channels: int):
    """Returns the `records.Deferred` that reads one pair."""
    from kerasseg import records

    def make() -> records.Example:
        image = records.read_image(image_path, channels, pixels=False)
        mask = records.read_source_mask(mask_path, mapping=mapping, colours=colours)
        return records.Example(
            key=key,
            image=image.image,
            mask=mask.mask,
            image_bytes=image.data,
            image_format=image.format,
            mask_bytes=mask.data,
            source=f"{image_path}, {mask_path}",
        )

    return records.Deferred(key, (image_path, mask_path), make)


if __name__ == "__main__":
    _convert.run(main)
