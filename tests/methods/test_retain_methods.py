"""Methods with a retain set: their losses, the weights that they leave unchanged, and forgetting."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import same_tensors
from torch import nn

from delete_tasks.errors import RequestError
from delete_tasks.methods.bad_teacher import BadTeacher, untrained
from delete_tasks.methods.salun import SalUn
from delete_tasks.methods.scrub import SCRUB, distillation
from delete_tasks.model.loss_point import LossInputs

KINDS = (SalUn, BadTeacher, SCRUB)


@pytest.mark.parametrize("kind", KINDS)
def test_a_retain_set_is_needed(kind, batch):
    student, teacher, inputs = batch()
    method = kind(classes=[2])
    method.ids, method._outputs = [2], iter([teacher])
    with pytest.raises(RequestError, match=f"{kind.__name__} .*--retain"):
        method.location_loss(student, teacher, LossInputs([student], [1.0], labels=inputs.labels), None)


def test_scrub_takes_turns(batch):
    student, teacher, inputs = batch()
    method = SCRUB(classes=[2], alpha=0.5, gamma=2.0, temperature=3.0)
    method.ids, method._turns = [2], 1.0
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    log_q, p = (student / 3).log_softmax(1), (teacher / 3).softmax(1)
    divergence = 9 * (p * (p.log() - log_q)).sum(1)
    assert weight == 4 and torch.allclose(total, -divergence[4:].sum(), atol=1e-5)
    method.step = 1
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    crossed = F.cross_entropy(student[:4], inputs.labels[:4], reduction="sum")
    assert weight == 4 and torch.allclose(total, 0.5 * divergence[:4].sum() + 2 * crossed, atol=1e-5)


def test_bad_teacher_teaches_each_set_by_its_own_teacher(batch):
    student, teacher, inputs = batch()
    bad = torch.randn(8, 4)
    method = BadTeacher(classes=[2])
    method.ids, method._outputs = [2], iter([bad])
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    wanted = distillation(student[:4], teacher[:4]).sum() + distillation(student[4:], bad[4:]).sum()
    assert weight == 8 and torch.allclose(total, wanted, atol=1e-5)


def test_an_untrained_copy_is_reproducible_and_leaves_the_original(trained):
    before = copy.deepcopy(trained.state_dict())
    first, again = untrained(trained, 5), untrained(trained, 5)
    assert same_tensors(first.state_dict(), again.state_dict()) and same_tensors(before, trained.state_dict())
    assert not torch.equal(first[0].weight, trained[0].weight) and not first[1].running_mean.any()


@pytest.mark.parametrize(("method", "most", "least"), [("BadTeacher", 60, 85), ("SCRUB", 10, 90)])
def test_it_forgets(method, most, least, forget, accuracy):
    forgotten, others = accuracy(forget(method, steps=60, lr=1e-2))
    assert forgotten < most and others > least


def test_salun_trains_the_salient_weights_alone(forget, accuracy, trained):
    model = forget("SalUn", steps=60, saliency_steps=4, share=0.5, optimizer={"type": "SGD", "lr": 0.2})
    forgotten, others = accuracy(model)
    assert forgotten < 20 and others > 85
    before, after = (nn.utils.parameters_to_vector(network.parameters()) for network in (trained, model))
    assert 0.5 * len(before) - 1 <= (before == after).sum() < len(before)
    with pytest.raises(RequestError, match=r"SalUn .* 20 steps, and steps is 20; .*unlearn\.saliency_steps"):
        forget("SalUn", steps=20)
