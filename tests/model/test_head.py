"""Last layer after unlearning: no template of the class, which is never predicted; the same other predictions."""

import pytest
import torch
from torch import nn

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.evaluation.functional import expected_calibration_error, negative_log_likelihood
from delete_tasks.model.head import MARGIN, check_linear, match_scale, neutralise_rows, scale_rows

REMOVED, RETAINED = [1, 4], [0, 2, 3]
SIDE = {"conv": 1, "wide conv": 3}


def layer_of(kind: str, bias: bool, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(6, 5, bias) if kind == "linear" else nn.Conv2d(6, 5, SIDE[kind], bias=bias)
    layer.weight.data *= 5
    layer.weight.data[4] = -layer.weight.data[:4].sum(0)  # as after training
    return layer.to(dtype)


def inputs(kind: str) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(400, 6).double() if kind == "linear" else torch.randn(4, 6, 10, 10).double()


@pytest.mark.parametrize("kind", ["linear", *SIDE])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("centre", [True, False])
def test_class_weights_are_replaced(kind, bias, centre):
    layer, x = layer_of(kind, bias), inputs(kind)
    weight, before = layer.weight.detach().clone(), layer(x)
    neutralise_rows(layer, REMOVED, centre=centre)
    after = layer(x)
    assert torch.allclose(*(logits[:, RETAINED].softmax(1) for logits in (before, after)), atol=1e-12)
    assert not torch.isin(after.argmax(1), torch.tensor(REMOVED)).any()
    probability = after.softmax(1)[:, REMOVED].amax().item()
    bound = (torch.exp(torch.tensor(-MARGIN)) if bias else 1.0) / len(RETAINED)
    assert 0 < probability <= bound
    template = layer.weight[REMOVED].flatten(1)
    if centre:
        assert not template.any()
        assert layer.weight[RETAINED].sum(0).abs().max() < 1e-12  # the others' sum, which was minus the template
    else:
        assert torch.allclose(template, layer.weight[RETAINED].flatten(1).mean(0).expand_as(template))
        assert torch.equal(layer.weight[RETAINED], weight[RETAINED])


def test_half_precision_and_scale():
    layer = layer_of("linear", True, torch.float16)
    neutralise_rows(layer, REMOVED)
    assert layer.bias[REMOVED].tolist() == [-MARGIN] * 2
    before = layer.weight.detach().clone()
    scale_rows(layer, 0.5, but=REMOVED)
    assert torch.equal(layer.weight[RETAINED], before[RETAINED] * 0.5) and layer.bias[REMOVED].tolist() == [-MARGIN] * 2


OTHERS = {
    "transposed": nn.ConvTranspose2d(6, 5, 3),
    "groups": nn.Conv2d(5, 5, 1, groups=5),
    "bilinear": nn.Bilinear(6, 6, 5),
    "parametrized": nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_are_refused_with_an_alternative(name):
    with pytest.raises(UnsupportedModelError, match=r"'fc' .*keep_row=True"):
        check_linear(OTHERS[name], "fc")


def test_every_class_removed():
    with pytest.raises(ValueError, match="all"):
        neutralise_rows(nn.Linear(2, 3), [0, 1, 2])


def test_calibration_error_against_a_count_by_hand():
    """An independent reference, bin by bin."""
    torch.manual_seed(2)
    logits, labels = torch.randn(300, 4) * 2, torch.randint(0, 4, (300,))
    right, confidence = logits.argmax(1) == labels, logits.softmax(1).max(1).values
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        expected += abs(float((right[inside].double() - confidence[inside].double()).sum())) / 300
    assert expected_calibration_error(logits, labels) == pytest.approx(100 * expected, abs=1e-4)
    sure = torch.tensor([[50.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, -torch.inf]])
    assert expected_calibration_error(sure, torch.tensor([0, 0, 1, 1])) == pytest.approx(25.0)
    assert negative_log_likelihood(torch.zeros(3, 4), torch.tensor([0, 1, 2])) == pytest.approx(1.386294)


@pytest.mark.parametrize("factor", [0.05, 0.25, 1.0, 4.0])
def test_the_scale_is_found(factor):
    torch.manual_seed(3)
    teacher = torch.randn(200, 6) * 3
    weight = torch.rand(200)
    student = teacher / factor + torch.randn(200, 1)  # softmax ignores a constant
    assert match_scale(student, teacher, weight) == pytest.approx(factor, rel=1e-4)
    # Samples with different predictions and samples of weight 0 do not count.
    wrong = torch.roll(student[:50], 1, 1)
    mixed = (torch.cat(pair) for pair in ((student, wrong), (teacher, teacher[:50]), (weight, weight[:50])))
    assert match_scale(*mixed) == pytest.approx(factor, rel=0.05)
    assert match_scale(student, teacher, torch.zeros(200)) is None
    assert match_scale(-teacher, teacher) is None
