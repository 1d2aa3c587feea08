"""Feature maps that know where their cells lie on the image, so that crops are worked out and not remembered."""

from __future__ import annotations

import dataclasses
from typing import Any

from tensorflow import keras

from kerasseg.layers import BilinearConv2DTranspose, CropLike


@dataclasses.dataclass(frozen=True)
class Map:
    """A feature map [B, H, W, C]: along either side, cell i is centred on pixel start + stride * i of the image.

    Attributes:
        tensor: The symbolic map.
        start, stride: In pixels of the image, whose own pixels are 0, 1, 2 ...
    """

    tensor: Any
    start: float = 0.0
    stride: float = 1.0

    def to(self, tensor) -> Map:
        """Returns the map `tensor`, which layers in a chain made of this one."""
        layers = keras.Model(self.tensor, tensor).layers
        return self._moved(tensor, layers)

    def through(self, *layers: keras.layers.Layer) -> Map:
        """Returns what a chain of layers makes of the map."""
        tensor = self.tensor
        for layer in layers:
            tensor = layer(tensor)
        return self._moved(tensor, layers)

    def _moved(self, tensor, layers):
        start, stride = self.start, self.stride
        for layer in layers:
            start, stride = _first_cell(layer, start, stride)
        return Map(tensor, start, stride)

    def cropped_to(self, other: Map, name: str) -> Map:
        """Crops the map to the cells that lie where those of `other`, of the same stride, lie.

        Raises:
            ValueError: The cells of the two maps do not lie on each other, or the other map begins outside this one.
        """
        offset = (other.start - self.start) / self.stride
        if self.stride != other.stride or offset < 0 or offset != int(offset):
            raise ValueError(
                f"{name}: expected cells that can be laid on each other, got cells at {self.start} + {self.stride} * i "
                f"to be cropped to cells at {other.start} + {other.stride} * i"
            )
        tensor = CropLike(int(offset), dtype="float32", name=name)([self.tensor, other.tensor])
        return Map(tensor, other.start, other.stride)


def _first_cell(layer, start, stride):
    """Returns start and stride of a layer's output, given those of its input."""
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return start - layer.padding[0][0] * stride, stride
    if isinstance(layer, BilinearConv2DTranspose):
        size, factor = layer.kernel_size, layer.strides
        stride /= factor
        return start - _to_middle(layer, size, factor) * stride, stride
    if isinstance(layer, keras.layers.Conv2D):
        size, factor = layer.kernel_size[0], layer.strides[0]
    elif isinstance(layer, keras.layers.MaxPooling2D):
        size, factor = layer.pool_size[0], layer.strides[0]
    else:
        return start, stride
    return start + _to_middle(layer, size, factor) * stride, stride * factor


def _to_middle(layer, size, factor):
    """Returns the distance from the first cell that the layer reads (or writes) to the middle of its kernel."""
    padding = (size - factor) // 2 if layer.padding == "same" else 0
    return (size - 1) / 2 - padding
