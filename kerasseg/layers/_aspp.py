"""Atrous spatial pyramid pooling."""

from collections.abc import Callable, Sequence

from tensorflow import keras

from kerasseg.layers._atrous_conv import AtrousConv2D
from kerasseg.layers._atrous_separable_conv import AtrousSeparableConv2D
from kerasseg.layers._norm import make_norm
from kerasseg.layers._resize import Resize


@keras.utils.register_keras_serializable("kerasseg")
class ASPP(keras.layers.Layer):
    """Atrous spatial pyramid pooling with image-level features (DeepLab-v3).

    Five views of the features side by side: their mean over the image, a 1x1 convolution, and a 3x3 convolution per
    atrous rate; concatenated in that order and projected by another 1x1 convolution. Each convolution is followed
    by normalisation and, if asked for, ReLU.

    Args:
        filters: Channels of each branch and of the output.
        rates: Atrous rates of the 3x3 convolutions.
        activation: "relu", or None as in the original TensorFlow 1 repository.
        separable: Whether the 3x3 convolutions are depthwise separable, as in DeepLab-v3+ (with ReLU only).
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.

    Call: [B, h, w, C]; returns [B, h, w, filters].
    Reference: Chen et al. 2017, arXiv:1706.05587, section 3.3, figure 5.
    """

    def __init__(
        self,
        filters: int = 256,
        rates: Sequence[int] = (6, 12, 18),
        activation: str | None = "relu",
        separable: bool = False,
        norm: str | Callable = "batch",
        momentum: float = 0.9997,
        epsilon: float = 1e-5,
        name: str = "aspp",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if separable and activation != "relu":
            raise ValueError(f'separable needs activation="relu", got {activation!r}')
        self.filters, self.rates, self.activation = filters, tuple(rates), activation
        self.separable = separable
        self.norm, self.momentum, self.epsilon = norm, momentum, epsilon
        policy = {"dtype": self.dtype_policy}
        self.pool = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool", **policy)
        self.spread = Resize(name=f"{name}_pool_resize", **policy)
        self.concat = keras.layers.Concatenate(name=f"{name}_concat", **policy)
        # One convolution (with normalisation and ReLU) for each of: the pool, the branches, the projection.
        atrous = [(f"branch{i}", 3, rate) for i, rate in enumerate(self.rates, start=1)]
        self.separable_convs = [self._separable_conv(f"{name}_{part}", rate) for part, _, rate in atrous if separable]
        self.convs, self.norms, self.relus = [], [], []
        plain = [] if separable else atrous
        for part, size, rate in [("pool", 1, 1), ("branch0", 1, 1), *plain, ("projection", 1, 1)]:
            self._add_conv(f"{name}_{part}", size, rate, policy)

    def _add_conv(self, name, size, rate, policy):
        norm = make_norm(
            self.norm, self.filters, name=f"{name}_norm", momentum=self.momentum, epsilon=self.epsilon, **policy
        )
        conv = AtrousConv2D(
            self.filters,
            size,
            padding="same",
            dilation_rate=rate,
            use_bias=norm is None,
            kernel_initializer="he_normal",
            name=f"{name}_conv",
            **policy,
        )
        self.convs.append(conv)
        if norm is not None:
            self.norms.append(norm)
        if self.activation == "relu":
            self.relus.append(keras.layers.ReLU(name=f"{name}_relu", **policy))

    def _separable_conv(self, name, rate):
        return AtrousSeparableConv2D(
            self.filters,
            rate,
            norm=self.norm,
            momentum=self.momentum,
            epsilon=self.epsilon,
            name=name,
            dtype=self.dtype_policy,
        )

    def _apply(self, i, x):
        """Applies convolution `i`, and what follows it."""
        for layers in (self.convs, self.norms, self.relus):
            x = layers[i](x) if layers else x
        return x

    def connect(self, x):
        """Applies the sublayers one by one.

        On a symbolic tensor each of them becomes a layer of the model itself, where its output can be tapped and
        its weights are found by name. `call` does the same inside the one layer.
        """
        pooled = self.spread([self._apply(0, self.pool(x)), x])
        branches = [self._apply(i, x) for i in range(1, len(self.convs) - 1)]
        branches += [conv.connect(x) for conv in self.separable_convs]
        return self._apply(-1, self.concat([pooled, *branches]))

    def build(self, input_shape):
        for conv in self.convs[:-1]:
            conv.build((None, None, None, input_shape[-1]))
        self.convs[-1].build((None, None, None, self.filters * (2 + len(self.rates))))
        for conv in self.separable_convs:
            conv.build(input_shape)
        for norm in self.norms:
            norm.build((None, None, None, self.filters))
        super().build(input_shape)

    def call(self, inputs):
        return self.connect(inputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "rates": self.rates,
            "activation": self.activation,
            "separable": self.separable,
            "norm": self.norm,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
