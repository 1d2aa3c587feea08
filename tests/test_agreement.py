"""The networks against the same networks written in PyTorch, with the same weights.

Each function below is a second writing-down of a network's forward pass, from its paper, in PyTorch's own operations
and layout; only the weights come from the Keras model, by the name of the layer.
"""

import numpy as np
import pytest
from tensorflow import keras

from kerasseg.layers import BatchNorm
from kerasseg.models import deconvnet, deeplab_v3, fcn_8s, segnet, segnet_basic, unet, unet_plus_plus

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
    """Compares the logits of both, of every output, relative to their spread."""
    ours, theirs = model(image, training=False), forward(Weights(model), nchw(image))
    if not isinstance(ours, list):
        ours, theirs = [ours], [theirs]
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one), other.permute(0, 2, 3, 1).numpy()
        assert one.shape == other.shape
        assert one.std() > 1e-3
        np.testing.assert_allclose(one / one.std(), other / one.std(), atol=TOLERANCE)


@pytest.fixture(autouse=True)
def clear():
    keras.utils.set_random_seed(0)
    yield
    keras.backend.clear_session()


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


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


def nested_unet(weights, x):
    def double_conv(x, name):
        for i in (1, 2):
            x = F.relu(weights.conv(x, f"{name}_conv{i}", padding=1))
        return x

    nodes = {(0, 0): double_conv(x / 255, "node0_0")}
    for i in (1, 2, 3, 4):
        nodes[i, 0] = double_conv(F.max_pool2d(nodes[i - 1, 0], 2), f"node{i}_0")
    for j in (1, 2, 3, 4):
        for i in range(5 - j):
            up = weights.transposed(nodes[i + 1, j - 1], f"node{i}_{j}_up", 2)
            nodes[i, j] = double_conv(torch.cat([up, *(nodes[i, k] for k in range(j))], 1), f"node{i}_{j}")
    return [weights.conv(nodes[0, j], f"logits{j}") for j in (1, 2, 3, 4)]


def test_unet_plus_plus():
    check(randomized(unet_plus_plus(K, filters=4, deep_supervision=True)), nested_unet, images(64, 96))


def vgg16(weights, x, first_padding=1, norm=False):
    """Returns what the poolings give, and the places of their maxima."""
    x, pooled = x.flip(1), {}
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        for i in range(1, count + 1):
            x = weights.conv(x, f"conv{block}_{i}", padding=first_padding if (block, i) == (1, 1) else 1)
            x = F.relu(weights.norm(x, f"conv{block}_{i}_norm") if norm else x)
        size = x.shape[2:]
        x, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        pooled[block] = x, places, size
    return pooled


def fcn(weights, x):
    height, width = x.shape[2:]
    pooled = vgg16(weights, x - torch.tensor(VOC_MEAN).view(1, 3, 1, 1), first_padding=100)
    x = F.relu(weights.conv(pooled[5][0], "fc6"))
    x = weights.conv(F.relu(weights.conv(x, "fc7")), "score_fr")
    for factor, block, offset in ((2, 4, 5), (2, 3, 9)):
        x = _bilinear(x, factor)
        skip = weights.conv(pooled[block][0], f"score_pool{block}")
        x = x + skip[:, :, offset : offset + x.shape[2], offset : offset + x.shape[3]]
    return _bilinear(x, 8)[:, :, 31 : 31 + height, 31 : 31 + width]


VOC_MEAN = (122.67891434, 116.66876762, 104.00698793)


def _bilinear(x, factor):
    """Upsamples as the release does, with a kernel written down anew: a triangle from edge to edge."""
    taps = (torch.arange(factor) * 2 + 1) / (2 * factor)
    taps = torch.cat([taps, taps.flip(0)])
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, -1, -1)
    return F.conv_transpose2d(x, kernel, stride=factor, groups=x.shape[1])


def test_fcn_8s():
    model = fcn_8s(K, width=1 / 16, padding="authors")
    for name in ("score_fr", "score_pool4", "score_pool3"):  # zero in a fresh model
        layer = model.get_layer(name)
        layer.kernel.assign(np.random.default_rng(2).normal(0, 0.1, layer.kernel.shape))
    check(randomized(model), fcn, images(75, 110))


def segnet_unpooling(weights, x):
    pooled = vgg16(weights, x, norm=True)
    x = pooled[5][0]
    for block, count in zip((5, 4, 3, 2, 1), (3, 3, 3, 2, 2), strict=True):
        _, places, size = pooled[block]
        x = F.max_unpool2d(x, places, 2, output_size=size)
        for i in range(count, 0, -1):
            x = weights.conv(x, f"conv{block}_{i}_D", padding=1)
            x = x if (block, i) == (1, 1) else weights.norm_relu(x, f"conv{block}_{i}_D_norm")
    return x


def test_segnet():
    """With odd sizes on the way down: 45, 23, 12, 6, 3 by 60, 30, 15, 8, 4."""
    check(randomized(segnet(K, width=1 / 16)), segnet_unpooling, images(90, 120))


def basic(weights, x):
    x, pooled = F.local_response_norm(x.flip(1), 5, 1e-4, 0.75), []
    for level in (1, 2, 3, 4):
        x = weights.norm_relu(weights.conv(x, f"conv{level}", padding=3), f"conv{level}_norm")
        size = x.shape[2:]
        x, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        pooled.append((places, size))
    for level in (4, 3, 2, 1):
        places, size = pooled.pop()
        x = F.max_unpool2d(x, places, 2, output_size=size)
        x = weights.norm(weights.conv(x, f"conv_decode{level}", padding=3), f"conv_decode{level}_norm")
    return weights.conv(x, "conv_classifier")


def test_segnet_basic():
    check(randomized(segnet_basic(K, width=1 / 8)), basic, images(45, 61))


def deconvolutions(weights, x):
    pooled = vgg16(weights, x - torch.tensor((122.675, 116.669, 104.008)).view(1, 3, 1, 1), norm=True)
    x = weights.norm_relu(weights.conv(pooled[5][0], "fc6"), "fc6_norm")
    x = weights.norm_relu(weights.conv(x, "fc7"), "fc7_norm")
    x = weights.norm_relu(weights.transposed(x, "fc6-deconv", 1), "fc6-deconv_norm")
    for block, count in zip((5, 4, 3, 2, 1), (3, 3, 3, 2, 2), strict=True):
        x = F.max_unpool2d(x, pooled[block][1], 2)
        for i in range(1, count + 1):
            name = f"deconv{block}_{i}"
            x = weights.norm_relu(weights.transposed(x, name, 1, padding=1), f"{name}_norm")
    return weights.conv(x, "seg-score")


def test_deconvnet():
    """With two by three cells in the middle, and kernels ten times those of a fresh model, whose logits hardly vary."""
    model = randomized(deconvnet(K, width=1 / 16, input_shape=(None, None, 3)))
    for layer in model.layers:
        if "deconv" in layer.name and layer.weights and "norm" not in layer.name:
            layer.kernel.assign(10 * layer.kernel)
    check(model, deconvolutions, images(256, 288))
