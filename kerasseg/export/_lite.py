"""A model as one file for LiteRT (TensorFlow Lite): phones, small boards, and processors without TensorFlow."""

import itertools
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.export import _comparison
from kerasseg.export._lite_model import runner
from kerasseg.export._portable import CLASSES, check_path, portable, write
from kerasseg.export._saved_model import _description
from kerasseg.export._verify import TOLERANCES
from kerasseg.layers import num_classes_of, size_rules
from kerasseg.spec import IGNORE_LABEL, DataError

LITE_KINDS = ("float32", "float16", "dynamic", "int8")
MAX_DROP = 0.01
"""What the mean IoU may lose, if nothing else is said."""

_CALIBRATED = 100  # Images that the range of each tensor is measured on, unless they are given.


def lite(
    model: keras.Model,
    path: str | os.PathLike,
    kind: str = "float32",
    *,
    size: tuple[int, int] | None = None,
    data: Iterable | None = None,
    ignore_label: int = IGNORE_LABEL,
    max_drop: float = MAX_DROP,
    calibration: Iterable | None = None,
    logits: bool = False,
    class_names: Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    training: dict | None = None,
    images: Sequence[np.ndarray] | None = None,
) -> Path:
    """Converts a model to a `.tflite` file; beside it, under the same name, a `.json` that tells what it is.

    Input `images` uint8 [1, H, W, C], 0-255, which the network normalises itself; output `segmentation_map` uint8
    [1, H, W]. Sizes that the model does not take have their border mirrored, as the served model does. Every operation
    is one of LiteRT's own: batch normalisation is folded, and unpooling, for which LiteRT has nothing, is put in terms
    of comparisons. `LiteModel` runs what is written, and so does any LiteRT. TensorFlow's converter takes many times
    the memory of the weights for a moment: 1.6 GB for 39 MB.

    Args:
        model: Images float32 [B, H, W, C], 0-255 -> logits [B, h, w, K].
        path: A file ending in `.tflite`, not there yet.
        kind: "float32"; "float16": weights of half the size; "dynamic": kernels in 8 bits, the rest in float32; "int8":
            all in 8 bits but for what LiteRT has no such kernel for. The latter two have a quarter of the size.
        size: Height and width of all images; None: the model's own, if it has one, or else any, which the caller
            chooses by resizing the input.
        data: Labelled images, as `kerasseg.pipeline.eval_images` gives them: (image [1, H, W, C], 0-255, mask
            [1, H, W]) or without the batch axis. Both models are scored on them, larger ones through windows of `size`.
            Needed for "dynamic" and "int8", whose answers nothing else vouches for.
        ignore_label: Value of masks that does not count.
        max_drop: By how much the mean IoU on `data` may drop, 0-1.
        calibration: Images, or tuples that begin with one, that tell the range of every tensor of an "int8" model: some
            hundred of those that it will see. None: the first hundred of `data`.
        logits: Whether there is a second output `logits`, float32 [1, H, W, K].
        class_names, palette, value_range, training: As for `saved_model`; they are written into the `.json`. The scores
            and the share of pixels with the Keras model's class are in it too.
        images: Images uint8 [H, W, C] to compare the float kinds with the model on; None: random ones.

    Returns:
        `path`.

    Raises:
        ValueError: An argument is none of these, or they do not go together.
        DataError: `path` is taken or ends otherwise, the model has several outputs, LiteRT lacks an operation.
        ExportError: The file answers otherwise than the Keras model, or its mean IoU is too low; nothing is written.
    """
    path = check_path(path, ".tflite")
    data, calibration = _checked(kind, data, calibration, max_drop)
    description = _description(model, class_names, palette, value_range, training)
    channels, size = model.input_shape[-1], _size(model, size)
    shown = _comparison.checked_images(images, channels) if images else _comparison.random_images(model, size)
    spec = tf.TensorSpec((1, *(size or (None, None)), channels), tf.uint8, name="images")
    content = _converted(portable(model, spec, logits=logits), kind, _examples(calibration, size, channels))

    run, reference = runner(content), _comparison.Reference(model)

    def segment(image):
        return run(images=image[None])[CLASSES][0]

    comparison = {}
    if kind in _comparison.UNPOOLING_SHARE:
        share = _comparison.UNPOOLING_SHARE[kind] if reference.unpools else 0.0
        fitting = [_comparison.fitted(image, size) for image in shown]
        comparison["pixels_equal_on_images"] = _comparison.compare(segment, reference, fitting, TOLERANCES[kind], share)
    if data is not None:
        comparison |= _comparison.judge(segment, reference, data, size, max_drop, ignore_label)
    answers = {CLASSES: "uint8 [1, H, W], class ids"}
    if logits:
        answers["logits"] = f"float32 [1, H, W, {max(num_classes_of(model), 2)}]"
    return write(
        path,
        content,
        description
        | {
            "kind": kind,
            "size": size,
            "inputs": {"images": f"uint8 [1, H, W, {channels}], 0-255; the network normalises them itself"},
            "outputs": answers,
            "comparison": comparison,
        },
    )


def _size(model, size):
    """Returns the image's size, or None for any."""
    rules = size_rules(model)
    limits = [rule.maximum and rule.maximum - rule.margin for rule in rules]
    if size is None:
        if limits.count(None) == 1:
            raise ValueError(f"expected a size, height and width, for a model that takes images of {limits} pixels")
        return None if None in limits else tuple(limits)
    size = tuple(int(side) for side in size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be height and width, 1 pixel or more, got {size}")
    if any(limit is not None and side > limit for side, limit in zip(size, limits, strict=True)):
        raise ValueError(f"size must be at most {limits}, which the model takes, got {size}")
    return size


def _checked(kind, data, calibration, max_drop):
    """Returns data and calibration images, after a look at how they go together."""
    if kind not in LITE_KINDS:
        raise ValueError(f"kind must be one of {', '.join(LITE_KINDS)}, got {kind!r}")
    if kind != "int8" and calibration is not None:
        raise ValueError(f"calibration is for kind='int8', got kind={kind!r}")
    if kind in ("dynamic", "int8") and data is None:
        raise ValueError(f"kind={kind!r} needs data, labelled images, to tell what rounding to 8 bits costs")
    _comparison.check_max_drop(max_drop)
    if kind == "int8" and calibration is None:
        if iter(data) is data:
            raise ValueError("data is read twice, for the calibration too: give a list or a tf.data.Dataset, or both")
        calibration = (image for image, *_ in itertools.islice(data, _CALIBRATED))
    return data, calibration


def _examples(calibration, size, channels):
    """Yields inputs of the network, as the converter asks for them."""
    for given in calibration or ():
        image = _comparison.one_image(given[0] if isinstance(given, (tuple, list)) else given)
        if image.shape[2] != channels:
            raise ValueError(f"expected images of {channels} channels to calibrate with, got {image.shape}")
        yield {"images": _comparison.fitted(_comparison.to_uint8(image), size)[None]}


def _converted(module, kind, examples) -> bytes:
    from tensorflow.lite.python.convert_phase import ConverterError

    function = module.answer.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        examples = list(examples)
        if not examples:
            raise ValueError("expected images to calibrate with, got none")
        converter.representative_dataset = lambda: iter(examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It advises what has been done, and announces its successor.
        try:
            return converter.convert()
        except ConverterError as error:
            lacking = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
            what = f"has no operation for {', '.join(lacking)}" if lacking else str(error).splitlines()[0]
            raise DataError(f"the model cannot be converted to LiteRT, which {what}") from error
