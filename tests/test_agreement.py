"""The networks against the same networks written in PyTorch, with the same weights.

Each function below is a second writing-down of a network's forward pass, from its paper, in PyTorch's own operations
and layout; only the weights come from the Keras model, by the name of the layer.
"""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.layers import BatchNorm
from kerasseg.models import deeplab_v3, unet

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[agreement]'")
F = torch.nn.functional
TOLERANCE = 1e-4
K = 4


class Weights:
    """PyTorch operations with the weights of the layers of a Keras model."""

    def __init__(self, model):
        self.layers = {layer.name: layer for layer in model.layers}

    def conv(self, x, name, stride=1, padding=0, dilation=1):
        kernel, bias = self._of(name)
        return F.conv2d(x, _oihw(kernel), bias, stride, padding, dilation)

    def transposed(self, x, name, stride, padding=0):
        kernel, bias = self._of(name)  # (h, w, out, in) in Keras
        return F.conv_transpose2d(x, _oihw(kernel), bias, stride, padding)

    def norm(self, x, name):
        layer = self.layers[name]
        gamma, beta, mean, variance = (torch.from_numpy(np.array(w)) for w in layer.get_weights())
        return F.batch_norm(x, mean, variance, gamma, beta, eps=layer.epsilon)

    def norm_relu(self, x, name):
        return F.relu(self.norm(x, name))

    def _of(self, name):
        kernel, *bias = self.layers[name].get_weights()
        return torch.from_numpy(kernel), torch.from_numpy(bias[0]) if bias else None


def _oihw(kernel):
    return kernel.permute(3, 2, 0, 1)


def randomized(model, seed=0):
    """Returns the model with statistics, scales and biases that are not those of a fresh one."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, BatchNorm):
            shape = layer.gamma.shape
            values = [rng.uniform(low, high, shape) for low, high in ((0.5, 1.5), (-0.3, 0.3), (-0.3, 0.3), (0.5, 1.5))]
            layer.set_weights([value.astype(np.float32) for value in values])
        elif layer.weights and getattr(layer, "use_bias", False):
            *kernel, bias = layer.get_weights()
            layer.set_weights([*kernel, rng.normal(0, 0.1, bias.shape).astype(np.float32)])
    return model


def images(height, width, channels=3):
    return np.random.default_rng(1).uniform(0, 255, (2, height, width, channels)).astype(np.float32)


def nchw(image):
    return torch.from_numpy(image).permute(0, 3, 1, 2)


def check(model, forward, image):
    """Compares the logits of both, relative to their spread."""
    ours = np.asarray(model(image, training=False))
    with torch.no_grad():
        theirs = forward(Weights(model), nchw(image)).permute(0, 2, 3, 1).numpy()
    assert ours.shape == theirs.shape
    assert ours.std() > 1e-3
    np.testing.assert_allclose(ours / ours.std(), theirs / ours.std(), atol=TOLERANCE)


@pytest.fixture(autouse=True)
def clear():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


def unet_valid(weights, x):
    x, skips = x / 255, []
    for level in (1, 2, 3, 4):
        for i in (1, 2):
            x = F.relu(weights.conv(x, f"down{level}_conv{i}"))
        skips.append(x)
        x = F.max_pool2d(x, 2)
    for i in (1, 2):
        x = F.relu(weights.conv(x, f"bottom_conv{i}"))
    for level in (4, 3, 2, 1):
        x = weights.transposed(x, f"up{level}_upconv", 2)
        skip = skips[level - 1]
        rows, columns = ((skip.shape[axis] - x.shape[axis]) // 2 for axis in (2, 3))
        x = torch.cat([x, skip[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]]], 1)
        for i in (1, 2):
            x = F.relu(weights.conv(x, f"up{level}_conv{i}"))
    return weights.conv(x, "logits")


def test_unet():
    check(randomized(unet(K, filters=4)), unet_valid, images(188, 220))


def deeplab(weights, x, rates=(6, 12, 18)):
    size = x.shape[2:]
    x = weights.conv(x / 127.5 - 1, "conv1", stride=2, padding=3)
    # "same" pooling pads an odd side on both ends, and with less than any value.
    x = F.max_pool2d(x, 3, 2, padding=1)
    for block, units in enumerate((3, 4, 6, 3), start=1):
        for unit in range(1, units + 1):
            stride = 2 if block < 3 and unit == units else 1
            rate = (2, 4, 8)[unit - 1] if block == 4 else 1
            x = _bottleneck(weights, x, f"block{block}_unit{unit}", stride, rate)
    x = weights.norm_relu(x, "postnorm_norm")
    pooled = weights.norm_relu(weights.conv(x.mean((2, 3), keepdim=True), "aspp_pool_conv"), "aspp_pool_norm")
    branches = [pooled.expand(-1, -1, *x.shape[2:])]
    for i, rate in enumerate((0, *rates)):
        conv = weights.conv(x, f"aspp_branch{i}_conv", padding=rate, dilation=max(rate, 1))
        branches.append(weights.norm_relu(conv, f"aspp_branch{i}_norm"))
    x = weights.norm_relu(weights.conv(torch.cat(branches, 1), "aspp_projection_conv"), "aspp_projection_norm")
    return F.interpolate(weights.conv(x, "logits_conv"), size, mode="bilinear", align_corners=True)


def _bottleneck(weights, x, name, stride, rate):
    preact = weights.norm_relu(x, f"{name}_preact_norm")
    if f"{name}_shortcut" in weights.layers:
        shortcut = weights.conv(preact, f"{name}_shortcut", stride=stride)
    else:
        shortcut = x[:, :, ::stride, ::stride]
    y = weights.norm_relu(weights.conv(preact, f"{name}_conv1"), f"{name}_conv1_norm")
    y = weights.norm_relu(weights.conv(y, f"{name}_conv2", stride, rate, rate), f"{name}_conv2_norm")
    return shortcut + weights.conv(y, f"{name}_conv3")


def test_deeplab_v3():
    check(randomized(deeplab_v3(K, width=1 / 16)), deeplab, images(97, 129))
