"""YOLOX (Ge et al., arXiv 2107.08430), with the tensor names of its authors' weights: architecture ``yolox`` of model folders."""

from typing import Any

import torch
from torch import Tensor, nn

from delete_images.models.architectures.registry import register

STRIDES = (8, 16, 32)


class Conv(nn.Sequential):
    """Convolution, batch norm and SiLU; ``groups`` equal to the channels make it depthwise."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU(inplace=True)


class Separable(nn.Sequential):
    """Depthwise convolution, then one of 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv, self.pconv = Conv(inputs, inputs, kernel, stride, inputs), Conv(inputs, outputs)


class Bottleneck(nn.Module):
    def __init__(self, width: int, shortcut: bool, conv: Any) -> None:
        super().__init__()
        self.conv1, self.conv2, self.shortcut = Conv(width, width), conv(width, width, 3), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class Stage(nn.Module):
    """Cross stage partial layer."""

    def __init__(self, inputs: int, outputs: int, count: int, shortcut: bool, conv: Any) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1, self.conv2, self.conv3 = Conv(inputs, half), Conv(inputs, half), Conv(2 * half, outputs)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut, conv) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))


class Pooling(nn.Module):
    """Spatial pyramid pooling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Conv(width, width // 2), Conv(width * 2, width)
        self.m = nn.ModuleList(nn.MaxPool2d(side, 1, side // 2) for side in (5, 9, 13))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class Darknet(nn.Module):
    def __init__(self, w: int, d: int, conv: Any) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv": Conv(12, w, 3)})
        for number, count in enumerate((d, 3 * d, 3 * d), 2):
            outputs = w * 2 ** (number - 1)
            down = conv(outputs // 2, outputs, 3, 2)
            setattr(self, f"dark{number}", nn.Sequential(down, Stage(outputs, outputs, count, True, conv)))
        last = Stage(16 * w, 16 * w, d, False, conv)
        self.dark5 = nn.Sequential(conv(8 * w, 16 * w, 3, 2), Pooling(16 * w), last)

    def forward(self, x: Tensor) -> list[Tensor]:
        blocks = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])  # pixels as channels
        maps = [self.stem["conv"](torch.cat(blocks, 1))]
        for number in (2, 3, 4, 5):
            maps.append(self.get_submodule(f"dark{number}")(maps[-1]))
        return maps[2:]


class Pyramid(nn.Module):
    """Path aggregation network on three maps."""

    def __init__(self, w: int, d: int, conv: Any) -> None:
        super().__init__()
        small, middle, large = 4 * w, 8 * w, 16 * w
        self.backbone = Darknet(w, d, conv)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral_conv0, self.C3_p4 = Conv(large, middle), Stage(2 * middle, middle, d, False, conv)
        self.reduce_conv1, self.C3_p3 = Conv(middle, small), Stage(2 * small, small, d, False, conv)
        self.bu_conv2, self.C3_n3 = conv(small, small, 3, 2), Stage(2 * small, middle, d, False, conv)
        self.bu_conv1, self.C3_n4 = conv(middle, middle, 3, 2), Stage(2 * middle, large, d, False, conv)

    def forward(self, x: Tensor) -> list[Tensor]:
        small, middle, large = self.backbone(x)
        top = self.lateral_conv0(large)
        down = self.reduce_conv1(self.C3_p4(torch.cat([self.upsample(top), middle], 1)))
        first = self.C3_p3(torch.cat([self.upsample(down), small], 1))
        second = self.C3_n3(torch.cat([self.bu_conv2(first), down], 1))
        return [first, second, self.C3_n4(torch.cat([self.bu_conv1(second), top], 1))]


class Head(nn.Module):
    def __init__(self, num_classes: int, w: int, conv: Any) -> None:
        super().__init__()
        side = 4 * w

        def each(make: Any) -> nn.ModuleList:
            return nn.ModuleList(make() for _ in STRIDES)

        self.stems = nn.ModuleList(Conv(4 * w * 2**level, side) for level in range(3))
        self.cls_convs = each(lambda: nn.Sequential(conv(side, side, 3), conv(side, side, 3)))
        self.reg_convs = each(lambda: nn.Sequential(conv(side, side, 3), conv(side, side, 3)))
        self.cls_preds = each(lambda: nn.Conv2d(side, num_classes, 1))
        self.reg_preds, self.obj_preds = each(lambda: nn.Conv2d(side, 4, 1)), each(lambda: nn.Conv2d(side, 1, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        levels = []
        for level, stride in enumerate(STRIDES):
            x = self.stems[level](maps[level])
            boxes = self.reg_convs[level](x)
            rows, columns = torch.meshgrid(*(torch.arange(n, device=x.device) for n in x.shape[2:]), indexing="ij")
            places = torch.stack([columns, rows]).to(x.dtype)
            box, objectness = self.reg_preds[level](boxes), self.obj_preds[level](boxes).sigmoid()
            scores = self.cls_preds[level](self.cls_convs[level](x)).sigmoid()
            parts = ((box[:, :2] + places) * stride, box[:, 2:].exp() * stride, objectness, scores)
            levels.append(torch.cat(parts, 1).flatten(2))
        return torch.cat(levels, 2).transpose(1, 2)


@register("yolox")
class YOLOX(nn.Module):
    """YOLOX. Maps images ``(N, 3, H, W)``, sides multiples of 32, to ``(N, L, 5 + num_classes)``: centre, width and height in
    pixels, objectness and class scores from 0 to 1.

    Args:
        num_classes: Number of classes.
        depth: Depth multiplier: 0.33 (nano, tiny, s), 0.67 (m), 1 (l), 1.33 (x).
        width: Width multiplier: 0.25 (nano), 0.375 (tiny), 0.5 (s), 0.75 (m), 1 (l), 1.25 (x).
        depthwise: Separable convolutions, as in nano.
        eps: Of the batch norms: 1e-3 in its authors' code, 1e-5 in files whose norms were folded into the convolutions.
    """

    def __init__(
        self, num_classes: int, depth: float = 0.33, width: float = 0.5, depthwise: bool = False, eps: float = 1e-3
    ) -> None:
        super().__init__()
        conv = Separable if depthwise else Conv
        w, d = int(64 * width), max(round(3 * depth), 1)
        self.backbone, self.head = Pyramid(w, d, conv), Head(num_classes, w, conv)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = eps

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))
