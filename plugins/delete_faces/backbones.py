"""Embedders by name: building them, the input that they were trained with, and their weights files."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.ops.misc import Conv2dNormActivation

from delete_images.arguments import read_arguments
from delete_images.models.architectures import build
from delete_images.models.architectures.registry import check_arguments, import_and_call, is_import_path
from delete_images.models.model_file import Preprocessing, batch_counters
from delete_tasks.errors import RequestError, require
from delete_tasks.fileio.checkpoint import load_file, load_state, state_dict_of

from .onnx_embedder import OnnxEmbedder, read_onnx

DOWNLOADS = ("vggface2", "casia-webface")  # weights of InceptionResnetV1 that facenet-pytorch offers
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
    """Faces ``(N, 3, 112, 112)`` to embeddings (Chen et al., arXiv 1804.07573, table 1), with keys as in foamliu's files."""

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


@dataclass(frozen=True)
class Backbone:
    """Embedder with a name."""

    build: Callable[..., nn.Module]  # from keyword arguments to a module that maps (N, 3, H, W) to (N, D)
    preprocessing: Preprocessing  # that it was trained with
    framing: str  # see delete_faces.align.frame_face


def _inception_resnet_v1(embedding_size: int = 512, dropout: float = 0.6, normalize: bool = True) -> nn.Module:
    if embedding_size != 512:
        raise RequestError(f"inception_resnet_v1 gives embeddings of 512 numbers, not {embedding_size}")
    network = require("facenet_pytorch", "faces").InceptionResnetV1(pretrained=None, dropout_prob=dropout)
    if not normalize:  # with a classifier behind it, here the identity, it does not scale embeddings to length 1
        network.classify, network.logits = True, nn.Identity()
    return network


ONNX = "onnx"  # backbone of a file; see open_backbone
FACENET = Preprocessing((160, 160), mean=(127.5,) * 3, std=(128.0,) * 3, input_range=(0.0, 255.0))
BACKBONES: dict[str, Backbone] = {
    "mobilefacenet": Backbone(MobileFaceNet, Preprocessing.named("imagenet", 112), "points"),
    "inception_resnet_v1": Backbone(_inception_resnet_v1, FACENET, "box"),
    ONNX: Backbone(OnnxEmbedder, Preprocessing.named("half", 112), "points"),
}
OTHER = Backbone(nn.Identity, Preprocessing.named("imagenet", 112), "points")  # defaults of all other networks


def backbone_defaults(name: str) -> Backbone:
    """Look up a backbone's defaults; for other networks, 112x112 pixels with ImageNet's mean and std."""
    return BACKBONES.get(name, OTHER)


def build_backbone(
    name: str, embedding_size: int | None = None, arguments: Mapping[str, Any] | None = None, allow_import: bool = False
) -> nn.Module:
    """Build an embedder with random weights; refuse unknown names or arguments, and an import path without ``allow_import``. A
    name is 'mobilefacenet', 'inception_resnet_v1', an architecture of :func:`delete_images.models.architectures.build` (whose
    last layer then gives the embedding), or an import path ``package.module:Class``. The embedding size D is the backbone's
    default, or 128, if None, and is not passed on to an import path. ``arguments`` are JSON values."""
    given = dict(arguments or {})
    if is_import_path(name):
        if not allow_import:
            raise RequestError(
                f"the backbone '{name}' is an import path, whose code would run; if you trust it, pass --allow-import"
            )
        return import_and_call(name, given)
    if embedding_size is not None:
        given["embedding_size"] = embedding_size
    if name in BACKBONES:
        check_arguments(f"backbone '{name}'", BACKBONES[name].build, given)
        return BACKBONES[name].build(**given)
    size = given.pop("embedding_size", 128)
    try:
        return build(name, num_classes=size, **given)
    except RequestError as error:
        raise RequestError(f"{error}. Backbones of their own: {', '.join(BACKBONES)}") from error


def open_backbone(options: Mapping[str, Any], **defaults: Any) -> tuple[nn.Module, str, dict[str, Any], Backbone]:
    """Build the embedder of a command's options with random weights, or read an .onnx, ``--weights``. Return it, its name and
    arguments for a model.json, and its defaults, with the file's input size. ``--arguments`` override ``defaults``."""
    name, arguments, weights = options["backbone"], read_arguments(options["arguments"]), str(options["weights"])
    if not weights.endswith(".onnx"):
        arguments = {**defaults, **arguments}
        embedder = build_backbone(name, options["embedding_size"], arguments, allow_import=options["allow_import"])
        default = backbone_defaults(name)
        images = default.preprocessing
    else:
        if options["embedding_size"] is not None or arguments:
            raise RequestError(f"'{weights}' is a whole embedder; leave out --embedding-size and --arguments")
        read, size = read_onnx(weights)
        default = backbone_defaults(ONNX if name == "mobilefacenet" else name)
        images = structs.replace(default.preprocessing, size=size)
        embedder, name, arguments = read, ONNX, read.arguments
    if options["normalization"] is not None:
        images = Preprocessing.named(options["normalization"], images.size)
    return embedder, name, arguments, replace(default, preprocessing=images)


def load_backbone_weights(model: nn.Module, name: str, weights: str | Path) -> None:
    """Load an embedder's weights strictly from the file of a state dict or, for inception_resnet_v1, from 'vggface2' or
    'casia-webface', which facenet-pytorch downloads into PyTorch's cache; refuse a download that fails."""
    if name == "inception_resnet_v1" and str(weights) in DOWNLOADS and not os.path.exists(weights):
        try:
            state = require("facenet_pytorch", "faces").InceptionResnetV1(pretrained=str(weights)).state_dict()
        except OSError as error:
            raise RequestError(
                f"the weights '{weights}' cannot be downloaded ({error}); give the path of a file: --weights FILE"
            ) from error
    else:
        state = state_dict_of(load_file(weights), f"'{weights}'")
    if name == "inception_resnet_v1":
        # The published files hold the classifier over the people that they were trained on.
        state = {key: value for key, value in state.items() if not key.startswith("logits.")}
    load_state(model, {**batch_counters(model.state_dict()), **state}, f"'{weights}'")
