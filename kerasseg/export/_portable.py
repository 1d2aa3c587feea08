"""What LiteRT and ONNX are converted from: a function of images without variables, and files beside which JSON lies."""

import hashlib
import json
import os
from pathlib import Path

import tensorflow as tf
from tensorflow import keras
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerasseg.export._unpooling import without_pooling_gradients
from kerasseg.layers import SizeRule, forward_only, size_rules
from kerasseg.spec import DataError

CLASSES, LOGITS = "segmentation_map", "logits"


def portable(model: keras.Model, images: tf.TensorSpec, rewrite=lambda graph: graph, *, logits: bool) -> tf.Module:
    """Returns a module whose `answer` is a `tf.function` of `images`, uint8 [B, H, W, C], 0-255, sizes known or not.

    It returns a dict: `segmentation_map` uint8 [B, H, W], of the images' size, and with `logits` those, float32
    [B, H, W, K]; K is at least 2. Where the model does not take the size, or its logits cover the centre of its input
    only, the border is mirrored, as in `kerasseg.export.Signatures`. Its graph has no variables and no `MaxPoolGrad`.
    Batch normalisation is left as it is: LiteRT's converter and ONNX Runtime fold it themselves.

    Args:
        rewrite: GraphDef -> GraphDef; what else has to be put differently.
    """
    rules = size_rules(model)

    @forward_only()
    def answer(images):
        padded = images
        for axis, rule in enumerate(rules, start=1):
            padded = _mirrored(padded, axis, rule)
        sides = [images.shape[axis] or tf.shape(images)[axis] for axis in (1, 2)]
        scores = tf.cast(model(tf.cast(padded, tf.float32), training=False), tf.float32)
        scores = scores[:, : sides[0], : sides[1]]
        if scores.shape[-1] == 1:  # The sigmoid of one logit z is the softmax of 0 and z.
            scores = tf.concat([tf.zeros_like(scores), scores], -1)
        classes = tf.cast(tf.argmax(scores, -1, output_type=tf.int32), tf.uint8)
        return [classes, scores] if logits else [classes]

    function = tf.function(answer, autograph=False).get_concrete_function(images)
    function = convert_variables_to_constants_v2(function, lower_control_flow=False)
    graph = rewrite(without_pooling_gradients(function.graph.as_graph_def()))
    input_, outputs = function.inputs[0].name, [tensor.name for tensor in function.outputs]
    shapes = [tensor.shape for tensor in function.outputs]
    names = (CLASSES, LOGITS)[: len(outputs)]

    def call(images):
        tensors = tf.graph_util.import_graph_def(graph, {input_: images}, outputs, name="")
        return {
            name: tf.ensure_shape(tensor, shape) if None in images.shape else tensor
            for name, tensor, shape in zip(names, tensors, shapes, strict=True)
        }

    module = tf.Module()
    module.answer = tf.function(call, input_signature=[images], autograph=False)
    return module


def _mirrored(images, axis, rule: SizeRule):
    """Mirrors the border along an axis, edge pixels not repeated, so that the model takes it and covers it all."""
    side = images.shape[axis]
    if rule == SizeRule() or (side is not None and rule.covering(side) == side):
        return images
    # All terms are positive: some runtimes round quotients towards zero.
    size = tf.shape(images)[axis] if side is None else tf.constant(side)
    steps = (size + rule.margin - rule.offset + rule.multiple - 1) // rule.multiple
    padded = tf.maximum(steps * rule.multiple + rule.offset, rule.minimum)
    period = tf.maximum(2 * (size - 1), 1)
    position = tf.abs(tf.range(padded) - rule.margin // 2) % period
    return tf.gather(images, tf.minimum(tf.minimum(position, period - position), size - 1), axis=axis)


def check_path(path: str | os.PathLike, suffix: str) -> Path:
    """Returns the path of a file to be written.

    Raises:
        DataError: It ends otherwise, or it or the JSON file beside it is there already.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise DataError(f"{path}: expected a file name that ends in {suffix}")
    for taken in (path, path.with_suffix(".json")):
        if taken.exists():
            raise DataError(f"{taken} is there already and is not overwritten; give another name, or remove it")
    return path


def write(path: Path, content: bytes, description: dict) -> Path:
    """Writes a file and, last, the JSON beside it that tells what it holds, its SHA-256 among that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = description | {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    text = (json.dumps(described, indent=1) + "\n").encode()
    for target, data in ((path, content), (path.with_suffix(".json"), text)):
        partial = target.with_name(target.name + ".partial")
        try:
            partial.write_bytes(data)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    return path
