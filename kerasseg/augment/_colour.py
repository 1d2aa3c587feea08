"""What pixels look like: colour distortion of RGB, grey-value variation of any image. TensorFlow graph ops."""

import tensorflow as tf

COLOUR_ORDERS = (
    ("brightness", "saturation", "hue", "contrast"),
    ("saturation", "brightness", "contrast", "hue"),
    ("contrast", "hue", "brightness", "saturation"),
    ("hue", "saturation", "contrast", "brightness"),
)
"""The four orders in which TF-Slim's Inception preprocessing, and with it the original DeepLab-v3, takes its steps."""


def distort_colour(image: tf.Tensor, order, *, brightness=0.0, saturation=1.0, hue=0.0, contrast=1.0) -> tf.Tensor:
    """Applies `tf.image`'s four adjustments to an RGB image in one of the four orders.

    Args:
        image: [H, W, 3], 0-255.
        order: Which of `COLOUR_ORDERS`, 0 to 3; integer or scalar tensor.
        brightness: Added, on the scale 0-1.
        saturation: Factor.
        hue: Added, as a fraction of the circle, -1 to 1.
        contrast: Factor of the distance from the channel's mean.

    Returns:
        float32 [H, W, 3], clipped to 0-255 once, at the end.

    Source: sthalles/deeplab_v3 `distort_randomly_image_color`, TF-Slim `inception_preprocessing.distort_color`.
    """
    steps = {
        "brightness": lambda x: tf.image.adjust_brightness(x, brightness),
        "saturation": lambda x: tf.image.adjust_saturation(x, saturation),
        "hue": lambda x: tf.image.adjust_hue(x, hue),
        "contrast": lambda x: tf.image.adjust_contrast(x, contrast),
    }
    image = tf.cast(image, tf.float32) / 255

    def in_order(names):
        distorted = image
        for name in names:
            distorted = steps[name](distorted)
        return distorted

    branches = [lambda names=names: in_order(names) for names in COLOUR_ORDERS]
    return 255 * tf.clip_by_value(tf.switch_case(tf.cast(order, tf.int32), branches), 0, 1)


def vary_grey(image: tf.Tensor, *, contrast=1.0, brightness=0.0, gamma=1.0) -> tf.Tensor:
    """Changes the grey values of an image of any number of channels: contrast and brightness, then gamma.

    Args:
        image: [H, W, C], 0-255.
        contrast: Factor of the distance from the channel's mean.
        brightness: Added, on the scale 0-1.
        gamma: Exponent of the value on the scale 0-1; above 1 darkens.

    Returns:
        float32 [H, W, C], clipped to 0-255; the pixels untouched with the defaults.
    """
    image = tf.cast(image, tf.float32)
    mean = tf.reduce_mean(image, axis=[0, 1])
    image = tf.clip_by_value(image * contrast + (mean * (1 - contrast) + 255 * brightness), 0, 255)
    # x (x / 255)^(gamma - 1) rather than 255 (x / 255)^gamma: exactly x where gamma is 1.
    return image * (tf.maximum(image, 1e-3) / 255) ** (gamma - 1)
