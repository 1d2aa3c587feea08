"""The peers' input pipelines in `tf.data`, written from their descriptions; they share nothing with this package.

Each takes record files and returns an endless dataset of batches of crops.
"""

import tensorflow as tf
from tensorflow import keras

IGNORE_LABEL = 255
ENCODED = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image/encoded", "image/segmentation/class/encoded")}
RAW = {"image_raw": tf.io.FixedLenFeature([], tf.string), "annotation_raw": tf.io.FixedLenFeature([], tf.string)} | {
    name: tf.io.FixedLenFeature([], tf.int64) for name in ("height", "width")
}


def decode_only(files, batch_size):
    """The ceiling of what decodes in TensorFlow: whole images and masks, nothing done with them."""

    def sample(serialized):
        image, mask = _decoded(serialized)
        return image[0, 0], mask[0, 0]

    data = tf.data.TFRecordDataset(files).map(sample, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
    return data.repeat().batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def original(files, batch_size, size, num_parallel=None):
    """sthalles/deeplab_v3's: raw records, float32 throughout, colour before the central crop, shuffled at the end.

    `num_parallel` None is what the project did: one sample after the other.
    """

    def parsed(serialized):
        features = tf.io.parse_single_example(serialized, RAW)
        shape = tf.stack([features["height"], features["width"]])
        image = tf.reshape(tf.io.decode_raw(features["image_raw"], tf.uint8), tf.concat([shape, [3]], 0))
        mask = tf.reshape(tf.io.decode_raw(features["annotation_raw"], tf.uint8), tf.concat([shape, [1]], 0))
        return tf.cast(image, tf.float32), tf.cast(mask, tf.int32)

    def rescaled(image, mask):
        scaled = tf.cast(tf.shape(image)[:2], tf.float32) * tf.random.uniform([], 0.5, 2.0)
        shape = tf.cast(tf.round(scaled), tf.int32)
        return _resized(image, mask, shape, align_corners=False)

    def cropped(image, mask):
        image = tf.image.resize_with_crop_or_pad(image, *size)
        mask = tf.image.resize_with_crop_or_pad(mask - IGNORE_LABEL, *size) + IGNORE_LABEL
        return image, tf.ensure_shape(mask, [*size, 1])

    data = tf.data.TFRecordDataset(files).map(parsed, num_parallel_calls=num_parallel)
    for step in (rescaled, lambda image, mask: (four_order_colour(image), mask), cropped, _flipped):
        data = data.map(step, num_parallel_calls=num_parallel)
    return data.repeat().shuffle(500).batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def four_order_colour(image):
    """TF-Slim's four orders of brightness, saturation, hue and contrast on the scale 0-1."""
    steps = {
        "b": lambda x: tf.image.random_brightness(x, 32 / 255),
        "s": lambda x: tf.image.random_saturation(x, 0.5, 1.5),
        "h": lambda x: tf.image.random_hue(x, 0.2),
        "c": lambda x: tf.image.random_contrast(x, 0.5, 1.5),
    }

    def taken(order):
        distorted = image / 255
        for step in order:
            distorted = steps[step](distorted)
        return distorted

    branches = [lambda order=order: taken(order) for order in ("bshc", "sbch", "chbs", "hscb")]
    drawn = tf.switch_case(tf.random.uniform([], 0, 4, tf.int32), branches)
    return 255 * tf.clip_by_value(drawn, 0.0, 1.0)


def tensorflow_deeplab(files, batch_size, size, colour=False):
    """TensorFlow's own DeepLab: scales in steps of 0.25, padded with the mean pixel, random crop, flip.

    Source: tensorflow/models `research/deeplab` `input_preprocess.py`, `data_generator.py`. With `colour` the four
    orders above, which it has not.
    """
    mean = tf.constant([127.5, 127.5, 127.5])

    def sample(serialized):
        image, mask = _decoded(serialized)
        image = tf.cast(image, tf.float32)
        scale = 0.5 + 0.25 * tf.cast(tf.random.uniform([], 0, 7, tf.int32), tf.float32)
        shape = tf.cast(tf.cast(tf.shape(image)[:2], tf.float32) * scale, tf.int32)
        image, mask = _resized(image, mask, shape, align_corners=True)
        target = tf.maximum(shape, size)
        padding = [[0, target[0] - shape[0]], [0, target[1] - shape[1]], [0, 0]]
        image = tf.pad(image - mean, padding) + mean
        mask = tf.pad(tf.cast(mask, tf.int32) - IGNORE_LABEL, padding) + IGNORE_LABEL
        corner = [tf.random.uniform([], 0, target[i] - size[i] + 1, tf.int32) for i in range(2)]
        window = [slice(corner[i], corner[i] + size[i]) for i in range(2)]
        image = tf.ensure_shape(image[window[0], window[1]], [*size, 3])
        mask = tf.ensure_shape(mask[window[0], window[1]], [*size, 1])
        return _flipped(four_order_colour(image) if colour else image, mask)

    data = tf.data.TFRecordDataset(files).shuffle(1000).repeat().map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def keras_layers(files, batch_size, size):
    """Keras's own preprocessing layers on batches of a common canvas: zoom 0.5-2, flip, colour.

    Raises:
        AttributeError: This Keras has no `RandomColorJitter`.
    """
    colour = {"brightness_factor": 32 / 255, "contrast_factor": 0.5, "saturation_factor": (0.25, 0.75)}
    layers = [
        keras.layers.RandomZoom((-0.5, 1.0), fill_mode="constant"),
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomColorJitter((0, 255), hue_factor=0.2, **colour),
    ]

    def sample(serialized):
        image, mask = _decoded(serialized)
        image = tf.image.resize_with_crop_or_pad(tf.cast(image, tf.float32), *size)
        mask = tf.image.resize_with_crop_or_pad(tf.cast(mask, tf.int32), *size)
        return tf.ensure_shape(image, [*size, 3]), tf.ensure_shape(mask, [*size, 1])

    def augmented(image, mask):
        batch = {"images": image, "segmentation_masks": mask}
        for layer in layers:
            batch = layer(batch)
        return batch["images"], batch["segmentation_masks"]

    data = tf.data.TFRecordDataset(files).shuffle(1000).repeat().map(sample, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(batch_size, drop_remainder=True).map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(tf.data.AUTOTUNE)


def _decoded(serialized):
    features = tf.io.parse_single_example(serialized, ENCODED)
    image = tf.io.decode_jpeg(features["image/encoded"], channels=3)
    return image, tf.io.decode_png(features["image/segmentation/class/encoded"], channels=1)


def _resized(image, mask, shape, align_corners):
    image = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=shape, align_corners=align_corners)[0]
    mask = tf.raw_ops.ResizeNearestNeighbor(images=mask[tf.newaxis], size=shape, align_corners=align_corners)[0]
    return image, mask


def _flipped(image, mask):
    def both():
        return tf.reverse(image, [1]), tf.reverse(mask, [1])

    return tf.cond(tf.random.uniform([]) < 0.5, both, lambda: (image, mask))
