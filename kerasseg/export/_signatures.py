"""What a served model is asked, and how the graph answers."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.export._baked import RIMS, Baked
from kerasseg.export._frozen import frozen
from kerasseg.export._tiles import mirrored, tiled
from kerasseg.export._views import mean_probabilities
from kerasseg.layers import MergeClasses, SizeRule, num_classes_of, size_rules, tile_and_step
from kerasseg.spec import to_255

DECODABLE_CHANNELS = (1, 3, 4)
"""Channels for which image files can be decoded in the graph; other models have no `predict_bytes`."""

MAX_PIXELS = 2**24
"""Pixels of an image that is not refused, if nothing else is said: 4096 x 4096."""

_LEAST_PIXELS = 128 * 128  # The images that the export is tried on have fewer.

_PNG = b"\x89PNG\r\n\x1a\n"


class Signatures:
    """A model with the functions that a server calls; TensorFlow core operations only, no Keras needed to run them.

    The class map always has the image's size. Where the model does not take that size, or its logits cover the centre
    of its input only (convolutions without padding), the image's border is mirrored, as
    `kerasseg.inference.predict_tiled` does. Nothing is resized unless `looks` says so.

    Args:
        model: Images float32 [B, H, W, C], 0-255 -> logits [B, h, w, K].
        value_range: The values of 16-bit files that become 0 and 255; None: 0 and 65535.
        max_pixels: Larger images are refused; of files the header is looked at, before anything is decoded.
        weights: "float32", "bfloat16" or "float16"; see `kerasseg.export.frozen`.
        freeze: Whether the weights are constants of the graph; see `constants` of `kerasseg.export.frozen`.
        looks: Scales, mirrored views and tiles.
    Raises:
        ValueError: The legal sizes of `model` cannot be found out (see `kerasseg.layers.size_rules`), `max_pixels` is
            below 16384, tiles do not overlap as wanted, or see `kerasseg.export.frozen`.
    """

    def __init__(
        self,
        model: keras.Model,
        value_range: tuple[float, float] | None = None,
        max_pixels: int = MAX_PIXELS,
        weights: str = "float32",
        freeze: bool | None = None,
        looks: Baked = Baked(),  # noqa: B008  (frozen)
    ):
        if max_pixels < _LEAST_PIXELS:
            raise ValueError(f"max_pixels must be at least {_LEAST_PIXELS}, got {max_pixels}")
        self._value_range, self._max_pixels, self._looks = value_range, max_pixels, looks
        self._rules = size_rules(model)
        if looks.tile_size is not None:
            for rule, tile in zip(self._rules, looks.tile_size, strict=True):
                tile_and_step(rule, tile, looks.overlap)
        last = model.layers[-1]
        self._rims = looks.views and isinstance(last, MergeClasses) and last.groups == RIMS
        seen = keras.Model(model.input, last.input) if self._rims else model
        self._logits, self._outputs = frozen(seen, weights, constants=freeze), num_classes_of(seen)
        self.channels = model.input_shape[-1]
        # Traced once and called by all signatures: the file holds the network once.
        images = tf.TensorSpec((None, None, None, self.channels), tf.float32, name="images")
        self._class_map = tf.function(self.segment, (images,), autograph=False)

    def functions(self) -> dict:
        """Returns {signature name: concrete function}."""
        C = self.channels
        images = tf.TensorSpec((1, None, None, C), tf.float32, name="images")
        size = {side: tf.TensorSpec(None, tf.int32, name=side) for side in ("height", "width")}
        batch = tf.TensorSpec((None, None, None, C), tf.uint8, name="images")
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")
        functions = {
            "predict_images": tf.function(
                self._predict_images, (images, size["height"], size["width"]), autograph=False
            ),
            "serving_default": tf.function(self._predict_batch, (batch,), autograph=False),
        }
        if C in DECODABLE_CHANNELS:
            functions["predict_bytes"] = tf.function(self._predict_bytes, (files,), autograph=False)
        return {name: function.get_concrete_function() for name, function in functions.items()}

    def save(self, directory: str) -> None:
        """Writes a SavedModel."""
        module = tf.Module()
        module.weights = self._logits.get_concrete_function().variables  # None where they are constants.
        tf.saved_model.save(module, directory, signatures=self.functions())

    def _predict_images(self, images, height, width):
        """The original DeepLab-v3's: `height` and `width` are read by nobody, but its clients send them."""
        del height, width
        return {"segmentation_map": tf.ensure_shape(self._class_map(images), (1, None, None))}

    def _predict_batch(self, images):
        return {"segmentation_map": tf.cast(self._class_map(tf.cast(images, tf.float32)), tf.uint8)}

    def _predict_bytes(self, image_bytes):
        # One after the other: the model uses all cores for one image, and memory is that of one.
        masks = tf.map_fn(self._mask_file, image_bytes, parallel_iterations=1, fn_output_signature=tf.string)
        return {"mask_bytes": masks}

    def _mask_file(self, data):
        with tf.control_dependencies([self._fits(_size_in_header(data))]):
            image = _decoded(tf.identity(data), self.channels, self._value_range)
        return tf.io.encode_png(tf.cast(self._class_map(image[None]), tf.uint8)[0, :, :, None])

    def segment(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the class map, int64 [B, H, W], of images float32 [B, H, W, C], 0-255."""
        size = tf.shape(images)[1:3]
        with tf.control_dependencies([self._fits(tf.cast(size, tf.int64))]):
            images = tf.identity(images)
        if self._looks.views:
            classes = self._best_of_views(images)
        elif self._looks.tile_size is None:
            classes = tf.argmax(_class_logits(self._whole(images)), axis=-1, output_type=tf.int64)
        else:
            classes = tf.cast(self._tiled(images, self._best), tf.int64)
        return tf.ensure_shape(classes, images.shape[:3])

    def _whole(self, images):
        """Returns logits [B, H, W, k] of images, all of each at once."""
        size = tf.shape(images)[1:3]
        for axis, rule in enumerate(self._rules, start=1):
            images = _mirrored_up(images, axis, rule)
        return self._logits(images)[:, : size[0], : size[1]]

    def _tiled(self, images, finish):
        tile_size, overlap = self._looks.tile_size, self._looks.overlap
        return tiled(self._logits, self._outputs, images, self._rules, tile_size, overlap, finish)

    def _best(self, logits):
        """Returns class ids in as few bytes as they need; a byte a pixel is all that tiles leave behind."""
        classes = tf.argmax(_class_logits(logits), axis=-1, output_type=tf.int32)
        return tf.cast(classes, tf.uint8) if self._outputs <= 256 else classes

    def _best_of_views(self, images):
        def logits(seen):
            return _class_logits(self._whole(seen) if self._looks.tile_size is None else self._tiled(seen, tf.identity))

        num_classes = max(self._outputs, 2)
        mean = mean_probabilities(logits, num_classes, images, self._looks.scales, self._looks.flip)
        if self._rims:
            mean = tf.stack([tf.reduce_sum(tf.gather(mean, group, axis=-1), -1) for group in RIMS], -1)
        return tf.argmax(mean, axis=-1, output_type=tf.int64)

    def _fits(self, size):
        """Returns an operation that fails unless the image of this height and width, int64 [2], may be looked at."""
        pixels = tf.reduce_prod(size)
        limit = f"an image must have 1 to {self._max_pixels} pixels, got height and width"
        return tf.debugging.Assert(tf.logical_and(pixels > 0, pixels <= self._max_pixels), [limit, size])


def _size_in_header(data):
    """Returns height and width, int64 [2], as a JPEG's or PNG's header states them; of anything else, an error."""

    def png():
        is_png = tf.equal(tf.strings.substr(tf.strings.join([data, b"\0" * 24]), 0, 8), _PNG)
        told = tf.debugging.Assert(is_png, ["expected a JPEG or PNG file, got another or a truncated one"])
        with tf.control_dependencies([told]):
            header = tf.strings.substr(tf.strings.join([data, b"\0" * 24]), 16, 8)
        width_height = tf.io.decode_raw(header, tf.int32, little_endian=False)
        return tf.reverse(tf.cast(width_height, tf.int64), [0])

    def jpeg():
        return tf.cast(tf.image.extract_jpeg_shape(data)[:2], tf.int64)

    return tf.cond(tf.io.is_jpeg(data), jpeg, png)


def _decoded(data, channels, value_range):
    """Decodes a PNG of 8 or 16 bits or a JPEG to float32 [H, W, channels], 0-255, as `kerasseg.records` does."""

    def png():
        values = tf.cast(tf.io.decode_png(data, channels, tf.uint16), tf.float32)
        whole = to_255(values)  # 8 bits come as value * 257 and so out of the division as they were
        if value_range is None:
            return whole
        is_deep = tf.equal(tf.strings.substr(data, 24, 1), b"\x10")  # the header's bit depth
        return tf.cond(is_deep, lambda: to_255(values, value_range, tf.clip_by_value), lambda: whole)

    def jpeg():
        return tf.cast(tf.io.decode_jpeg(data, channels, dct_method="INTEGER_ACCURATE"), tf.float32)

    return tf.cond(tf.io.is_jpeg(data), jpeg, png) if channels in (1, 3) else png()


def _class_logits(logits):
    """Returns logits of classes; the sigmoid of one logit z is the softmax of 0 and z."""
    return logits if logits.shape[-1] > 1 else tf.concat([tf.zeros_like(logits), logits], -1)


def _mirrored_up(images, axis, rule: SizeRule):
    """Mirrors the border along an axis, edge pixels not repeated, so that the model takes it and covers it all."""
    if rule == SizeRule():
        return images
    size = tf.shape(images)[axis]
    padded = tf.maximum(rule.round_up(size + rule.margin), rule.minimum)
    checks = []
    if rule.maximum is not None:
        side, largest = ("height", "width")[axis - 1], rule.maximum - rule.margin
        text = f"{side} must be at most {largest} pixels (more with tile_size at the export), got"
        checks = [tf.debugging.Assert(size <= largest, [text, size])]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.gather(images, mirrored(-(rule.margin // 2), padded, size), axis=axis)
