"""FastestDet (dog-qiuqiu, BSD-3), as an example of a detector that delete_detection does not know: the network and its Parts.

Scores are objectness^0.6 times class^0.4, and the classes exclude each other (softmax). A class layer must be one layer with a
bias, so the batch norms behind the three last convolutions are folded into them, which changes no output.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import batched_nms

from delete_detection.parts import Boxes, Parts, register_detector
from delete_tasks.fileio.checkpoint import load_weights


def conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*layers, nn.ReLU()] if relu else layers


class Block(nn.Module):
    """Block of ShuffleNetV2: of stride 2 it has two branches, else one and the other half of the channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle, rest, self.stride = outputs // 2, outputs - inputs, stride
        between = conv(middle, middle, 3, stride, middle, relu=False)
        self.branch_main = nn.Sequential(*conv(inputs, middle, 1), *between, *conv(middle, rest, 1))
        if stride == 2:
            self.branch_proj = nn.Sequential(*conv(inputs, inputs, 3, 2, inputs, relu=False), *conv(inputs, inputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        first, second = (x, x) if self.stride == 2 else (x[:, ::2], x[:, 1::2])
        return torch.cat([self.branch_proj(first) if self.stride == 2 else first, self.branch_main(second)], 1)


class Head(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.conv5x5 = nn.Sequential(*conv(width, width, 5, groups=width), *conv(width, outputs, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv5x5(x)


class FastestDet(nn.Module):
    """FastestDet. Maps BGR images ``(N, 3, H, W)`` from 0 to 1 to ``(N, 5 + C, H / 16, W / 16)``: objectness and four box numbers
    as the layers give them, and class logits."""

    def __init__(self, num_classes: int = 80) -> None:
        super().__init__()
        self.backbone, inputs = nn.ModuleDict({"first_conv": nn.Sequential(*conv(3, 24, 3, 2))}), 24
        for stage, (count, width) in enumerate(((4, 48), (8, 96), (4, 192)), 2):
            rest = [Block(width // 2, width, 1) for _ in range(count - 1)]
            self.backbone[f"stage{stage}"] = nn.Sequential(Block(inputs, width, 2), *rest)
            inputs = width
        self.SPP = nn.ModuleDict({"Conv1x1": nn.ModuleDict({"conv1x1": nn.Sequential(*conv(336, 96, 1))})})
        for number in (1, 2, 3):
            layers = [layer for _ in range(number) for layer in conv(96, 96, 5, groups=96)]
            self.SPP[f"S{number}"] = nn.Sequential(*layers)
        self.SPP["output"] = nn.Sequential(*conv(288, 96, 1, relu=False))
        heads = {name: Head(96, count) for name, count in (("obj", 1), ("reg", 4), ("cls", num_classes))}
        self.detect_head = nn.ModuleDict({f"{name}_layers": head for name, head in heads.items()})
        self.detect_head["conv1x1"] = nn.ModuleDict({"conv1x1": nn.Sequential(*conv(96, 96, 1))})

    def forward(self, images: Tensor) -> Tensor:
        x, maps = nn.functional.max_pool2d(self.backbone["first_conv"](images), 3, 2, 1), []
        for stage in (2, 3, 4):
            maps.append(x := self.backbone[f"stage{stage}"](x))
        small, large = nn.functional.avg_pool2d(maps[0], 3, 2, 1), nn.functional.interpolate(maps[2], scale_factor=2)
        x = self.SPP["Conv1x1"]["conv1x1"](torch.cat([small, maps[1], large], 1))  # type: ignore[index]
        x = (x + self.SPP["output"](torch.cat([self.SPP[f"S{number}"](x) for number in (1, 2, 3)], 1))).relu()
        x = self.detect_head["conv1x1"]["conv1x1"](x)  # type: ignore[index]
        return torch.cat([self.detect_head[f"{name}_layers"](x) for name in ("obj", "reg", "cls")], 1)


def fold(network: FastestDet) -> FastestDet:
    """Fold the batch norms behind the last convolutions into them, in place."""
    for name in ("obj", "reg", "cls"):
        layers: Any = network.detect_head[f"{name}_layers"].conv5x5
        layers[3], layers[4] = fuse_conv_bn_eval(layers[3].eval(), layers[4].eval()), nn.Identity()
    return network.eval()


def load(path: str, num_classes: int = 80) -> FastestDet:
    """Load the weights of a file, and fold."""
    network = FastestDet(num_classes).eval()
    load_weights(network, path)
    return fold(network)


def detect(network: nn.Module, images: Tensor) -> list[Boxes]:
    """Detect in images ``(N, 3, H, W)``."""
    outputs, (height, width) = network(images), images.shape[2:]
    rows, columns = torch.meshgrid(
        *(torch.arange(side, device=images.device) for side in outputs.shape[2:]), indexing="ij"
    )
    x, y = (outputs[:, 1].tanh() + columns) * 16, (outputs[:, 2].tanh() + rows) * 16
    w, h = outputs[:, 3].sigmoid() * width, outputs[:, 4].sigmoid() * height
    boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 3).flatten(1, 2)
    best, labels = outputs[:, 5:].softmax(1).max(1)
    scores = (outputs[:, 0].sigmoid() ** 0.6 * best**0.4).flatten(1)
    found = []
    for score, label, box in zip(scores, labels.flatten(1), boxes, strict=True):
        order = score.argsort(descending=True)
        order = order[score[order] > 0.05]
        order = order[batched_nms(box[order], score[order], label[order], 0.45)][:100]
        found.append({"boxes": box[order], "scores": score[order], "labels": label[order]})
    return found


@register_detector
def find_fastestdet(network: nn.Module) -> Parts | None:
    """Parts of a folded FastestDet."""
    if not isinstance(network, FastestDet):
        return None
    classes, objectness, boxes = ([f"detect_head.{name}_layers.conv5x5.3"] for name in ("cls", "obj", "reg"))
    return Parts(classes, detect, lambda each, images: each(images), objectness, (0.6, 0.4), [boxes], softmax=True)
