"""Last layer of a classifier after a run, for different forms of output."""

import pytest
import torch
from torch import nn

from delete_images.models.classifier import ImageClassifier
from delete_images.models.finish import class_layers_of
from delete_tasks import erase
from delete_tasks.errors import UnsupportedModelError

FAST = dict(classes=[1], steps=60, batch_size=16, lr=1e-2)


class Network(nn.Module):
    """Network of a body, a head of four classes, and a function after the head."""

    def __init__(self, after=lambda logits: logits, bias: bool = True, aux: bool = False, kind=nn.Linear) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
        self.head = kind(16, 4, bias=bias)
        self.aux = nn.Linear(16, 4) if aux else None
        self.wide = nn.Linear(16, 4)  # of the logits' width, and no class output
        self.after = after

    def forward(self, x):
        hidden = self.body(x) + 0 * self.wide(self.body(x)).sum()
        logits = self.after(self.head(hidden))
        return (logits, self.aux(hidden)) if self.aux is not None and self.training else logits


class Cosine(nn.Linear):
    def forward(self, x):
        return 20 * nn.functional.linear(nn.functional.normalize(x), nn.functional.normalize(self.weight))


class Pooled(nn.Module):
    """Network with a head as SqueezeNet: a 1x1 convolution, a ReLU, the mean over the map."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1)
        self.head.bias.data += 2

    def forward(self, x):
        return self.head(self.body(x).relu()).relu().mean((2, 3))


@pytest.mark.parametrize("after", ["nothing", "log-softmax", "temperature"])
@pytest.mark.parametrize("bias", [True, False])
def test_only_the_forgotten_class_changes(after, bias, samples):
    kinds = {"nothing": lambda x: x, "log-softmax": lambda x: x.log_softmax(1), "temperature": lambda x: x / 3}
    model = Network(kinds[after], bias)
    options = {**FAST, "match_scale": False}
    kept_row, replaced = (erase(model, samples, keep_row=keep, **options).model.eval() for keep in (True, False))
    assert kept_row.head.weight[1].any() and not replaced.head.weight[1].any()
    with torch.no_grad():
        one, other = (net(samples)[:, [0, 2, 3]].softmax(1) for net in (kept_row, replaced))
        assert torch.allclose(one, other, atol=1e-5)
        probability = replaced(samples).softmax(1)[:, 1]
    assert (replaced(samples).argmax(1) != 1).all()
    assert probability.max() < (0.02 if bias else 0.34)


@pytest.mark.parametrize("held", [0.0, 1.0])
def test_weights_of_the_others_return_if_their_features_were_held(held, samples):
    model = Network()
    model.wide = nn.Identity()  # the layer whose input is held is the last with as many outputs as classes
    options = {**FAST, "method": "DeepDELETE", "feature_distillation": held, "match_scale": False}
    rows = [net.head.weight[[0, 2, 3]] for net in (model, erase(model, samples, **options).model)]
    before, after = (weight - weight.mean(0) for weight in rows)
    assert torch.allclose(before, after, atol=1e-6) == bool(held)


def test_auxiliary_class_weights_are_removed(samples):
    model = Network(aux=True)
    result = erase(model, samples, **FAST)
    assert result.figures["finished"]["rows_replaced"] == ["head", "aux"]
    assert not result.model.head.weight[1].any() and not result.model.aux.weight[1].any()
    assert torch.allclose(result.model.wide.weight, model.wide.weight, rtol=0.01)
    trained = erase(model, samples, keep_row=True, **{**FAST, "steps": 120}).model
    for name in ("head", "aux"):
        before, after = (getattr(net, name)(net.body(samples)).softmax(1)[:, 1].mean() for net in (model, trained))
        assert after < before / 2, name


def test_a_layer_before_a_relu_is_not_centred(samples):
    model = Pooled()
    images = torch.randn(32, 3, 8, 8)
    options = {**FAST, "match_scale": False, "views": "none"}
    kept_row, replaced = (erase(model, images, keep_row=keep, **options).model for keep in (True, False))
    with torch.no_grad():
        one, other = (net(images)[:, [0, 2, 3]] for net in (kept_row, replaced))
    assert torch.allclose(one, other, atol=1e-5) and torch.equal(kept_row.head.weight[0], replaced.head.weight[0])
    assert (replaced(images).argmax(1) != 1).all()


@pytest.mark.parametrize("parametrized", [False, True])
def test_a_nonlinear_head_needs_keep_row(parametrized, samples):
    model = Network(kind=nn.Linear if parametrized else Cosine, bias=parametrized)
    del model.wide
    model.wide = nn.Identity()
    if parametrized:
        model.head = nn.utils.parametrizations.weight_norm(model.head)
    with pytest.raises(UnsupportedModelError, match=r"keep_row=True"):
        erase(model, samples, **FAST)
    assert erase(model, samples, keep_row=True, **FAST).figures["finished"]["rows_replaced"] == []


@pytest.mark.parametrize("teacher_temperature", [0.25, 1.0])
def test_the_scale_is_the_originals(teacher_temperature, samples):
    """Sharpening increases the logits; the match restores the confidence in the remaining classes."""
    model = Network().eval()
    model.head.weight.data *= 4
    raw = erase(model, samples, teacher_temperature=teacher_temperature, match_scale=False, **{**FAST, "steps": 150})
    matched = erase(model, samples, teacher_temperature=teacher_temperature, **{**FAST, "steps": 150})
    assert raw.figures["finished"]["scale_not_matched"]
    factor = matched.figures["finished"]["scale"]
    remaining = [0, 2, 3]
    rows, raw_rows = (result.model.head.weight[remaining] for result in (matched, raw))
    assert torch.allclose(rows, factor * raw_rows, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        networks = {"original": model, "raw": raw.model.eval(), "matched": matched.model.eval()}
        level = {name: net(samples)[:, remaining].softmax(1).amax(1).mean().item() for name, net in networks.items()}
    gap = {name: abs(level[name] - level["original"]) for name in ("raw", "matched")}
    assert gap["matched"] < 0.06, level
    if teacher_temperature < 1:
        assert factor < 0.7 and gap["raw"] > 2 * gap["matched"], level


def test_the_scale_needs_a_teacher_and_linear_logits_up_to_a_log_softmax(samples):
    figures = erase(Network(), samples, method="NegativeGradient", **FAST).figures
    assert "NegativeGradient" in figures["finished"]["scale_not_matched"]
    assert figures["finished"]["rows_replaced"] == ["head"]
    scaled = erase(Network(lambda x: x.log_softmax(1)), samples, **FAST).figures["finished"]
    assert scaled["scale"] is not None
    bent = erase(Network(lambda x: 3 * torch.tanh(x)), samples, **FAST).figures["finished"]
    assert bent["scale"] is None and "'head'" in bent["scale_not_matched"]


def test_without_a_last_layer_the_class_weights_stay(samples):
    """Two layers have as many outputs as classes, but neither determines the prediction."""
    figures = erase(Network(lambda x: x.flip(1).cumsum(1)), samples, **FAST).figures
    assert figures["finished"]["rows_replaced"] == []
    assert "4 outputs" in figures["finished"]["rows_not_replaced"]


def test_finding_layers():
    model = ImageClassifier(Network(aux=True), num_classes=4)
    inputs = torch.randn(5, 6)
    assert [name for name, _ in class_layers_of(model.eval(), inputs)] == ["head"]
    assert [name for name, _ in class_layers_of(model.train(), inputs)] == ["head", "aux"]
    pooled = ImageClassifier(Pooled(), num_classes=4)
    assert [name for name, _ in class_layers_of(pooled, torch.randn(2, 3, 8, 8))] == ["head"]
    untrained = ImageClassifier(Network(), num_classes=4)
    for layer in (untrained.network.head, untrained.network.wide):  # outputs that are equal by chance say nothing
        nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    assert [name for name, _ in class_layers_of(untrained, inputs)] == ["head"]
