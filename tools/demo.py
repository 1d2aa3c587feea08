"""The whole way in one go: images on disk -> records -> training -> report -> a model that TensorFlow Serving loads.

    python tools/demo.py                                  draws its own cell images: no download
    python tools/demo.py --data tfrecords/camvid --steps 1500        a data set that you have converted

Each step is one of the other tools, called as you would call it; the commands are printed. About five minutes on two
cores. Open OUTPUT/report afterwards.
"""

import importlib
import json
import shlex
import shutil
import time
from pathlib import Path

import _cli

MODEL_OPTIONS = ["filters=16", "padding=same", "batch_norm=True"]


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for all that it makes; made anew")
    parser.add_argument("--data", type=Path, help="a converted data set, instead of generated cells")
    parser.add_argument("--images", type=int, default=80, help="number of cell images to draw")
    parser.add_argument("--steps", type=int, default=600, help="training steps, of 4 crops of 192 x 192 pixels")
    parser.add_argument("--seed", type=int, default=0, help="of images, split, weights and augmentation")
    options = parser.parse_args(arguments)

    start = time.monotonic()
    out = _fresh(options.output)
    data = options.data or _generated_cells(out, options.images, options.seed)
    run, report, exported = out / "run", out / "report", out / "exported" / "unet"
    preset = "deeplab_paper" if options.data else "cells"
    train = ["--model", "unet", "--model-option", *MODEL_OPTIONS, "--data", data, "--output", run, "--preset", preset]
    train += ["--steps", options.steps, "--batch-size", 4, "--crop-size", 192, "--optimizer", "adam"]
    train += ["--learning-rate", 0.002, "--schedule", "cosine", "--seed", options.seed]
    train += ["--validate-every", max(options.steps // 4, 1)]
    if not options.data:
        train.append("--pixel-weights")  # U-Net's border weights keep touching cells apart
    _step("train", *train)
    evaluate = ["--model", run / "best.keras", "--data", data, "--split", "val", "--output", report]
    if not options.data:
        evaluate += ["--objects-by", "watershed"]  # parts cells that touch all the same
    _step("evaluate", *evaluate)
    _step("export", "--model", run / "best.keras", "--output", exported)

    scores = json.loads((report / "report.json").read_text())
    print(f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes.")
    print(f"mIoU on {scores['num_images']} held-out images: {scores['mean_iou']:.3f}")
    for label, path in (
        ("report", report / "report.html"),
        ("confusion matrix", report / "confusion_matrix.png"),
        ("overlays", report / "overlays"),
        ("training curves", run / "curves.png"),
        ("SavedModel", exported / "1"),
    ):
        print(f"  {label:17}{path}{'' if path.exists() else '  (missing)'}")


def _fresh(out: Path) -> Path:
    """Returns the folder, emptied if an earlier demo made it; another folder is not touched."""
    marker = out / ".kerasseg-demo"
    if out.exists():
        if not marker.exists() and any(out.iterdir()):
            raise _cli.DataError(f"{out} exists and no demo made it; expected a new folder: choose another --output")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    marker.touch()
    return out


def _generated_cells(out: Path, images: int, seed: int) -> Path:
    """Draws cells as a data set lies on disk, and converts and checks it as one does with real data."""
    cells, data = out / "cells", out / "tfrecords" / "cells"
    _step("make_cells", "--output", cells, "--num-images", images, "--seed", seed)
    _step("convert_cells", "--layout", "ctc", "--input", cells, "--output", data, "--seed", seed, "--border-weights")
    _step("check_data", data)
    return data


def _step(tool: str, *arguments):
    """Prints a command and runs it, in this process: TensorFlow is loaded once."""
    arguments = [str(argument) for argument in arguments]
    print(f"\n$ python tools/{tool}.py {shlex.join(arguments)}", flush=True)
    importlib.import_module(tool).main(arguments)


if __name__ == "__main__":
    _cli.run(main)
