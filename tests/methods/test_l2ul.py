"""L2UL: attacks, the two kinds of steps, and accuracy afterwards."""

import torch
import torch.nn.functional as F

from delete_tasks.methods.l2ul import L2UL

SGD = {"type": "SGD", "momentum": 0.9, "lr": 0.05}


def test_changes_stay_within_the_radius():
    method, inputs = L2UL(classes=[2]), torch.zeros(5, 3, 4, 4)
    method.step, method.outputs, method.gradient = 1, lambda *_: None, lambda *_: torch.arange(1.0, 241).view_as(inputs)
    for method.attack_steps, length in ((3, 0.3), (10, 0.4)):
        _, changed = method._run_teacher(None, None, (), {"inputs": inputs, "mode": "loss"})
        assert torch.allclose(changed["inputs"].flatten(1).norm(dim=1), torch.full((5,), length))


def test_alternates_between_ascent_and_the_attacks_targets(batch):
    student, teacher, inputs = batch(2, 2)
    method = L2UL(classes=[2])
    method.ids = [2]
    method.left = -1.0  # for any predictions
    total, _, weight = method.location_loss(student, teacher, inputs, None)
    assert weight == 16 and torch.allclose(total, -F.cross_entropy(student[4:], inputs.labels[4:], reduction="sum"))
    method.step, method._targets = 1, torch.tensor([0, 0, 0, 0, 0, 1, 3, 1])
    total, _, _ = method.location_loss(student, teacher, inputs, None)
    targets = method._targets[4:].view(4, 1, 1).expand(4, 2, 2)
    assert torch.allclose(total, F.cross_entropy(student[4:], targets, reduction="sum"))
    method._targets = None
    assert not (method._targets_like(inputs.labels, 4) == 2).any()


def test_it_forgets(forget, accuracy):
    forgotten, others = accuracy(forget("L2UL", steps=200, radius=3.0, attack_size=0.5, optimizer=SGD))
    assert forgotten < 10 and others > 60
