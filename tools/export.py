"""Exports a trained model for TensorFlow Serving, as the next version in a folder.

    python tools/export.py --model runs/voc/best.keras --output exported/deeplab
    saved_model_cli show --all --dir exported/deeplab/1

Writes OUTPUT/<version>/ (a SavedModel with the signatures predict_images, serving_default and predict_bytes) and
OUTPUT/kerasseg.json (classes, colours, versions, training run). Versions count up and are never overwritten. What was
written is loaded again without Keras and compared with the model on random images; if it differs, nothing is left.
"""

from pathlib import Path

import _cli


def main(arguments=None):
    parser = _cli.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="trained model, such as runs/NAME/best.keras")
    parser.add_argument("--output", type=Path, required=True, help="the servable's folder, such as exported/NAME")
    options = parser.parse_args(arguments)

    import _pictures

    from kerasseg.export import ExportError, saved_model
    from kerasseg.inference import load_model
    from kerasseg.layers import num_classes_of

    model = load_model(options.model)
    classes = _pictures.Classes.of_model(options.model, num_classes_of(model))
    run = _pictures.run_of(options.model)
    training = {key: run[key] for key in ("options", "scores", "versions") if key in run}
    trained_on = _pictures.dataset_of(options.model)
    try:
        version = saved_model(
            model,
            options.output,
            class_names=classes.names,
            palette=classes.colours,
            value_range=trained_on and trained_on.value_range,
            training=training,
        )
    except ExportError as error:
        raise _cli.DataError(
            f"{options.model}: not exported, the result does not answer as the model: {error}"
        ) from error
    size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    print(f"{version}: {size / 1e6:.1f} MB, answers as {options.model} does")
    print(f"  serve it: see deploy/README.md; look at it: saved_model_cli show --all --dir {version}")


if __name__ == "__main__":
    _cli.run(main)
