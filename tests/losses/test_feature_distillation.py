"""Feature distillation: a value by hand, weights of 0, and sizes."""

import pytest
import torch

from delete_tasks.losses import feature_distillation

TEACHER = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])  # of variance 2.5 around 0
MOVES = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [3.0, 4.0]])  # squared lengths 1, 4, 0, 25
WEIGHT = torch.tensor([1.0, 0.5, 1.0, 0.0])


def test_a_value_by_hand():
    value = feature_distillation(TEACHER + MOVES, TEACHER, WEIGHT)
    assert value.item() == pytest.approx((1 + 0.5 * 4) / (2.5 * 2.5))
    assert feature_distillation(TEACHER, TEACHER, WEIGHT) == 0
    # The features' scale does not change it.
    assert feature_distillation(7 * (TEACHER + MOVES), 7 * TEACHER, WEIGHT).item() == pytest.approx(value.item())


def test_samples_of_weight_0_may_move():
    features, teacher = (TEACHER + MOVES).requires_grad_(), TEACHER.clone().requires_grad_()
    feature_distillation(features, teacher, WEIGHT).backward()
    assert features.grad[:2].any(1).all() and not features.grad[3].any()
    assert teacher.grad is None


def test_all_weights_zero_give_zero_with_a_gradient():
    features = (TEACHER + MOVES).requires_grad_()
    found = feature_distillation(features, TEACHER, torch.zeros(4))
    found.backward()
    assert found == 0 and not features.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_low_precision_is_summed_in_float32(dtype):
    found = feature_distillation((TEACHER + MOVES).to(dtype), TEACHER.to(dtype), WEIGHT)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.item() == pytest.approx(0.48)


@pytest.mark.parametrize("sizes", [((4, 2), (4, 3), (4,)), ((4, 2), (4, 2), (3,)), ((4, 2, 1), (4, 2, 1), (4,))])
def test_sizes_that_do_not_match_are_refused(sizes):
    with pytest.raises(ValueError, match=r"got \(4, 2"):
        feature_distillation(*map(torch.zeros, sizes))
