"""Networks of published weights: ResNets for CIFAR (arXiv 1512.03385, section 4.2, and karanchahal's "distiller"); backdoored
models: the wide ResNet (arXiv 1605.07146) with NAD's key names (arXiv 2101.05930), I-BAU's small VGG (2110.03735)."""

from collections import OrderedDict
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.errors import RequestError

from .registry import register


def stage(block: type[nn.Module], channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    """Make a sequence of blocks, of which the first has the stride."""
    first = block(channels_in, channels, stride)
    return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def residual(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class BasicBlock(Block):
    """Block with a parameter-free shortcut, and a ReLU after the sum. Option A of the paper's section 4.1: if the shape changes,
    the shortcut takes every second pixel and pads the new channels with zeros. The published files need half at each end."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__(channels_in, channels, stride)
        self.stride = stride
        self.new_channels = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        out = self.residual(x)
        if self.new_channels or self.stride != 1:
            before = self.new_channels // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new_channels - before))
        return F.relu(out + x)


class StageBlock(Block):
    """Block without a ReLU after the sum; if the channels change, the shortcut is a 1x1 convolution with batch norm."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__(channels_in, channels, stride)
        projection = [nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)]
        self.shortcut = nn.Sequential(*projection if channels_in != channels else [])

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class Stages(nn.Module):
    """Stem convolution and three stages of 16, 32 and 64 channels."""

    def __init__(self, block: type[Block], blocks: int, stem: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = stage(block, stem, 16, blocks, 1)
        self.layer2 = stage(block, 16, 32, blocks, 2)
        self.layer3 = stage(block, 32, 64, blocks, 2)


class CifarResNet(Stages):
    """ResNet-(6n+2) for 32x32 images: n blocks in each of three stages, global average, one linear layer."""

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__(BasicBlock, blocks, stem=16)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, C)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class StageReluResNet(Stages):
    """A stem of 64 channels, stages of 16, 32, 64 that end in a ReLU, 4x4 average pools of 8x8 maps, a layer on 256 features."""

    def __init__(self, blocks: int, num_classes: int = 100) -> None:
        super().__init__(StageBlock, blocks, stem=64)
        self.linear = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, C)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3):
            x = F.relu(layer(x))
        return self.linear(torch.flatten(F.avg_pool2d(x, 4), 1))


class WideBlock(nn.Module):
    """Norm-ReLU-conv twice, and the input, through a 1x1 convolution after norm and ReLU if channels change (figure 1)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # None and not Identity, since the published files have no such key if the channels stay; the name is from them.
        same = channels_in == channels
        self.convShortcut = None if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))


@register("wide_resnet")
class WideResNet(nn.Module):
    """WRN-depth-width for 32x32 images: the depth is 6n + 4, ``width`` is a factor on the channels 16, 32, 64."""

    def __init__(self, num_classes: int = 10, depth: int = 28, width: int = 10) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise RequestError(f"a wide ResNet has depth 6n + 4 (10, 16, 22, 28, 40, ...), got {depth}")
        blocks = (depth - 4) // 6
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = (
            nn.Sequential(OrderedDict(layer=stage(WideBlock, before, after, blocks, stride)))  # as the keys are
            for before, after, stride in zip(channels, channels[1:], (1, 2, 2), strict=False)
        )
        self.bn1 = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, C)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(F.relu(self.bn1(x)), 1), 1))


@register("wrn16_1")
def wrn16_1(num_classes: int = 10) -> nn.Module:
    """WRN-16-1, the network of NAD's published files; input in [0, 1]."""
    return WideResNet(num_classes, 16, 1)


@register("ibau_vgg")
class IbauVGG(nn.Module):
    """Six 3x3 convolutions with batch norm and ELU, a max pool and dropout after each pair, one linear layer; for 32x32 images in
    [0, 1]. The keys of the published files (0, 1, 3, 4, 8, ...) determine the order of the layers."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, dropout in ((32, 0.2), (64, 0.3), (128, 0.4)):
            for inputs in (channels, width):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU()]
            layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(128 * 4 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, C)."""
        return self.classifier(torch.flatten(self.features(x), 1))


for _depth in (20, 32, 44, 56, 110):
    register(f"cifar_resnet{_depth}")(partial(CifarResNet, (_depth - 2) // 6))
for _depth, _blocks in ((20, 3), (32, 5)):
    register(f"stage_relu_resnet{_depth}")(partial(StageReluResNet, _blocks))
