"""Draw microscopy-like images of touching, textured cells with instance labels, in a Cell Tracking Challenge layout.

    python tools/make_cells.py --output cells
    python tools/make_cells.py --output cells --num-images 100 --size 512 --seed 7
    python tools/convert_cells.py --layout ctc --input cells --output tfrecords/cells

Each frame is a field of view of its own (this is no film): cells of varied size and shape, many of them touching,
in transmitted light with relief, granules, nuclei, halos, uneven illumination, blur, dust and noise. A cell is on
average as bright as what lies around it, so no threshold finds it. Every cell is labelled in every frame.

    OUTPUT/01/tNNN.tif               the image, 8 bit
    OUTPUT/01_GT/SEG/man_segNNN.tif  the cells' numbers, 16 bit, 0 = background
"""

import _cli

# isort: split
import os
import shutil
from pathlib import Path

from kerasseg.spec import DataError

MARKER = "SOURCE.txt"
MARKER_TEXT = "Drawn by kerasseg's tools/make_cells.py"


def main(arguments=None):
    parser = _cli.parser(__doc__, tensorflow=False)
    parser.add_argument("--output", required=True, help="folder to make; refused where it exists")
    parser.add_argument("--num-images", type=int, default=40, help="number of frames")
    parser.add_argument("--size", type=int, default=256, help="height and width of a frame, pixels")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same cells")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that this tool made")
    options = parser.parse_args(arguments)
    if not 1 <= options.num_images <= 10_000:
        parser.error(f"--num-images: expected 1 to 10000, received {options.num_images}")
    if options.size < 32:
        parser.error(f"--size: expected at least 32 pixels, received {options.size}")
    if options.seed < 0:
        parser.error(f"--seed: expected 0 or more, received {options.seed}")
    make_cells(
        options.output,
        num_images=options.num_images,
        size=options.size,
        seed=options.seed,
        overwrite=options.overwrite,
    )
    print(f"{options.num_images} frames of {options.size}x{options.size} in {options.output}")


def make_cells(
    directory, *, num_images: int = 40, size: int = 256, seed: int = 0, overwrite: bool = False, progress: bool = True
) -> Path:
    """Writes `num_images` frames and their labels; the folder appears only when it is complete.

    Args:
        directory: Folder to make.
        num_images: Number of frames, 1 to 10,000.
        size: Side of a frame, pixels, at least 32.
        seed: The same seed gives the same frames, and frame i does not depend on how many follow it.
        overwrite: Replace a folder that this function made before (any other is never touched).
        progress: Show a bar on stderr.

    Returns:
        The folder.

    Raises:
        DataError: The folder exists, or cannot be written.
        ValueError: An argument out of range.
    """
    from _cell_drawing import draw_field
    from numpy.random import default_rng
    from tqdm import tqdm

    if not 1 <= num_images <= 10_000 or size < 32 or seed < 0:
        raise ValueError(
            "expected 1 to 10000 images, a size of at least 32 and a seed of at least 0, "
            f"received {num_images}, {size} and {seed}"
        )
    directory = Path(directory)
    if directory.exists():
        _check_replaceable(directory, overwrite)
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    images, labels = partial / "01", partial / "01_GT" / "SEG"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    digits = max(3, len(str(num_images - 1)))  # as the challenge counts: three, or four where there are more frames
    for i in tqdm(range(num_images), desc="drawing cells", unit="image", disable=not progress):
        image, instances = draw_field(default_rng([seed, i]), size)
        _write_tiff(images / f"t{i:0{digits}}.tif", image)
        _write_tiff(labels / f"man_seg{i:0{digits}}.tif", instances)
    (partial / MARKER).write_text(f"{MARKER_TEXT}: {num_images} frames of {size}x{size}, seed {seed}.\n")
    if directory.exists():
        shutil.rmtree(directory)
    os.replace(partial, directory)
    return directory


def _check_replaceable(directory, overwrite):
    marker = directory / MARKER
    if not (marker.is_file() and marker.read_text(errors="replace").startswith(MARKER_TEXT)):
        raise DataError(f"{directory} exists and was not made by this tool; choose another folder or remove it")
    if not overwrite:
        raise DataError(f"{directory} exists; choose another folder or replace it with --overwrite")


def _write_tiff(path, pixels):
    """Writes an LZW TIFF (OpenCV's default), as the challenge's own files are."""
    from kerasseg._opencv import cv2

    if not cv2.imwrite(str(path), pixels):
        raise DataError(f"{path} cannot be written; expected a writable folder with space left")


if __name__ == "__main__":
    _cli.run(main)
