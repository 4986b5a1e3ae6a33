"""The retention guard: a run whose rate is too high begins again at a lower one, and says so."""

import pytest
import torch
from torch import nn

from delete_tasks import erase
from delete_tasks.methods.guard import LEAST, WINDOW, RetentionGuard
from delete_tasks.runner.done import sentences

SURE = torch.tensor([0.0, 6.0, 0.0])  # of class 1


def test_only_sure_predictions_of_remaining_classes_count():
    guard = RetentionGuard()
    teacher = torch.stack([SURE, SURE, SURE.roll(-1), SURE / 10])  # sure of 1, 1 and 0; unsure
    student = torch.stack([SURE, SURE.roll(1), SURE, SURE])
    for _ in range(WINDOW):
        guard.compare(student.repeat(LEAST, 1), teacher.repeat(LEAST, 1), ids=[0])
        agreement = guard.end_step()
    assert agreement == 0.5


def test_too_few_locations_say_nothing():
    guard = RetentionGuard()
    for _ in range(2 * WINDOW):
        guard.compare(SURE[None], SURE[None], ids=[1])
        assert guard.end_step() is None


def test_maps_are_compared_at_every_fourth_place():
    guard = RetentionGuard()
    teacher = SURE[None, :, None, None].expand(1, 3, 40, 40).clone()
    student = teacher.clone()
    student[:, :, 1::4] = SURE.roll(1)[None, :, None, None]  # rows that are not looked at
    for _ in range(WINDOW):
        guard.compare(student, teacher, ids=[0])
        agreement = guard.end_step()
    assert agreement == 1.0


@pytest.fixture(scope="module")
def trained():
    """Return a small network that tells four directions, and samples that show all of them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    labels = torch.arange(4).repeat(100)
    samples = torch.randn(400, 8) + 4 * torch.eye(8)[labels]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(samples), labels).backward()
        optimizer.step()
    return network, samples, labels


def erased(trained, lr, **options):
    network, samples, labels = trained
    others = torch.utils.data.TensorDataset(samples[labels != 0], labels[labels != 0])
    result = erase(network, samples[labels == 0], [0], retain=others, lr=lr, steps=60, batch_size=32, **options)
    kept = (result.model(samples).argmax(1) == labels)[labels != 0].float().mean().item()
    return kept, result.figures


def test_a_rate_that_is_far_too_high_is_lowered_and_said(trained, publish_anyway):
    kept, figures = erased(trained, 100.0, guard=0.8)
    restarts = figures["done"]["changes"][0]["restarts"]
    assert kept > 0.95
    rates = [100.0 / 3**n for n in range(1, len(restarts) + 1)]
    assert [restart["rate"] for restart in restarts] == pytest.approx(rates)
    assert "the weights were set back and the rate lowered to 33" in " ".join(sentences(figures["done"]))


def test_a_sane_rate_is_left_alone(trained):
    kept, figures = erased(trained, 3e-2, guard=0.8)
    assert kept > 0.95 and "restarts" not in figures["done"]["changes"][0]
