"""The small ResNets for CIFAR-100 that were published with karanchahal's "distiller"; not those of He et al."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import register


class StageBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, without a ReLU after the sum. A stage's first block has a 1x1 convolution with batch
    norm as its shortcut, whether the shape changes or not."""

    def __init__(self, channels_in: int, channels: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        projection = [nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)]
        self.shortcut = nn.Sequential(*projection if first else [])

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)


class StageReluResNet(nn.Module):
    """A stem of 64 channels, three stages of 16, 32 and 64 with a ReLU at each one's end, 4x4 average pools of the 8x8 map, and
    one linear layer on 256 features."""

    def __init__(self, blocks: int, num_classes: int = 100) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(256, num_classes)

    @staticmethod
    def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = StageBlock(channels_in, channels, stride, first=True)
        return nn.Sequential(first, *(StageBlock(channels, channels, 1, first=False) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, C)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in (self.layer1, self.layer2, self.layer3):
            x = F.relu(stage(x))
        return self.linear(torch.flatten(F.avg_pool2d(x, 4), 1))


for _depth, _blocks in ((20, 3), (32, 5)):
    register(f"stage_relu_resnet{_depth}")(partial(StageReluResNet, _blocks))
