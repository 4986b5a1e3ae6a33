"""Small ResNets for CIFAR: of He et al. (arXiv 1512.03385, section 4.2), and of karanchahal's "distiller" for CIFAR-100."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import register


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
    the shortcut takes every second pixel and pads the new channels with zeros. The published files need half of the new channels
    at each end."""

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

        def stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
            first = block(channels_in, channels, stride)
            return nn.Sequential(first, *(block(channels, channels, 1) for _ in range(blocks - 1)))

        self.layer1, self.layer2, self.layer3 = stage(stem, 16, 1), stage(16, 32, 2), stage(32, 64, 2)


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
    """A stem of 64 channels, three stages of 16, 32 and 64 with a ReLU at each one's end, 4x4 average pools of the 8x8 map, and
    one linear layer on 256 features."""

    def __init__(self, blocks: int, num_classes: int = 100) -> None:
        super().__init__(StageBlock, blocks, stem=64)
        self.linear = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, C)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = F.relu(stage(x))
        return self.linear(torch.flatten(F.avg_pool2d(x, 4), 1))


for _depth in (20, 32, 44, 56, 110):
    register(f"cifar_resnet{_depth}")(partial(CifarResNet, (_depth - 2) // 6))
for _depth, _blocks in ((20, 3), (32, 5)):
    register(f"stage_relu_resnet{_depth}")(partial(StageReluResNet, _blocks))
