"""The small VGG of the backdoored networks published with I-BAU (arXiv 2110.03735)."""

import torch
from torch import Tensor, nn

from .registry import register


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
