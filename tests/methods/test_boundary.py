"""Boundary unlearning: target classes, and accuracy afterwards."""

import pytest
import torch
import torch.nn.functional as F

from delete_tasks.errors import RequestError
from delete_tasks.methods.adversarial import within
from delete_tasks.methods.boundary_expand import BoundaryExpand
from delete_tasks.methods.boundary_shrink import BoundaryShrink

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


def test_expand_moves_the_class_into_a_shadow_class_that_is_removed(forget, accuracy, trained):
    model = forget("BoundaryExpand", steps=100, optimizer=SGD)
    forgotten, others = accuracy(model)
    assert forgotten < 30 and others > 60
    shapes, before = ({name: x.shape for name, x in net.state_dict().items()} for net in (model, trained))
    assert shapes == before, "the shadow class is no part of the model"


@pytest.mark.parametrize("shape", [(), (4, 6)])
def test_expand_loss_has_one_more_class(batch, shape):
    student, _, inputs = batch(*shape)
    method = BoundaryExpand(classes=[2])
    method.ids = [2]
    torch.manual_seed(0)
    method.row = torch.nn.Parameter(torch.randn(9))
    features = torch.randn(8, 8, *(n // 2 for n in shape))
    method._features = features
    total, _, weight = method.location_loss(student, None, inputs, None)
    shadow = torch.einsum("nd...,d->n...", features, method.row[:-1])[:, None] + method.row[-1]
    if shape:
        shadow = F.interpolate(shadow, shape, mode="bilinear")
    widened = torch.cat([student, shadow], 1)[4:]
    wanted = F.cross_entropy(widened, torch.full((4, *shape), 4), reduction="sum")
    assert torch.allclose(total, wanted, atol=1e-4) and weight == wanted.new_tensor(4.0 * max(1, (shape and 24) or 1))
    nothing = method.location_loss(student, None, inputs, None)[0]  # a head without these features
    assert nothing == 0 and nothing.requires_grad


def test_within_keeps_each_channels_range():
    like = torch.tensor([[[0.0, 1.0]], [[0.5, 0.2]]])
    assert within(like + 5, like).tolist() == [[[1.0, 1.0]], [[1.0, 1.0]]]
    assert within(like - 5, like).tolist() == [[[0.0, 0.0]], [[0.0, 0.0]]]
