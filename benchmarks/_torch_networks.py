"""Contestants in PyTorch: torchvision's DeepLab-v3, and U-Net, SegNet and DeconvNet written in its layers.

In the memory layout that is the quicker one on a CPU, channels last.
"""

import os
import sys

import torch
from _shared_data import images, masks
from torch import nn

F = nn.functional


def forward(network, shape, num_classes=21, dtype="float32", **options):
    """One forward pass without gradients; in bfloat16 by autocast."""
    net, image = _prepared(network, shape, num_classes, options)
    net.eval()

    def call():
        with torch.inference_mode(), _precision(dtype):
            return net(image).float().numpy()

    return call


def step(network, shape, num_classes=21, dtype="float32", **options):
    """One training step: cross-entropy, stochastic gradient descent with momentum."""
    net, image = _prepared(network, shape, num_classes, options)
    net.train()
    with torch.inference_mode():
        size = net(image[:2]).shape[2:]
    mask = torch.from_numpy(masks((shape[0], *size))).long()
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)

    def call():
        optimizer.zero_grad()
        with _precision(dtype):
            logits = net(image)
        loss = F.cross_entropy(logits.float(), mask, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    return call


def _precision(dtype):
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")


def _prepared(network, shape, num_classes, options):
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    net = NETWORKS[network](shape[-1], num_classes, **options).to(memory_format=torch.channels_last)
    image = torch.from_numpy(images(shape)).permute(0, 3, 1, 2) / 255
    return net, image.to(memory_format=torch.channels_last)


class DeepLab(nn.Module):
    """torchvision's at any stride. (Its own function builds it at stride 8 alone.)"""

    def __init__(self, channels, num_classes, output_stride=16):
        super().__init__()
        torchvision = _torchvision()
        rates = (6, 12, 18) if output_stride == 16 else (12, 24, 36)
        resnet = torchvision.models.resnet50(replace_stride_with_dilation=[False, output_stride == 8, True])
        self.backbone = nn.Sequential(*list(resnet.children())[:-2])
        self.head = torchvision.models.segmentation.deeplabv3.DeepLabHead(2048, num_classes, rates)

    def forward(self, x):
        return F.interpolate(self.head(self.backbone(x)), x.shape[2:], mode="bilinear", align_corners=False)


def _torchvision():
    """Imports torchvision, also where its operations for boxes were compiled for another build of PyTorch.

    A DeepLab has none of them, but the import fails without their names.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        _torchvision.library = library  # Its names are gone when it is.
    return torchvision


def _conv_relu(inside, outside, size=3, padding=1, norm=True):
    """Returns a convolution with bias, normalisation and ReLU."""
    layers = [nn.Conv2d(inside, outside, size, padding=padding), *([nn.BatchNorm2d(outside)] if norm else [])]
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class UNet(nn.Module):
    """31 million parameters, with valid or same padding."""

    def __init__(self, channels, num_classes, padding="valid", batch_norm=False):
        super().__init__()
        filters = [64, 128, 256, 512, 1024]

        def block(inside, outside):
            options = {"padding": int(padding == "same"), "norm": batch_norm}
            return nn.Sequential(_conv_relu(inside, outside, **options), _conv_relu(outside, outside, **options))

        self.down = nn.ModuleList(block(i, o) for i, o in zip([channels, *filters], filters, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in filters[3::-1])
        self.joined = nn.ModuleList(block(2 * n, n) for n in filters[3::-1])
        self.logits = nn.Conv2d(64, num_classes, 1)

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            x = F.dropout(x, 0.5, self.training) if i > 2 else x
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.joined, strict=True):
            x, skip = up(x), skips.pop()
            rows, columns = ((skip.shape[axis] - x.shape[axis]) // 2 for axis in (2, 3))
            skip = skip[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]]
            x = block(torch.cat([x, skip], 1))
        return self.logits(x)


class VGG16(nn.Module):
    """The convolutions of VGG16 with normalisation; returns the places and sizes of the poolings too."""

    BLOCKS = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)

    def __init__(self, channels):
        super().__init__()
        self.blocks = nn.ModuleList()
        for widths in self.BLOCKS:
            self.blocks.append(nn.Sequential(*map(_conv_relu, [channels, *widths], widths)))
            channels = widths[-1]

    def forward(self, x):
        pooled = []
        for block in self.blocks:
            x = block(x)
            size = x.shape[2:]
            x, places = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pooled.append((places, size))
        return x, pooled


class SegNet(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.encoder = VGG16(channels)
        self.blocks = nn.ModuleList()
        for block in range(4, -1, -1):
            widths = VGG16.BLOCKS[block]
            outside = [*widths[1:], VGG16.BLOCKS[block - 1][-1] if block else None]
            layers = [_conv_relu(i, o) for i, o in zip(widths, outside, strict=True) if o]
            self.blocks.append(nn.Sequential(*layers, *([] if block else [nn.Conv2d(64, num_classes, 3, padding=1)])))

    def forward(self, x):
        x, pooled = self.encoder(x)
        for block in self.blocks:
            places, size = pooled.pop()
            x = block(F.max_unpool2d(x, places, 2, output_size=size))
        return x


class DeconvNet(nn.Module):
    WIDTHS = (512, 512, 512, 512), (512, 512, 512, 256), (256, 256, 256, 128), (128, 128, 64), (64, 64, 64)

    def __init__(self, channels, num_classes):
        super().__init__()
        self.encoder = VGG16(channels)
        self.middle = nn.Sequential(
            _conv_relu(512, 4096, 7, 0), _conv_relu(4096, 4096, 1, 0), self._deconvolution(4096, 512, 7, 0)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*map(self._deconvolution, widths, widths[1:])) for widths in self.WIDTHS
        )
        self.score = nn.Conv2d(64, num_classes, 1)

    @staticmethod
    def _deconvolution(inside, outside, size=3, padding=1):
        layers = [nn.ConvTranspose2d(inside, outside, size, padding=padding), nn.BatchNorm2d(outside)]
        return nn.Sequential(*layers, nn.ReLU(inplace=True))

    def forward(self, x):
        x, pooled = self.encoder(x)
        x = self.middle(x)
        for block in self.blocks:
            places, size = pooled.pop()
            x = block(F.max_unpool2d(x, places, 2, output_size=size))
        return self.score(x)


NETWORKS = {"deeplab_v3": DeepLab, "unet": UNet, "segnet": SegNet, "deconvnet": DeconvNet}
