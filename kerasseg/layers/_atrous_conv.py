"""Convolution with native dilation."""

import tensorflow as tf
from tensorflow import keras

from kerasseg.layers._dilated import dilated_conv2d


@keras.utils.register_keras_serializable("kerasseg")
class AtrousConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose dilation is one convolution, not hundreds of small ones.

    Keras's `dilation_rate` splits the image into rate² small images (space-to-batch) and convolves those. This layer
    hands the rate to the convolution kernel itself, see `kerasseg.layers.dilated_conv2d`: the same values to float
    rounding, in a fraction of the time, on every processor. Likewise `groups` are convolved one by one, which trains
    on a CPU without compilation. Arguments, weights and config are `Conv2D`'s.
    """

    def call(self, inputs):
        kernel = tf.cast(self.kernel, inputs.dtype)
        groups = zip(tf.split(inputs, self.groups, -1), tf.split(kernel, self.groups, -1), strict=True)
        parts = [self._convolve(*part) for part in (groups if self.groups > 1 else [(inputs, kernel)])]
        outputs = tf.concat(parts, -1) if self.groups > 1 else parts[0]
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, outputs.dtype))
        return outputs if self.activation is None else self.activation(outputs)

    def _convolve(self, inputs, kernel):
        padding = self.padding.upper()
        if max(self.dilation_rate) > 1:
            return dilated_conv2d(inputs, kernel, self.dilation_rate, padding)
        return tf.nn.conv2d(inputs, kernel, strides=self.strides, padding=padding)
