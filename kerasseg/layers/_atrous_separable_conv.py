"""Depthwise separable convolution in DeepLab's order."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.layers._norm import make_norm

RELUS = ("after", "before")


@keras.utils.register_keras_serializable("kerasseg")
class AtrousSeparableConv2D(keras.layers.Layer):
    """A depthwise 3x3 convolution at an atrous rate, then a pointwise one, *each* with normalisation and ReLU.

    (Keras' `SeparableConv2D` has nothing between the two.) The padding depends on the kernel alone, not on whether a
    side is odd or even: TensorFlow's "same" would pad strided convolutions of even sizes at the bottom and right only.

    Args:
        filters: Channels of the output.
        rate: Atrous rate of the depthwise convolution; 1 where it is strided.
        strides: Of the depthwise convolution.
        relu: "after" each of the two, or one "before" the depthwise convolution and no other, as in the blocks of
            DeepLab's Xception.
        depthwise_stddev, pointwise_stddev: Of the truncated normal distributions that the kernels begin from.
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.

    Call: [B, H, W, C]; returns [B, ⌈H/strides⌉, ⌈W/strides⌉, filters].
    Reference: Chen et al. 2018, arXiv:1802.02611, section 3.1; tensorflow/models `research/deeplab/model.py`.
    """

    # The depthwise convolution is Keras' own, which spreads the image into rate² small ones (space-to-batch).
    # TensorFlow's native dilation would be quicker for rates below 12, but is not to be trained with: its CPU kernel
    # with oneDNN takes the rate in the forward pass and leaves it out, without a word, in the gradient (TensorFlow
    # 2.21); the one without refuses it.

    def __init__(
        self,
        filters: int,
        rate: int = 1,
        strides: int = 1,
        relu: str = "after",
        depthwise_stddev: float = 0.33,
        pointwise_stddev: float = 0.06,
        norm: str | Callable = "batch",
        momentum: float = 0.9997,
        epsilon: float = 1e-5,
        name: str = "separable_conv",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if relu not in RELUS:
            raise ValueError(f"relu must be one of {', '.join(RELUS)}, got {relu!r}")
        if rate > 1 and strides > 1:
            raise ValueError(f"expected a rate or strides above 1, not both, got rate {rate} and strides {strides}")
        self.filters, self.rate, self.strides, self.relu = filters, rate, strides, relu
        self.depthwise_stddev, self.pointwise_stddev = depthwise_stddev, pointwise_stddev
        self.norm, self.momentum, self.epsilon = norm, momentum, epsilon
        policy = {"dtype": self.dtype_policy}
        self.pad = keras.layers.ZeroPadding2D(1, name=f"{name}_pad", **policy) if strides > 1 else None
        self.depthwise = keras.layers.DepthwiseConv2D(
            3,
            strides,
            padding="valid" if strides > 1 else "same",
            dilation_rate=rate,
            use_bias=norm == "none",
            depthwise_initializer=keras.initializers.TruncatedNormal(stddev=depthwise_stddev),
            name=f"{name}_depthwise",
            **policy,
        )
        self.pointwise = keras.layers.Conv2D(
            filters,
            1,
            use_bias=norm == "none",
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=pointwise_stddev),
            name=f"{name}_pointwise",
            **policy,
        )
        self.relus = [keras.layers.ReLU(name=f"{name}_{part}_relu", **policy) for part in self._rectified()]
        self.norms = []

    def _rectified(self):
        return ("depthwise", "pointwise") if self.relu == "after" else ("before",)

    def _make_norms(self, channels):
        """Makes the normalisations once, when the number of channels is known: groups depend on it."""
        if self.norms:
            return
        for part, filters in (("depthwise", channels), ("pointwise", self.filters)):
            layer = make_norm(
                self.norm,
                filters,
                name=f"{self.name}_{part}_norm",
                momentum=self.momentum,
                epsilon=self.epsilon,
                dtype=self.dtype_policy,
            )
            if layer is not None:
                self.norms.append(layer)

    def connect(self, x):
        """Applies the sublayers one by one.

        On a symbolic tensor each of them becomes a layer of the model itself, where its output can be tapped and
        its weights are found by name. `call` does the same inside the one layer.
        """
        self._make_norms(x.shape[-1])
        x = self.relus[0](x) if self.relu == "before" else x
        x = x if self.pad is None else self.pad(x)
        for i, conv in enumerate((self.depthwise, self.pointwise)):
            x = conv(x)
            x = self.norms[i](x) if self.norms else x
            x = self.relus[i](x) if self.relu == "after" else x
        return x

    def build(self, input_shape):
        channels = input_shape[-1]
        self._make_norms(channels)
        self.depthwise.build((None, None, None, channels))
        self.pointwise.build((None, None, None, channels))
        for layer, filters in zip(self.norms, (channels, self.filters), strict=False):
            layer.build((None, None, None, filters))
        super().build(input_shape)

    def call(self, inputs):
        return self.connect(inputs)

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape
        return (batch, *(None if n is None else -(-n // self.strides) for n in sides), self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "rate": self.rate,
            "strides": self.strides,
            "relu": self.relu,
            "depthwise_stddev": self.depthwise_stddev,
            "pointwise_stddev": self.pointwise_stddev,
            "norm": self.norm,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
