"""Convert cell images with instance labels to records for training.

    python tools/convert_cells.py --layout isbi2012 --input isbi2012 --output tfrecords/isbi2012
    python tools/convert_cells.py --layout ctc --input DIC-C2DH-HeLa --output tfrecords/hela --border-weights
    python tools/convert_cells.py --layout dsb2018 --input stage1_train --output tfrecords/dsb2018
    python tools/convert_cells.py --layout pairs --input my_cells --output tfrecords/my_cells

Layouts: isbi2012 = train/image/N.png with train/label/N.png, or train-volume*.tif with train-labels*.tif (a folder,
or the volume itself); ctc = one data set of the Cell Tracking Challenge, 01/tNNN.tif with 01_GT/SEG and 01_ST/SEG;
dsb2018 = a stage1 folder, ID/images/ID.png with ID/masks/*.png; pairs = images/NAME.* with masks/NAME.* that hold
instance numbers (or 0 and 255).

Instance numbers are kept beside the class mask. In the class mask touching cells are parted by a ridge of background,
as U-Net's authors do (--targets ridge); `rim` marks each cell's outermost pixels as a class of their own, `semantic`
does neither. ISBI 2012 has no touching cells: its mask stays as it is.

Gold truth of the Cell Tracking Challenge labels only some cells in some frames. Cells that silver truth has and gold
truth lacks are 255, ignored; without silver truth, a tracking marker outside every labelled cell makes all that is
unlabelled 255; with neither, a frame counts as complete (--partial background: never 255).
"""

import _cli

# isort: split
from pathlib import Path

import _convert
import _scaling

from kerasseg.spec import DataError, DatasetSpec

LAYOUTS = ("isbi2012", "ctc", "dsb2018", "pairs")

# Height and width of the border term.
_BORDER = {"unet": (10, 5), "fiji": (50, 6)}


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="how the data lie on disk")
    parser.add_argument("--input", required=True, type=Path, help="the data set's folder")
    _convert.add_output_options(parser)
    parser.add_argument(
        "--targets", choices=("ridge", "rim", "semantic"), help="class mask (default: ridge, ISBI: semantic)"
    )
    parser.add_argument(
        "--border-weights",
        nargs="?",
        choices=tuple(_BORDER),
        const="unet",
        help="store U-Net's weight map, as in the paper (unet) or in the authors' later Fiji plug-in (fiji)",
    )
    parser.add_argument("--w0", type=float, help="height of the border term (default: 10, fiji: 50)")
    parser.add_argument("--sigma", type=float, help="width of the border term, pixels (default: 5, fiji: 6)")
    parser.add_argument(
        "--val-share", type=_convert.share, default=0.2, help="share kept for validation; ISBI: last slices"
    )
    parser.add_argument("--val-sequences", help="ctc: keep these films for validation instead (02 or 02,03)")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--channels", type=_convert.positive, help="to store (default: as found; DSB 2018: 3)")
    _scaling.add_options(parser)
    parser.add_argument("--annotations", choices=("both", "gt", "st"), default="both", help="ctc: gold, silver truth")
    parser.add_argument("--partial", choices=("ignore", "background"), default="ignore", help="ctc: what is unlabelled")
    options = parser.parse_args(arguments)

    import _cell_layouts

    if not options.input.exists():
        raise DataError(f"{options.input} does not exist; expected a data set of the layout {options.layout}")
    more = (options.annotations, options.partial) if options.layout == "ctc" else ()
    images = getattr(_cell_layouts, options.layout)(options.input, *more)
    targets = options.targets or ("semantic" if options.layout == "isbi2012" else "ridge")
    channels = options.channels or (3 if options.layout == "dsb2018" else None)  # it mixes grey and colour
    first = _convert.first_readable(images, lambda image: image.read(channels)[0].image)
    bit_depth = {"uint8": 8, "uint16": 16, "float32": 32}[first.dtype.name]
    spec = DatasetSpec(
        name=_convert.name_of(options.output),
        class_names=_class_names(options.layout, targets),
        channels=first.shape[2],
        bit_depth=bit_depth,
        value_range=_scaling.value_range(options, bit_depth),
        notes=_notes(options, targets) | _scaling.notes(options, bit_depth, first.shape[2]),
    )
    splits = {
        name: [_maker(image, targets, channels, options) for image in part]
        for name, part in _split(images, options).items()
    }
    _convert.write(options, spec, splits)


def _class_names(layout: str, targets: str) -> tuple[str, ...]:
    from kerasseg.records import TARGETS

    return ("membrane", "cell") if (layout, targets) == ("isbi2012", "semantic") else TARGETS[targets]


def _split(images: list, options) -> dict[str, list]:
    if options.val_sequences:
        wanted = set(options.val_sequences.split(","))
        there = sorted({image.sequence for image in images})
        if not wanted < set(there):
            raise DataError(
                f"--val-sequences {options.val_sequences}: the sequences are {', '.join(there)}; name some, not all"
            )
        return {
            "train": [image for image in images if image.sequence not in wanted],
            "val": [image for image in images if image.sequence in wanted],
        }
    if options.layout == "isbi2012" and options.val_share:
        count = max(1, round(len(images) * options.val_share))  # neighbouring slices are alike: the last ones together
        if count >= len(images):
            raise DataError(f"{options.input} has {len(images)} slices; too few for --val-share {options.val_share}")
        return {"train": images[:-count], "val": images[-count:]}
    return _convert.seeded_split(images, options.val_share, options.seed)


def _notes(options, targets: str) -> dict:
    notes = {
        "tool": "convert_cells.py",
        "layout": options.layout,
        "targets": targets,
        "val_share": options.val_share,
        "seed": options.seed,
    }
    if options.layout == "ctc":
        notes |= {
            "annotations": options.annotations,
            "partial": options.partial,
            "val_sequences": options.val_sequences,
        }
    if options.border_weights:
        w0, sigma = _border_options(options)
        notes |= {"border_weights": {"kind": options.border_weights, "w0": w0, "sigma": sigma}}
    return notes


def _border_options(options) -> tuple[float, float]:
    w0, sigma = _BORDER[options.border_weights]
    return w0 if options.w0 is None else options.w0, sigma if options.sigma is None else options.sigma


def _maker(cells, targets: str, channels: int | None, options):
    """Returns the `records.Deferred` that reads one image and makes its class mask and weights."""
    import numpy as np

    from kerasseg import augment, records

    def make() -> records.Example:
        source, instances, unknown = cells.read(channels)
        instances = _in_16_bits(instances, f"{cells.key} ({cells.source})")
        mask = records.instance_targets(instances, targets)
        if unknown is not None:
            if unknown.shape != mask.shape:
                raise DataError(f"{cells.key} ({cells.source}): the labels of a frame differ in size")
            mask[unknown] = 255
        weight = None
        if options.border_weights:
            parted = np.where(records.touching(instances), 0, instances) if targets == "ridge" else instances
            weigh = augment.fiji_border_weights if options.border_weights == "fiji" else augment.border_weights
            weight = weigh(parted, *_border_options(options), mask=mask)
            weight = np.minimum(weight, records.MAX_WEIGHT).astype(np.float32)
        return records.Example(
            key=cells.key,
            image=source.image,
            mask=mask,
            instances=instances,
            weight=weight,
            image_bytes=source.data,
            image_format=source.format,
            source=cells.source,
        )

    return records.Deferred(cells.key, cells.files, make)


def _in_16_bits(instances, label: str):
    """Returns instance numbers as uint16; numbers that do not fit are replaced, all of that image, by 1, 2, ..."""
    import numpy as np

    if instances.min() < 0:
        raise DataError(f"{label}: instance number {instances.min()}; expected 0 for background and cells from 1 on")
    if instances.max() > 65535:
        ids, places = np.unique(instances, return_inverse=True)
        if len(ids) - (ids[0] == 0) > 65535:
            raise DataError(f"{label}: {len(ids)} different instance numbers; expected at most 65535 cells in an image")
        instances = places.reshape(instances.shape) + (ids[0] > 0)
    return instances.astype(np.uint16)


if __name__ == "__main__":
    _convert.run(main)
