"""Saves small networks under the Keras of this process, and loads those that processes of the others have saved.

    python tests/_three_kerases.py FOLDER OWN_NAME [OTHER_NAME ...]

Writes FOLDER/OWN_NAME.json: {"keras": its version, "differences": {other: {network: {file: largest difference}}}}.
"""

import json
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
from tensorflow import keras  # noqa: E402

from kerasseg import models, weights  # noqa: E402
from kerasseg._version import versions  # noqa: E402

NETWORKS = {
    "unet": lambda: models.unet(3, filters=4, depth=1, padding="same", batch_norm=True, dropout=0.0),
    "attention_unet": lambda: models.attention_unet(3, filters=4, depth=2, norm="group"),
    "fcn_32s": lambda: models.fcn_32s(3, width=1 / 32, padding="same", dropout=0.0),
    "deeplab_v3_plus": lambda: models.deeplab_v3_plus(3, backbone="mobilenet_v2", width=0.125),
}
KINDS = (".keras", ".h5")


def randomize(model, seed):
    """Values that keep activations in range; positive where a variance may be."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        fan_in = np.prod(shape[:-1])
        variable.assign(rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.normal(0, fan_in**-0.5, shape))


def logits(model):
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    return model(image, training=False).numpy()


def main(folder, own, *others):
    folder = Path(folder)
    built = {name: build() for name, build in NETWORKS.items()}
    for i, (name, model) in enumerate(built.items()):
        randomize(model, len(own) + i)
        np.save(folder / f"{own}-{name}.npy", logits(model))
        for kind in KINDS:
            model.save(folder / f"{own}-{name}{kind}")
    (folder / f"{own}.saved").touch()

    differences = {}
    for other in others:
        for _ in range(3000):
            if (folder / f"{other}.saved").exists():
                break
            time.sleep(0.1)
        differences[other] = {}
        for i, (name, model) in enumerate(built.items()):
            expected = np.load(folder / f"{other}-{name}.npy")
            found = differences[other][name] = {}
            for kind in KINDS:
                randomize(model, 1000 + i)
                report = weights.load(model, folder / f"{other}-{name}{kind}")
                rest = len(report.kept) + len(report.leftover)
                found[kind] = None if rest else float(np.abs(logits(model) - expected).max())
            found["size of logits"] = float(np.abs(expected).max())
    keras_versions = {name: version for name, version in versions().items() if "keras" in name and name != "kerasseg"}
    (folder / f"{own}.json").write_text(json.dumps({"keras": keras_versions, "differences": differences}))


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main(*sys.argv[1:])
