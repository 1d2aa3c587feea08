"""The predictions of a trained model for a split of a converted data set."""

import _cli
import _inference_options
import _pictures
from _tally import Source


def source(options) -> Source:
    """Returns what a model predicts for a split, with the true objects where the data has them.

    Raises:
        DataError: There is no such split, the model cannot be loaded, or it does not fit the data.
    """
    from kerasseg.spec import DatasetSpec

    spec = DatasetSpec.load(options.data)
    num_images = spec.split(options.split).num_examples  # Refused before the model is loaded, which takes a while.
    segmenter = _inference_options.segmenter(options, options.model)
    _check(segmenter, spec, options.model)
    return Source(
        title=f"{options.data}, split {options.split}",
        classes=_pictures.Classes.of_data(spec),
        has_instances=spec.has_instances,
        num_images=num_images,
        items=_items(segmenter, spec, options),
        described={
            "model": str(options.model),
            "data": str(options.data),
            "split": options.split,
            "inference": _inference_options.described(options),
        },
    )


def _check(segmenter, spec, path):
    found = (segmenter.model.input_shape[-1], segmenter.num_classes)
    expected = (spec.channels, spec.num_classes)
    if found != expected:
        raise _cli.DataError(
            f"{path} takes images of {found[0]} channels and tells {found[1]} classes apart, but the data set "
            f"{spec.name!r} has {expected[0]} channels and {expected[1]} classes; give the data it was trained on"
        )


def _items(segmenter, spec, options):
    from kerasseg.inference import predictions
    from kerasseg.pipeline import eval_images, naming_damage
    from kerasseg.records import read

    examples = read(options.data, options.split) if spec.has_instances else None
    images = eval_images(options.data, options.split, keys=True)
    with naming_damage(options.data, options.split):
        for prediction in predictions(segmenter, images, spec.num_classes, spec.ignore_label):
            instances = None
            if examples:
                example = next(examples)
                if example.key != prediction.key:  # Both read the records in their order.
                    raise _cli.DataError(
                        f"expected the record {prediction.key!r}, read {example.key!r}; convert the data again"
                    )
                instances = None if example.instances is None else example.instances.astype("int32")
            yield prediction, instances
