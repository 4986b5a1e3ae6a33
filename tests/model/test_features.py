"""Layers and stages found in registered and in other architectures."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import same_tensors
from torch import nn
from toys import Stages

from delete_images.models.architectures import build, classifier_of
from delete_images.models.architectures.registry import ARCHITECTURES
from delete_tasks.attention import find_layer, raw_map
from delete_tasks.model.features import find_stages

# Expected layer, side of its map, and side of the input.
EXPECTED = {"cifar_resnet20": ("layer3", 8, 32), "wrn16_1": ("bn1", 8, 32), "ibau_vgg": ("features.21", 8, 32),
            "resnet18": ("layer4", 2, 64), "vgg11": ("features.19", 4, 64), "mobilenet_v2": ("features", 2, 64),
            "densenet121": ("features", 2, 64), "efficientnet_b0": ("features", 2, 64),
            "convnext_tiny": ("features", 2, 64), "squeezenet1_1": ("features", 3, 64),
            "vit_b_32": ("encoder.layers.encoder_layer_11.ln_1", 2, 64), "swin_t": ("permute", 2, 64)}  # fmt: skip
SMALL = {"vit_b_32": dict(image_size=64)}


def logits_of(model, inputs):
    return model(inputs)


def _look(model, size):
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, size, size)
    classifier: Any = classifier_of(model, 5).module
    torch.nn.init.normal_(classifier.weight)  # torchvision's ViT begins with zeros, which give no gradient
    layer = find_layer(model, inputs, classifier, logits_of)
    found, _ = raw_map(model, logits_of, layer, inputs, 3)
    assert np.isfinite(found).all() and found.any() and found.shape == layer.size
    return layer


@pytest.mark.parametrize("name", EXPECTED)
def test_the_expected_layer(name):
    torch.manual_seed(0)
    where, side, size = EXPECTED[name]
    layer = _look(build(name, num_classes=5, **SMALL.get(name, {})), size)
    assert layer.name == where and layer.size == (side, side)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(EXPECTED) - {"wide_resnet", "face_network", "yolox"}))
def test_every_registered_architecture(name):
    torch.manual_seed(0)
    assert _look(build(name, num_classes=5, **SMALL.get(name, {})), 32).size >= (2, 2)


def test_stages_are_the_last_map_of_each_size():
    model = Stages()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = find_stages(model, torch.randn(1, 3, 16, 16), model.fc, logits_of)
    assert [(layer.name, layer.size) for layer in found] == [("one", (8, 8)), ("two", (4, 4)), ("three", (2, 2))]
    assert same_tensors(model.state_dict(), before)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert find_stages(flat, torch.randn(1, 3, 2, 2), flat[1], logits_of) == []
