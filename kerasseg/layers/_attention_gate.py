"""Additive attention on a skip connection."""

from collections.abc import Callable

from tensorflow import keras

from kerasseg.layers._norm import make_norm
from kerasseg.layers._resize import Resize


@keras.utils.register_keras_serializable("kerasseg")
class AttentionGate(keras.layers.Layer):
    """Weighs the pixels of a skip connection by what coarser features say (Attention U-Net).

        map = resize(sigmoid(psi(relu(theta(skip) + resize(phi(gating))))))      in 0...1, one number a pixel
        out = norm(output(map * skip))

    theta: 2x2 convolution of stride 2 without bias; phi, psi, output: 1x1 convolutions with bias. What phi gives is
    resized to the size of theta's, the map to that of the skip connection; both bilinearly.

    Args:
        filters: Channels of the output; in the authors' network those of the skip connection.
        inner_filters: Channels in which the two are compared; None: `filters`.
        norm, momentum, epsilon: See `kerasseg.layers.make_norm`.

    Call: `[skip, gating]`: [B, H, W, C], [B, h, w, G], of any sizes; returns [B, H, W, filters].
    Reference: Oktay et al. 2018, arXiv:1804.03999, figure 2; ozan-oktay/Attention-Gated-Networks
        `grid_attention_layer.py` at eee4881 ("concatenation"), in two dimensions.
    Differs: Odd sizes are padded for theta by a row or column of zeros, which the authors' leaves out.
    """

    def __init__(
        self,
        filters: int,
        inner_filters: int | None = None,
        norm: str | Callable = "batch",
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        name: str = "attention_gate",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.filters, self.inner_filters = filters, inner_filters
        self.norm, self.momentum, self.epsilon = norm, momentum, epsilon
        policy = {"dtype": self.dtype_policy}
        inner = inner_filters or filters
        conv = {"kernel_initializer": "he_normal", **policy}
        self.theta = keras.layers.Conv2D(inner, 2, 2, padding="same", use_bias=False, name=f"{name}_theta", **conv)
        self.phi = keras.layers.Conv2D(inner, 1, name=f"{name}_phi", **conv)
        self.resize = Resize(name=f"{name}_resize", **policy)
        self.add = keras.layers.Add(name=f"{name}_add", **policy)
        self.relu = keras.layers.ReLU(name=f"{name}_relu", **policy)
        self.psi = keras.layers.Conv2D(1, 1, name=f"{name}_psi", **conv)
        self.sigmoid = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid", **policy)
        self.map = Resize(name=f"{name}_map", **policy)
        self.multiply = keras.layers.Multiply(name=f"{name}_multiply", **policy)
        self.output_conv = keras.layers.Conv2D(filters, 1, name=f"{name}_output", **conv)
        self.output_norm = make_norm(
            norm, filters, name=f"{name}_output_norm", momentum=momentum, epsilon=epsilon, **policy
        )

    def connect(self, inputs):
        """Applies the sublayers one by one.

        On symbolic tensors each of them becomes a layer of the model itself; `<name>_map` is the one to tap for the
        attention map [B, H, W, 1]. `call` does the same inside the one layer.
        """
        skip, gating = inputs
        theta = self.theta(skip)
        compared = self.relu(self.add([theta, self.resize([self.phi(gating), theta])]))
        attention = self.map([self.sigmoid(self.psi(compared)), skip])
        x = self.output_conv(self.multiply([skip, attention]))
        return x if self.output_norm is None else self.output_norm(x)

    def build(self, input_shape):
        skip, gating = (shape[-1] for shape in input_shape)
        inner = self.inner_filters or self.filters
        for conv, channels in ((self.theta, skip), (self.phi, gating), (self.psi, inner), (self.output_conv, skip)):
            conv.build((None, None, None, channels))
        if self.output_norm is not None:
            self.output_norm.build((None, None, None, self.filters))
        super().build(input_shape)

    def call(self, inputs):
        return self.connect(inputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "inner_filters": self.inner_filters,
            "norm": self.norm,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
