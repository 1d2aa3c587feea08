"""Draw a sheet of augmented images and their masks, as training will see them: look before you train.

    python tools/show_batches.py --data tfrecords/cells --preset cells --crop-size 192 --output batches.png
    python tools/show_batches.py --data tfrecords/voc2012 --preset deeplab_original --crop-size 513 --output batches.png

Left the image, right the mask over it: tinted and outlined classes, hatched where the label is ignored or the image
was padded.
"""

import _cli

# isort: split
from pathlib import Path

import _crops
import numpy as np

from kerasseg.spec import DataError, DatasetSpec


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--data", required=True, help="folder of a converted data set")
    parser.add_argument("--split", default="train", help="split to show")
    parser.add_argument("--preset", default="deeplab_paper", help="name of a function in kerasseg.pipeline.presets")
    _crops.add_option(parser, 256)
    parser.add_argument("--num-images", type=int, default=12, help="number of images")
    parser.add_argument("--columns", type=int, default=3, help="images side by side")
    parser.add_argument("--seed", type=int, default=0, help="the same seed shows the same images")
    parser.add_argument("--output", required=True, help="picture to write (.png)")
    options = parser.parse_args(arguments)
    options.crop_size = _crops.size(parser, options)
    if min(options.num_images, options.columns) < 1 or options.seed < 0:
        parser.error("--num-images and --columns: expected at least 1; --seed: at least 0")

    from PIL import Image

    from kerasseg.pipeline import presets

    if options.preset not in presets.__all__:
        parser.error(f"--preset: expected one of {', '.join(presets.__all__)}, received {options.preset}")
    output = Path(options.output)
    if not output.parent.is_dir():
        raise DataError(f"{output.parent} is no folder; make it, or choose another --output")
    Image.fromarray(sheet(options)).save(output)
    print(f"{options.num_images} images in {output}")


def sheet(options) -> np.ndarray:
    """Returns the sheet as uint8 [H, W, 3] RGB."""
    from kerasseg import pipeline, postprocess

    spec = DatasetSpec.load(options.data)
    palette = spec.palette_256()
    batches = pipeline.train_batches(
        options.data, options.split, 1, options.crop_size, options.preset, seed=options.seed
    )
    pictures, classes = [], set()
    with pipeline.naming_damage(options.data, options.split):
        for image, mask in batches.take(options.num_images).as_numpy_iterator():
            pictures += [image[0], postprocess.overlay(image[0], mask[0], palette)]
            classes |= set(np.unique(mask[0]).tolist())
    wide = 2 * options.columns
    rows = [pictures[i : i + wide] for i in range(0, len(pictures), wide)]
    footer = postprocess.legend(spec.class_names, palette, classes=sorted(classes))
    side = max(256, min(512, *(options.crop_size or (512,))))
    return postprocess.montage(rows, footer=footer, side=side)


if __name__ == "__main__":
    _cli.run(main)
