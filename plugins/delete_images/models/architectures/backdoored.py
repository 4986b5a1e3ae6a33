"""Networks of published backdoored models: the wide ResNet (arXiv 1605.07146) with the key names of NAD's files (arXiv
2101.05930), and the small VGG of I-BAU's (arXiv 2110.03735)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.errors import RequestError

from .registry import register


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


class Stage(nn.Module):
    """Sequence of blocks under the key ``layer``, of which the first has the stride."""

    def __init__(self, channels_in: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = WideBlock(channels_in, channels, stride)
        self.layer = nn.Sequential(first, *(WideBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


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
        self.block1 = Stage(channels[0], channels[1], blocks, 1)
        self.block2 = Stage(channels[1], channels[2], blocks, 2)
        self.block3 = Stage(channels[2], channels[3], blocks, 2)
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
    """Six 3x3 convolutions with batch norm and ELU, a max pool and dropout after each pair, one linear layer.

    For 32x32 images in [0, 1]. The keys of the published files (0, 1, 3, 4, 8, ...) determine the order of the layers.
    """

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
