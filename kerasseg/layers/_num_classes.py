"""How many classes a finished model tells apart."""

from tensorflow import keras

from kerasseg.spec import DataError


def num_classes_of(model: keras.Model) -> int:
    """Returns K of a model, image -> logits [B, h, w, K].

    Raises:
        DataError: The model has several outputs, as UNet++ with deep supervision, so that there is no one answer to
            tile, export or score.
    """
    if len(model.outputs) > 1:
        raise DataError(
            f"expected a model with one output, logits [B, h, w, K], but {model.name!r} has {len(model.outputs)}; make "
            "one of it by kerasseg.models.unet_plus_plus_averaged(model) or unet_plus_plus_pruned(model, level), or by "
            "keras.Model(model.input, model.outputs[-1]), and save that"
        )
    return model.outputs[0].shape[-1]
