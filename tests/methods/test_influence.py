"""Influence unlearning: the inverse Fisher product, and runs that collect gradients and then move."""

import pytest
import torch
from helpers import same_tensors

from delete_tasks.errors import RequestError
from delete_tasks.methods.influence import InfluenceUnlearning, newton_direction


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e20])
def test_the_direction_is_that_of_the_whole_matrix(size):
    torch.manual_seed(0)
    rows = torch.randn(5, 12, dtype=torch.float64)
    whole = 0.1 * torch.eye(12, dtype=torch.float64) + rows.T @ rows / 5
    found = newton_direction((size * rows).float(), 0.1 * size**2)
    assert torch.allclose(found.double() * size, torch.linalg.solve(whole, rows.mean(0)), atol=1e-5)


def test_it_collects_then_moves_until_the_class_is_forgotten(forget, accuracy, trained):
    model = forget("InfluenceUnlearning", gradients=4, steps=100, first=1e-2, lr=0.5)
    forgotten, others = accuracy(model)
    assert forgotten <= 10 and others > 40
    assert not same_tensors(trained.state_dict(), model.state_dict())


def test_the_collected_gradients_change_nothing(forget, trained):
    model = forget("InfluenceUnlearning", gradients=4, steps=5, first=1e-9)
    for name, value in trained.state_dict().items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name


def test_refusals(forget):
    with pytest.raises(RequestError, match=r"30 steps, and steps is 30; .*unlearn\.gradients"):
        forget("InfluenceUnlearning", steps=30)
    with pytest.raises(RequestError, match=r"unlearn\.growth"):
        InfluenceUnlearning(classes=[1], growth=1)
