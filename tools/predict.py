"""Segments images with a trained model: masks as palette PNGs (pixels are class ids), and overlays to look at.

    python tools/predict.py --model runs/voc/best.keras --images photo.jpg other.png --output predicted
    python tools/predict.py --model runs/cells/best.keras --images slides/ --output predicted --tile-size 512
    python tools/predict.py --model runs/cells/best.keras --images slides/ --output predicted --flip --rotate
    python tools/predict.py --model runs/segnet/best.keras --images drive/ --output predicted --samples 40
    python tools/predict.py --model deconvnet.keras --and-model fcn_8s.keras --proposals boxes/ --images photos/ \\
        --output predicted
    python tools/predict.py --model runs/voc/best.keras --images test/ --output predicted --voc-submission voc.tgz

Writes OUTPUT/masks/NAME.png, OUTPUT/overlays/NAME.png and OUTPUT/legend.png; files of these names are written over,
others in OUTPUT are left alone. With --objects also OUTPUT/objects/NAME.png, the single objects' numbers in 16 bits:
parted where they touch, if the model knows rims, else the connected parts of class 1, or as --objects-by says. With
--samples also OUTPUT/uncertainty/NAME.png, grey of 16 bits: the mean variance of the probabilities, 0 to its highest
possible value, 0.25. Class names and colours come from run.json beside the model. A file that cannot be read is named,
the others are done, and the exit code is 1.

Images of more than 50 million pixels are segmented by windows: the mask is OUTPUT/masks/NAME.tif, and there is no
overlay. TIFFs and .npy files are read by windows as well, and may be larger than memory.
"""

import sys
from pathlib import Path

import _cli
import _inference_options
import _object_scores
import _voc_submission

LARGE_PIXELS = 50_000_000
"""Images of more are segmented by windows: whole, with overlay and all, they would take gigabytes."""


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="trained model, such as runs/NAME/best.keras")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="image files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--alpha", type=float, default=0.5, help="share of the class colour in overlays, 0-1")
    parser.add_argument("--objects", action="store_true", help="write the numbers of single objects (cells) as well")
    _object_scores.add_option(parser)
    _inference_options.add(parser)
    _voc_submission.add_options(parser)
    options = parser.parse_args(arguments)
    if not 0 <= options.alpha <= 1:
        parser.error("--alpha must lie in 0-1")

    import _pictures
    from tqdm import tqdm

    from kerasseg.postprocess import legend

    files = _pictures.image_files(options.images)

    from kerasseg.inference import open_windows

    trained_on = _pictures.dataset_of(options.model)
    value_range = trained_on and trained_on.value_range
    segmenter = _inference_options.segmenter(options, options.model, value_range)
    classes = _pictures.Classes.of_model(options.model, segmenter.num_classes)
    failed = 0
    with _voc_submission.of(options, len(classes.names)) as submission:
        (options.output / "masks").mkdir(parents=True, exist_ok=True)
        for name, path in tqdm(files.items(), desc="segment", unit="image"):
            try:
                image = open_windows(path)
                if image.shape[0] * image.shape[1] > LARGE_PIXELS and not submission:
                    _segment_by_windows(segmenter, path, name, image.shape[:2], options, classes)
                    continue
                image = image[:, :]
                found = segmenter.everything(path, objects=options.objects)
            except ValueError as error:
                fault = error if str(path) in str(error) else f"{path}: {error}"
                tqdm.write(f"error: {fault}", file=sys.stderr)
                failed += 1
                continue
            _write(options, name, _displayed(image, value_range), found, classes)
            if submission:
                submission.add(name, found.mask)
        _pictures.save_picture(options.output / "legend.png", legend(classes.names, classes.colours))
        print(f"{len(files) - failed} of {len(files)} images segmented: {options.output / 'masks'}")
        if failed:  # A submission that lacks images is none.
            raise _cli.DataError(f"{failed} of {len(files)} images could not be segmented; they are named above")
    if submission:
        print(f"for the server: {options.voc_submission}")


def _segment_by_windows(segmenter, path, name, size, options, classes):
    """Writes the mask of a large image."""
    from tqdm import tqdm

    if options.objects or options.voc_submission or not getattr(segmenter, "takes_windows", False):
        raise _cli.DataError(
            f"{path}: {size[1]}x{size[0]} pixels are segmented by windows, which gives the mask alone, from one "
            "network and one view; leave out --objects, --voc-submission and the recipes, or cut the image into parts"
        )
    tqdm.write(f"{name}: by windows, {segmenter.memory_needed(size, 'file')}")
    with tqdm(desc=name, unit="tile", leave=False) as bar:

        def show(done, total):
            bar.total = total
            bar.update(done - bar.n)

        target = options.output / "masks" / f"{name}.tif"
        segmenter.segment_file(path, target, palette=classes.palette, on_progress=show)


def _displayed(image, value_range):
    """Returns an image as 0-255, as the model saw it."""
    from kerasseg.spec import to_255

    if image.dtype == "uint16" or (image.dtype != "uint8" and value_range):
        return to_255(image.astype("float32"), value_range)
    return image


def _write(options, name, image, found, classes):
    """Writes what was found in one image."""
    import _pictures

    from kerasseg.postprocess import overlay

    _pictures.save_mask(options.output / "masks" / f"{name}.png", found.mask, classes.palette)
    if options.objects:
        objects = _object_scores.objects_of(found.mask, found.objects, options.objects_by)
        _pictures.save_picture(options.output / "objects" / f"{name}.png", objects.astype("uint16"))
    if found.uncertainty is not None:
        picture = (found.uncertainty * (4 * 65535)).round().astype("uint16")
        _pictures.save_picture(options.output / "uncertainty" / f"{name}.png", picture)
    picture = overlay(image, found.mask, classes.colours, options.alpha)
    _pictures.save_picture(options.output / "overlays" / f"{name}.png", picture)


if __name__ == "__main__":
    _cli.run(main)
