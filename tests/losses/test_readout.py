"""Linear readout: scikit-learn's ridge regression as the reference, gradients, edge cases and two processes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from delete_tasks.losses import linear_readout


def places(seed=0, shape=(2, 6, 5, 7)):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(shape, generator=generator)
    noise = torch.randn(features[:, 0].shape, generator=generator)
    return features, (0.7 * features[:, 1] - 0.2 * features[:, 4] + 0.5 * noise).sigmoid()


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_r_squared_of_a_ridge_regression(weighted):
    features, mass = places()
    weight = torch.rand(mass.shape) if weighted else None
    x, y = features.movedim(1, -1).flatten(0, -2).double().numpy(), mass.flatten().double().numpy()
    share = np.ones_like(y) if weight is None else weight.flatten().double().numpy()
    share = share / share.sum()
    variance = (share[:, None] * (x - share @ x) ** 2).sum(0).mean()
    fitted = Ridge(alpha=1e-3 * variance).fit(x, y, sample_weight=share)
    centred = x - share @ x
    expected = (share * (centred @ fitted.coef_) * (y - share @ y)).sum() / (share * (y - share @ y) ** 2).sum()
    assert linear_readout(features, mass, weight).item() == pytest.approx(expected, rel=1e-4)


def test_gradient_and_scale():
    features, mass = places(1, (2, 5, 4))
    features = features.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: linear_readout(x, mass, ridge=0.0), features)
    assert linear_readout(features * 1e3, mass).item() == pytest.approx(linear_readout(features, mass).item(), rel=1e-4)


def test_constant_mass_gives_zero_with_a_gradient():
    features, mass = places()
    features.requires_grad_()
    for arguments in ((torch.ones_like(mass), None), (mass, torch.zeros_like(mass))):
        value = linear_readout(features, *arguments)
        value.backward()
        assert value.item() == 0 and not features.grad.any()


def test_a_weight_of_zero_leaves_a_place_out():
    features, mass = places()
    weight = torch.ones_like(mass)
    weight[1] = 0
    alone = linear_readout(features[:1], mass[:1]).item()
    assert linear_readout(features, mass, weight).item() == pytest.approx(alone, rel=1e-5)


def test_half_precision_sums_in_full():
    features, mass = places(3, (2, 6, 40, 40))
    whole = linear_readout(features, mass).item()
    assert linear_readout((features + 3).bfloat16(), mass.bfloat16()).item() == pytest.approx(whole, abs=2e-2)


def test_parts_of_the_places_add_up_to_the_whole():
    """Two threads as two processes with half of the samples each: one value, and the whole gradient in parts."""
    features, mass = places(4, (4, 6, 5, 7))
    whole = features.clone().requires_grad_()
    value = linear_readout(whole, mass)
    value.backward()
    barrier, posted = threading.Barrier(2), {}

    def run(rank):
        def total(own):
            posted[rank] = own
            barrier.wait(timeout=60)
            both = posted[0] + posted[1]
            barrier.wait(timeout=60)
            return both

        half = features[2 * rank : 2 * rank + 2].clone().requires_grad_()
        mine = linear_readout(half, mass[2 * rank : 2 * rank + 2], total=total)
        mine.backward()
        return mine.item(), half.grad

    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(run, (0, 1)))
    assert [part for part, _ in parts] == pytest.approx([value.item()] * 2, rel=1e-5)
    torch.testing.assert_close(torch.cat([grad for _, grad in parts]), whole.grad, rtol=1e-4, atol=1e-7)


def test_sizes_that_do_not_match():
    features, mass = places()
    with pytest.raises(ValueError, match="mass"):
        linear_readout(features, mass[:, :3])
