"""A model as one ONNX file, for the runtimes that read such."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras

from kerasseg.export import _comparison
from kerasseg.export._lite import MAX_DROP
from kerasseg.export._portable import CLASSES, LOGITS, check_path, portable, write
from kerasseg.export._saved_model import _description
from kerasseg.export._verify import TOLERANCES
from kerasseg.layers import num_classes_of, size_rules
from kerasseg.spec import IGNORE_LABEL, DataError

OPSET = 17


def onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    data: Iterable | None = None,
    ignore_label: int = IGNORE_LABEL,
    max_drop: float = MAX_DROP,
    class_names: Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    training: dict | None = None,
    images: Sequence[np.ndarray] | None = None,
) -> Path:
    """Converts a model to an ONNX file; beside it, under the same name, a `.json` that tells what it is.

    Input `images` uint8 [B, H, W, C], 0-255, which the network normalises itself, any number of them and of any size,
    unless the model has one of its own; outputs `segmentation_map` uint8 [B, H, W] and `logits` float32 [B, H, W, K].
    Sizes that the model does not take have their border mirrored, as the served model does. The file is run with ONNX
    Runtime and compared with the model before it gets its name.

    Args:
        model: Images float32 [B, H, W, C], 0-255 -> logits [B, h, w, K].
        path: A file ending in `.onnx`, not there yet.
        data: Labelled images to score both by, as for `lite`; None: none.
        ignore_label: Value of masks that does not count.
        max_drop: By how much the mean IoU on `data` may drop, 0-1.
        class_names, palette, value_range, training: As for `saved_model`; they are written into the `.json`.
        images: Images uint8 [H, W, C] to compare the file with the model on; None: random ones.

    Returns:
        `path`.

    Raises:
        ValueError: An argument is none of these.
        DataError: The extra `onnx` is not installed, `path` is taken or ends otherwise, the model has several outputs,
            or tf2onnx cannot convert an operation.
        ExportError: The file answers otherwise than the Keras model; nothing is written.
    """
    path = check_path(path, ".onnx")
    description = _description(model, class_names, palette, value_range, training)
    _comparison.check_max_drop(max_drop)
    channels = model.input_shape[-1]
    limits = [rule.maximum and rule.maximum - rule.margin for rule in size_rules(model)]
    size = None if None in limits else tuple(limits)
    images = _comparison.checked_images(images or _comparison.random_images(model, size), channels)
    spec = tf.TensorSpec((None, *limits, channels), tf.uint8, name="images")
    content = _converted(portable(model, spec, with_padded_dilations, logits=True), spec)

    run, reference = _runner(content), _comparison.Reference(model)

    def segment(image):
        return run(np.stack([image, image]))[1]

    share = _comparison.UNPOOLING_SHARE["float32"] if reference.unpools else 0.0
    shown = [_comparison.fitted(image, size) for image in images]
    equal = _comparison.compare(segment, reference, shown, TOLERANCES["float32"], share)
    comparison = {"pixels_equal_on_images": equal}
    if data is not None:
        comparison |= _comparison.judge(segment, reference, data, size, max_drop, ignore_label)
    shape = ", ".join("HW"[axis] if side is None else str(side) for axis, side in enumerate(limits))
    return write(
        path,
        content,
        description
        | {
            "kind": "onnx",
            "opset": OPSET,
            "size": size,
            "inputs": {"images": f"uint8 [B, {shape}, {channels}], 0-255; the network normalises them itself"},
            "outputs": {
                CLASSES: f"uint8 [B, {shape}], class ids",
                LOGITS: f"float32 [B, {shape}, {max(num_classes_of(model), 2)}]",
            },
            "comparison": comparison,
        },
    )


def with_padded_dilations(graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Returns a graph in which dilated convolutions of stride 1 have zeros padded in front of them.

    ONNX Runtime computes no "SAME" padding for them, and tf2onnx leaves it to the runtime where sizes are not known.
    """
    with tf.Graph().as_default() as known:
        tf.graph_util.import_graph_def(graph, name="")
    result = tf.compat.v1.GraphDef(versions=graph.versions, library=graph.library)
    for node in graph.node:
        if not _is_dilated(node):
            result.node.append(node)
            continue
        dilations = node.attr["dilations"].list.i[1:3]
        kernel = known.get_operation_by_name(node.name).inputs[1].shape
        around = [(n - 1) * dilation for n, dilation in zip(kernel, dilations, strict=False)]
        pads = np.array([(0, 0), *((n // 2, n - n // 2) for n in around), (0, 0)], np.int32)
        sizes = tf.compat.v1.NodeDef(name=f"{node.name}/pads", op="Const")
        sizes.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(pads))
        sizes.attr["dtype"].type = tf.int32.as_datatype_enum
        pad = tf.compat.v1.NodeDef(name=f"{node.name}/pad", op="Pad", input=[node.input[0], sizes.name])
        pad.attr["T"].CopyFrom(node.attr["T"])
        pad.attr["Tpaddings"].type = tf.int32.as_datatype_enum
        convolution = tf.compat.v1.NodeDef()
        convolution.CopyFrom(node)
        convolution.input[0] = pad.name
        convolution.attr["padding"].s = b"VALID"
        result.node.extend([sizes, pad, convolution])
    return result


def _is_dilated(node):
    """Tells whether this is a convolution that `with_padded_dilations` changes."""
    if node.op not in ("Conv2D", "DepthwiseConv2dNative") or node.attr["padding"].s != b"SAME":
        return False
    return max(node.attr["dilations"].list.i, default=1) > 1 and set(node.attr["strides"].list.i) == {1}


def _converted(module, spec) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx was written for older versions of NumPy and TensorFlow.
        try:
            import tf2onnx
        except ImportError as error:
            raise _missing(error) from error
        try:
            proto, _ = tf2onnx.convert.from_function(module.answer, input_signature=[spec], opset=OPSET)
        except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            first = str(error).strip().split("\n")[0]
            raise DataError(f"the model cannot be converted to ONNX: {first}") from error
    return proto.SerializeToString()


def _runner(content) -> Callable:
    """Returns a function of images uint8 [B, H, W, C] that gives their class maps."""
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: session.run([CLASSES], {"images": images})[0]


def _missing(error):
    return DataError(f"ONNX needs tf2onnx, onnx and onnxruntime: pip install 'kerasseg[onnx]' ({error})")
