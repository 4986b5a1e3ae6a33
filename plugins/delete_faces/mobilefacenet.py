"""MobileFaceNet (Chen et al., arXiv 1804.07573, table 1), under the key names of foamliu's published files."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops.misc import Conv2dNormActivation

# Expansion, channels, blocks and first stride of each stage.
STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


class DepthwiseSeparable(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with norm and ReLU."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.pointwise(self.relu(self.bn1(self.depthwise(x))))))


class MobileFaceNet(nn.Module):
    """Aligned faces ``(N, 3, 112, 112)`` to embeddings ``(N, embedding_size)``, not scaled to length 1."""

    def __init__(self, embedding_size: int = 128) -> None:
        super().__init__()
        self.conv1 = Conv2dNormActivation(3, 64, 3, 2, activation_layer=nn.ReLU6)
        self.dw_conv = DepthwiseSeparable(64, 64)
        blocks, channels = [], 64
        for expansion, out, count, stride in STAGES:
            for number in range(count):
                blocks.append(InvertedResidual(channels, out, stride if number == 0 else 1, expansion))
                channels = out
        self.features = nn.Sequential(*blocks)
        self.conv2 = Conv2dNormActivation(channels, 512, 1, activation_layer=nn.ReLU6)
        # As large as the map: an average with weights for each place of the face (section 3.1).
        depthwise = nn.Conv2d(512, 512, 7, groups=512, bias=False)
        self.gdconv = nn.Sequential(OrderedDict(depthwise=depthwise, bn=nn.BatchNorm2d(512)))
        self.conv3 = nn.Conv2d(512, embedding_size, 1)
        self.bn = nn.BatchNorm2d(embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.features(self.dw_conv(self.conv1(x))))
        return self.bn(self.conv3(self.gdconv(x))).flatten(1)
