"""Architectures by name: published files load strictly and are as accurate as published; ``images architectures`` lists them."""

import re
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from delete_images.data.opening import open_data
from delete_images.models.architectures import ARCHITECTURES, architecture_names, build, classifier_of, register
from delete_images.models.architectures.registry import torchvision_names
from delete_images.models.class_names import CIFAR10_CLASSES
from delete_images.models.classifier import class_outputs
from delete_images.models.model_file import Preprocessing, import_checkpoint, load_model
from delete_images.opened import predict_images
from delete_tasks.cli import main
from delete_tasks.errors import MissingExtraError, RequestError, UnsupportedModelError

CIFAR_STEM, SMALL = {"stem": "cifar"}, ("cifar_resnet20", "ibau_vgg", "wide_resnet")
PUBLISHED = [  # file, architecture, arguments, normalization, published accuracy in percent
    ("cifar10_resnet20-12fca82f.th", "cifar_resnet20", {}, "imagenet", 91.7),
    ("cifar10_resnet32-d509ac18.th", "cifar_resnet32", {}, "imagenet", 92.6),
    ("cifar10_resnet18_original.pt", "resnet18", CIFAR_STEM, "cifar10", 93.8),
    ("cifar10_resnet18_badnets.pt", "torchvision.resnet18", CIFAR_STEM, "cifar10", 93.3),
    ("nad_wrn16-1_badnet_backdoored.pth", "wrn16_1", {}, "none", 84.4),
    ("nad_wrn16-1_erased.pth", "wrn16_1", {}, "none", 80.5),
    ("nad_wrn16-1_teacher.pth", "wrn16_1", {}, "none", None),
    ("ibau_cifar10_badnets_8_02.pth", "ibau_vgg", {}, "none", 84.0),
    ("ibau_cifar10_trojan_wm_2_02.pth", "ibau_vgg", {}, "none", 85.0),
    ("ibau_cifar10_l0_inv_0_02.pth", "ibau_vgg", {}, "none", 84.5),
]


@pytest.fixture(scope="module")
def test_images(shared):
    data = open_data(f"cifar10:{shared}/data/cifar10?split=test&limit=300&seed=0", classes=CIFAR10_CLASSES)
    return data.subset(np.random.default_rng(0).permutation(300))  # its first 60 show all classes, too


EVERY_TIME = ("resnet20", "resnet18_badnets", "erased", "l0_inv")  # one of each architecture


@pytest.mark.parametrize("row", [
    pytest.param(row, id=row[0], marks=[pytest.mark.long] * (not any(part in row[0] for part in EVERY_TIME)))
    for row in PUBLISHED
])  # fmt: skip
def test_published_network_is_as_accurate_as_published(shared, tmp_path, test_images, row):
    file, name, arguments, normalization, published = row
    pre = Preprocessing.named(normalization, 32)
    folder = import_checkpoint(shared / "weights" / file, tmp_path / "m", name, CIFAR10_CLASSES, pre, arguments)
    model, spec = load_model(folder)
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    if published is None:
        return
    images = test_images.subset(np.arange(60 if name.endswith("resnet18") else 300))
    accuracy = (predict_images(model, spec, images).logits.argmax(1).numpy() == images.labels).mean()
    standard_error = np.sqrt(published / 100 * (1 - published / 100) / len(images))
    assert accuracy == pytest.approx(published / 100, abs=3 * standard_error)


def test_retrained_network_never_predicts_deer(shared, tmp_path, test_images):
    path = shared / "weights" / "cifar10_resnet18_retrained_without_deer.pt"
    pre = Preprocessing.named("cifar10", 32)
    model, spec = load_model(import_checkpoint(path, tmp_path, "resnet18", CIFAR10_CLASSES, pre, CIFAR_STEM))
    few = test_images.subset(np.arange(60))
    predicted = predict_images(model, spec, few).logits.argmax(1).numpy()
    remaining = few.labels != 4
    assert not (predicted == 4).any()
    assert (predicted == few.labels)[remaining].mean() > 0.88


@pytest.mark.parametrize(("name", "arguments", "side", "head", "features"), [
    ("cifar_resnet44", {}, 32, "linear", 64), ("wrn16_1", {}, 32, "fc", 64),
    ("wide_resnet", {"depth": 10, "width": 2}, 32, "fc", 128), ("ibau_vgg", {}, 32, "classifier", 2048),
    ("resnet18", {}, 64, "fc", 512), ("resnet18", {"stem": "cifar"}, 32, "fc", 512),
    ("vgg16_bn", {"stem": "cifar"}, 32, "classifier", 512),
    ("timm:vit_small_patch16_224", {"img_size": 32, "patch_size": 8}, 32, "head", 384),
    ("timm:swin_tiny_patch4_window7_224", {"img_size": 32, "patch_size": 2, "window_size": 4}, 32, "head.fc", 768),
    ("transformers:vit", {"image_size": 32, "hidden_size": 48, "num_attention_heads": 4}, 32, "classifier", 48),
    ("squeezenet1_1", {}, 64, "classifier.1", 512), ("mobilenet_v3_small", {}, 32, "classifier.3", 1024),
])  # fmt: skip
def test_forward_shape_and_head(name, arguments, side, head, features):
    model = build(name, num_classes=7, **arguments)
    with torch.no_grad():
        (logits,) = class_outputs(model(torch.zeros(2, 3, side, side)))
    assert logits.shape == (2, 7)
    layer = classifier_of(model, 7)
    assert (layer.name, *layer.module.weight.shape[:2]) == (head, 7, features)
    assert classifier_of(model).name == head
    assert model.get_submodule(head) is layer.module


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_resnets_have_their_depth(depth):
    model = build(f"cifar_resnet{depth}", num_classes=10)
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()) == depth


def test_option_a_shortcut_subsamples_and_pads_both_ends():
    block = build("cifar_resnet20", num_classes=10).layer2[0].eval()
    nn.init.zeros_(block.bn2.weight)  # the residual branch gives zero, so the block shows its shortcut
    x = torch.rand(1, 16, 4, 4)
    out = block(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any() and not out[:, 24:].any()


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("resnet19", {}, "'resnet19'.* resnet1"), ("cifar_resnet21", {}, "cifar_resnet20"), ("qqqq", {}, "known: "),
    ("resnet18", {"stem": "mnist"}, "imagenet, cifar"), ("densenet121", {"stem": "cifar"}, "densenet121 .*'cifar'"),
    ("resnet18", {"weights": "DEFAULT"}, "weights"), ("resnet18", {"width": 3}, "width"),
    ("cifar_resnet20", {"width": 3}, "width"), ("wide_resnet", {"depth": 17}, "depth 6n \\+ 4"),
    ("cifar_resnet20", {"num_classes": 1}, "2 or more"),
])  # fmt: skip
def test_refusals(name, arguments, message):
    with pytest.raises(RequestError, match=message):
        build(name, **{"num_classes": 10, **arguments})


def test_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="pip install timm"):
        build("timm:resnet18", num_classes=10)
    requested = {}

    def create_model(name, **arguments):
        requested.update(arguments, name=name)
        return nn.Linear(4, arguments["num_classes"])

    fake = types.SimpleNamespace(list_models=lambda: ["vit_tiny"], create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", fake)
    build("timm:vit_tiny", num_classes=5, img_size=32)
    assert requested == {"name": "vit_tiny", "num_classes": 5, "pretrained": False, "img_size": 32}
    with pytest.raises(RequestError, match="'timm:hf-hub:somebody/vit_tiny'"):
        build("timm:hf-hub:somebody/vit_tiny", num_classes=5)
    with pytest.raises(RequestError, match="'checkpoint_path'"):
        build("timm:vit_tiny", num_classes=5, checkpoint_path="evil.pth")


def test_register_adds_a_name_once(monkeypatch):
    monkeypatch.setattr("delete_images.models.architectures.registry.ARCHITECTURES", dict(ARCHITECTURES))
    register("tiny")(lambda num_classes: nn.Linear(2, num_classes))
    assert "tiny" in architecture_names()
    assert build("tiny", num_classes=3).out_features == 3
    with pytest.raises(RequestError, match="taken"):
        register("tiny")(nn.Linear)


def test_classifier_of_finds_any_matrix_shaped_head_or_lists_candidates():
    class CosineHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(5, 8))

    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8), CosineHead())
    assert classifier_of(model, 5).name == "2"
    fully_convolutional = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1))
    assert len(classifier_of(fully_convolutional).module.weight) == 6
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(UnsupportedModelError, match=re.escape("with 5 outputs") + r".*0 \(8 -> 16\), 2 \(16 -> 4\)"):
        classifier_of(model, 5)
    with pytest.raises(UnsupportedModelError, match="none"):
        classifier_of(nn.ReLU())


def test_every_architecture_has_a_line_of_80_characters(capsys):
    assert main(["images", "architectures"]) == 0
    listing, _, footer = capsys.readouterr().out.partition("\n\n")
    lines = [line for line in listing.splitlines() if not line.startswith(" ")]
    assert {line.split()[0] for line in lines} == {"face_network", *ARCHITECTURES, *torchvision_names()}
    for line in lines:
        assert re.fullmatch(r"\S+ +\d+\.\d M", line), line
    assert max(map(len, [*listing.splitlines(), *footer.splitlines()])) <= 80
    assert "timm:NAME" in footer and "package.module:Class" in footer


@pytest.mark.parametrize("name", [*SMALL, "resnet18", "mobilenet_v3_small", "googlenet"])
def test_a_line_has_the_parameters_and_arguments(name, capsys):
    assert main(["images", "architectures", name.upper()]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[0] == name)
    classes = 10 if name in SMALL else 1000
    parameters = sum(p.numel() for p in build(name, num_classes=classes).parameters())
    assert lines[at].split()[1] == f"{parameters / 1e6:.1f}"
    if name == "wide_resnet":
        assert lines[at + 1].strip() == "--arguments: depth, width"
