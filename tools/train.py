"""Train a network on a converted data set, the way its authors did it or with options of one's own.

    python tools/train.py --recipe segnet_camvid --data tfrecords/camvid --output runs/segnet --init vgg16_weights.h5
    python tools/train.py --model unet --data tfrecords/cells --output runs/cells --preset cells \\
        --model-option filters=16 padding=same batch_norm=True --steps 2000
    python tools/train.py --model deeplab_v3 --data tfrecords/voc2012 --output runs/voc --steps 30000 \\
        --batch-size 16 --crop-size 513 --learning-rate 0.007 --init resnet_v2_50.ckpt --init-exclude logits

First it prints what it is going to do. Called again with the same options, it goes on from the last checkpoint. The
output folder gets best.keras (highest mean IoU on the validation images), last.keras, log.csv, curves.png, run.json
(all options) and tensorboard/; with a recipe of several stages, each stage has a folder in it with these.

All GPUs of a machine are used. To train on several machines, install `kerasseg[distributed]` (Keras 2) on each, set
TF_CONFIG, and give the same command, data and output folder (on a disk that all share) to each; the index differs:

    export TF_CONFIG='{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'

The batch is shared out among all GPUs, and the files of the training split among the machines: convert with
--num-shards a multiple of their number. When one of them ends, all do: start all again, and they go on.
"""

import _cli

# isort: split
import re
from pathlib import Path

import _training_options
import _training_stages

from kerasseg._cluster import cluster
from kerasseg.spec import DataError, DatasetSpec


def main(arguments=None):
    options = _training_options.resolved(_training_options.parser(__doc__), arguments)
    spec = DatasetSpec.load(options.data)
    for split in (options.train_split, options.val_split):
        spec.split(split)

    from kerasseg import recipes, training

    if not options.describe:
        training.strategy()  # several workers have to meet before TensorFlow does anything else
    stages = _training_stages.of(options, spec)
    print(recipes.table(stages, options.init))
    if options.describe:
        return
    try:
        state = recipes.run(
            stages,
            options.data,
            options.output,
            train_split=options.train_split,
            val_split=options.val_split,
            seed=options.seed,
            validate_every=options.validate_every,
            init=options.init,
            init_exclude=options.init_exclude,
            mixed_precision=options.mixed_precision,
            options=_described(options),
        )
    except DataError as error:
        raise DataError(re.sub("^init: ", "--init: ", _as_option(str(error)))) from error
    if not cluster().is_chief:
        return
    best, output = state.best, options.output
    print(f"best mean IoU on {options.val_split}: {best['val_mean_iou']:.4f} at step {best['step']} of {state.step}")
    print(f"best model: {output / 'best.keras'}\nlog:        {output / 'log.csv'}\ncurves:     {output / 'curves.png'}")


def _as_option(text):
    return re.sub(r'init_exclude=\("(.*?)",\)', r"--init-exclude \1", text)


def _described(options):
    """Returns the options that a resumed run must have been given again, in plain values."""
    unimportant = ("output", "describe", "crop_given", "crop_size")
    return {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items() if name not in unimportant}


if __name__ == "__main__":
    _cli.run(main)
