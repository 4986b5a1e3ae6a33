"""The small VGG of the backdoored networks published with I-BAU (arXiv 2110.03735)."""

import torch
from torch import Tensor, nn

from .registry import register

_WIDTHS = ((32, 32), (64, 64), (128, 128))  # a 2x2 max pool after each pair
_DROPOUT = (0.2, 0.3, 0.4)


@register("ibau_vgg")
class IbauVGG(nn.Module):
    """Six 3x3 convolutions with batch norm and ELU, a max pool and dropout after each pair, one linear layer.

    For 32x32 images in [0, 1]. The key numbers of the published files (0, 1, 3, 4, 8, ...) fix the order of the layers.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for pair, dropout in zip(_WIDTHS, _DROPOUT, strict=True):
            for width in pair:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU()]
                channels = width
            layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(128 * 4 * 4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) to logits (N, C)."""
        return self.classifier(torch.flatten(self.features(x), 1))
