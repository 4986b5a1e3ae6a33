"""Methods without a retain set: their losses and locations, and the parameters that they train."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import delete_tasks
from delete_tasks.errors import RequestError, UnsupportedModelError
from delete_tasks.losses import linear_readout
from delete_tasks.methods.delete import DELETE
from delete_tasks.methods.head_only import HeadOnly
from delete_tasks.methods.negative_gradient import NegativeGradient
from delete_tasks.methods.random_label import RandomLabel
from delete_tasks.model.loss_point import LossInputs
from delete_tasks.runner.recipe import split_options

FORGOTTEN = [1, 3]
VOID = 255


def ready(method):
    method.ids = FORGOTTEN
    return method


def loss_of(method, logits, labels=None, weight=None, **inputs):
    """Loss of a method without a teacher: sum over locations, and sum of weights."""
    total, _, count = method.location_loss(logits, None, LossInputs([logits], [1.0], labels=labels, **inputs), weight)
    return total, count


@pytest.fixture
def pixels():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, 6, requires_grad=True)
    labels = torch.randint(0, 5, (2, 4, 6))
    labels[0, 0] = VOID
    return logits, labels


@pytest.mark.parametrize("kind", [RandomLabel, NegativeGradient])
def test_only_forgotten_locations_count(kind, pixels):
    """Not those of void, clean samples and padding; labels are needed."""
    logits, labels = pixels
    method = ready(kind(classes=FORGOTTEN))
    forgotten = (labels == 1) | (labels == 3)
    assert loss_of(method, logits, labels)[1] == forgotten.sum()
    clean = torch.tensor([True, False]).view(2, 1, 1)
    padded = torch.ones_like(labels, dtype=torch.float32)
    padded[:, :, 3:] = 0
    total, weight = loss_of(method, logits, labels, padded, retain=clean)
    total.backward()
    forgotten &= (padded > 0) & ~clean
    assert weight == forgotten.sum() and torch.equal(logits.grad.abs().sum(1) > 0, forgotten)
    with pytest.raises(RequestError, match=f"{kind.__name__} needs labels"):
        loss_of(method, logits)

    total, weight = loss_of(method, logits, torch.zeros_like(labels))  # a batch without forgotten classes
    assert weight == 0 and total == 0 and total.requires_grad


def test_negative_gradient_is_minus_cross_entropy(pixels):
    logits, labels = pixels
    total, _ = loss_of(ready(NegativeGradient(classes=FORGOTTEN)), logits, labels)
    target = torch.where(torch.isin(labels, torch.tensor(FORGOTTEN)), labels, -100)
    assert torch.allclose(total, -F.cross_entropy(logits, target, reduction="sum"))


def test_random_label_draws_every_retained_class_and_no_other():
    logits = torch.zeros(4000, 5, requires_grad=True)
    labels, method = torch.full((4000,), 3), ready(RandomLabel(classes=FORGOTTEN))
    gradients = []
    for _ in range(2):
        torch.manual_seed(7)
        logits.grad = None
        loss_of(method, logits, labels)[0].backward()
        gradients.append(logits.grad.clone())
    assert torch.equal(*gradients)  # random per seed
    target = logits.grad.argmin(1)  # softmax - one-hot
    counts = torch.bincount(target, minlength=5)
    assert counts[FORGOTTEN].sum() == 0
    assert ((counts[[0, 2, 4]] - 4000 / 3).abs() < 150).all()


def test_head_only_changes_the_last_layer_alone(erase, trained):
    erased = erase("HeadOnly", steps=60, batch_size=16)
    for name, value in erased.model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]) != name.startswith("3."), name
    assert all(parameter.requires_grad for parameter in erased.model.parameters())
    assert erased.figures["masked_mass"]["after"] < erased.figures["masked_mass"]["before"] / 3


def test_head_only_refusals(trained):
    with pytest.raises(RequestError, match="norm_eval"):
        HeadOnly(classes=[1], norm_eval=False)
    model = copy.deepcopy(trained)
    model[3].requires_grad_(False)
    with pytest.raises(UnsupportedModelError, match="'3' is frozen"):
        delete_tasks.erase(model, torch.randn(8, 6), classes=[2], method="HeadOnly", steps=1)


@pytest.mark.parametrize("name", ["RandomLabel", "NegativeGradient"])
def test_methods_without_a_teacher(name, erase, trained):
    erased = erase(name, lr=1e-2, steps=30)
    assert erased.figures["masked_mass"]["after"] < erased.figures["masked_mass"]["before"] / 2
    for message, option in {"stop": {"stop": 0.1}, "retain set": {"retain": torch.randn(8, 6)}}.items():
        with pytest.raises(RequestError, match=f"{name} .*{message}"):
            delete_tasks.erase(trained, torch.randn(8, 6), classes=[2], method=name, **option)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(RequestError, match="'Amnesia'") as refusal:
        split_options({"type": "Amnesia"})
    methods = str(refusal.value).rpartition(": ")[2].split(", ")
    assert methods == ["DELETE", *sorted({*methods} - {"DELETE"})]
    assert {"HeadOnly", "NegativeGradient", "RandomLabel"} <= set(methods)


def test_forgetting_only_is_the_forgetting_term_and_clean_samples_still_retain():
    torch.manual_seed(2)
    student, teacher = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    clean = torch.tensor([True, True, False, False, False, False])
    method = ready(DELETE(classes=FORGOTTEN, teacher_temperature=0.5, forgetting_only=True, stop=0.1))
    total, _, _ = method.location_loss(student, teacher, LossInputs([student], [1.0], retain=clean), None)
    (got,) = torch.autograd.grad(total, student)
    log_q, target = student.log_softmax(1), (teacher / 0.5).softmax(1)
    forgetting = -torch.log1p(-log_q.exp()[:, FORGOTTEN].sum(1))
    retention = (target * (target.log() - log_q)).sum(1)
    wanted = torch.where(clean, retention, forgetting).sum()
    assert torch.allclose(total, wanted, atol=1e-5)
    assert torch.allclose(got, torch.autograd.grad(wanted, student)[0], atol=1e-5)
    mass = [logits[~clean].softmax(1)[:, FORGOTTEN].sum(1) for logits in (student, teacher)]
    assert method.pending == pytest.approx([float((mass[0] * mass[1]).sum()), float((mass[1] ** 2).sum())], rel=1e-4)


def test_readout_needs_places_beside_each_other():
    method = ready(DELETE(classes=FORGOTTEN, readout=0.1))
    method._keep_features(nn.Identity(), (torch.randn(6, 8),))
    with pytest.raises(RequestError, match=r"unlearn\.readout .*one place a sample"):
        method.extra_losses(torch.randn(6, 5), LossInputs([], []), None)
    assert method.extra_losses(torch.randn(6, 5), LossInputs([], []), None) == {}, "only one head has the features"
    for kind, value in ((DELETE, -1), (HeadOnly, 0.1)):
        with pytest.raises(RequestError, match=r"unlearn\.readout"):
            kind(classes=FORGOTTEN, readout=value)


def test_readout_is_of_the_teachers_probability_at_the_features_size(pixels):
    logits, _ = pixels
    method = ready(DELETE(classes=FORGOTTEN, readout=0.5))
    features, padded = torch.randn(2, 8, 4, 6), torch.ones(2, 4, 6)
    padded[:, :, 3:] = 0
    method._keep_features(nn.Identity(), (features,))
    teacher = logits.detach()
    mass = teacher.softmax(1)[:, FORGOTTEN].sum(1)
    big = F.interpolate(teacher, scale_factor=3, mode="nearest"), F.interpolate(padded[:, None], scale_factor=3)[:, 0]
    got = method.extra_losses(big[0], LossInputs([], []), big[1])["loss_readout"]
    assert got.item() == pytest.approx(0.5 * linear_readout(features, mass, padded).item(), rel=1e-4)
