"""BoundaryShrink and TREW, whose targets lie among the nearest classes: targets, and accuracy afterwards."""

import pytest
import torch
import torch.nn.functional as F

from delete_tasks.errors import RequestError
from delete_tasks.methods.boundary_shrink import BoundaryShrink, within
from delete_tasks.methods.trew import TREW, class_similarity

SGD = {"type": "SGD", "momentum": 0.9, "lr": 0.05}


def test_shrink_teaches_the_nearest_class(forget, accuracy, trained, blobs):
    inputs, labels = blobs
    gone = inputs[labels == 2]
    probe = gone.clone().requires_grad_(True)
    F.cross_entropy(trained(probe), torch.full((len(gone),), 2)).backward()
    logits = trained(within(gone + 1.0 * probe.grad.sign(), gone)).detach()
    logits[:, 2] = -torch.inf
    nearest = logits.argmax(1)
    model = forget("BoundaryShrink", bound=1.0, steps=60, batch_size=100, optimizer=SGD)
    assert accuracy(model)[0] == 0
    moved = (model(gone).argmax(1) == nearest).float().mean()
    assert moved > 0.8, "samples move across the original's nearest boundary"
    assert len(nearest.unique()) == 2


def test_shrink_loss_is_of_forgotten_locations_alone(batch):
    student, teacher, inputs = batch(3, 2)
    method = BoundaryShrink(classes=[2])
    method.ids = [2]
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    total.backward()
    assert weight == 4 * 6 and not student.grad[:4].any() and student.grad[4:].abs().sum(1).all()
    target = teacher[4:].clone()
    target[:, 2] = -torch.inf
    assert torch.allclose(total, F.cross_entropy(student[4:], target.argmax(1), reduction="sum"))


def test_stop_rule_and_inputs_are_refused(forget):
    with pytest.raises(RequestError, match=r"BoundaryShrink .*steps, not stop"):
        BoundaryShrink(classes=[2], stop=0.1)
    with pytest.raises(RequestError, match=r"BoundaryShrink .*'inputs'"):
        BoundaryShrink(classes=[2])._run_teacher(None, None, ("loss",), {"inputs": torch.ones(2, 3, dtype=torch.int64)})
    with pytest.raises(RequestError, match=r"unlearn\.bound"):
        BoundaryShrink(classes=[2], bound=0)


def test_within_keeps_each_channels_range():
    like = torch.tensor([[[0.0, 1.0]], [[0.5, 0.2]]])
    assert within(like + 5, like).tolist() == [[[1.0, 1.0]], [[1.0, 1.0]]]
    assert within(like - 5, like).tolist() == [[[0.0, 0.0]], [[0.0, 0.0]]]


def test_similarity_is_the_cosine_of_centred_rows():
    weight = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, -2.0]])
    expected = torch.tensor([[1.0, 0.0, -(0.5**0.5)], [0.0, 1.0, -(0.5**0.5)], [-(0.5**0.5), -(0.5**0.5), 1.0]])
    assert torch.allclose(class_similarity(weight), expected, atol=1e-5)


def test_target_is_the_teacher_times_the_tilt(batch):
    student, teacher, inputs = batch()
    method = TREW(classes=[2], beta=3.0)
    method.ids, method.teacher_temperature = [2], 1.0
    similarity = torch.tensor([[0.5, -0.2, 0.0, 0.1]])
    method._tilt = 3.0 * similarity
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    (got,) = torch.autograd.grad(total, student)
    target = teacher.softmax(1)
    target[4:] = target[4:] * torch.exp(3.0 * similarity)
    target[4:, 2] = 0
    target = target / target.sum(1, keepdim=True)
    assert weight == 8 and torch.allclose(got, student.softmax(1).detach() - target, atol=1e-5)


def test_forgets_towards_the_neighbours(forget, accuracy, trained, blobs):
    model = forget("TREW", steps=80, lr=1e-2, beta=2.0)
    forgotten, others = accuracy(model)
    assert forgotten < 10 and others > 80
