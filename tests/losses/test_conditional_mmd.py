"""Conditional MMD: a plain sum over pairs as the reference, gradients, and sets that are alike or apart."""

import pytest
import torch

from delete_tasks.losses import conditional_mmd


def samples(seed=0, n=24, d=5, classes=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=generator, dtype=dtype)
    target = torch.randn(n, classes, generator=generator, dtype=dtype).mul(2).softmax(1)
    return features, target, torch.rand(n, generator=generator, dtype=dtype)


def median_of(x):
    """Median squared distance of two different samples."""
    return ((x.unsqueeze(1) - x) ** 2).sum(2)[~torch.eye(len(x), dtype=torch.bool)].median()


def reference(x, p, f, o, median, widths=(0.25, 1.0, 4.0)):
    """Means over pairs of different samples, with kernels of constant bandwidth."""
    different = 1 - torch.eye(len(x), dtype=torch.float64)
    squares = ((x.unsqueeze(1) - x) ** 2).sum(2)
    kernel = sum(torch.exp(-squares / (w * median)) for w in widths) / len(widths) * different
    a, b = f.unsqueeze(1) * p, o.unsqueeze(1) * p
    share = a.sum(0) * b.sum(0) / (a.sum(0) + b.sum(0))

    def mean(u, v):
        return torch.einsum("ic,ij,jc->c", u, kernel, v) / torch.einsum("ic,ij,jc->c", u, different, v)

    return ((mean(a, a) + mean(b, b) - 2 * mean(a, b)) * share).sum() / share.sum()


@pytest.mark.parametrize("given", [False, True])
def test_it_is_the_mean_over_pairs_of_different_samples(given):
    x, p, f = samples(dtype=torch.float64)
    o = (1 - f) * (torch.arange(24) % 3 > 0) if given else 1 - f
    value = conditional_mmd(x, p, f, o if given else None, bandwidths=(0.5, 2.0))
    assert value.item() == pytest.approx(reference(x, p, f, o, median_of(x), (0.5, 2.0)).item(), rel=1e-9)


def test_it_is_unbiased_for_few_samples():
    """For two samples of one distribution and any sizes the mean over draws is 0."""
    generator = torch.Generator().manual_seed(0)
    sides, target = torch.tensor([1.0] * 4 + [0.0] * 60), torch.ones(64, 1)
    values = torch.stack([conditional_mmd(torch.randn(64, 4, generator=generator), target, sides) for _ in range(300)])
    assert abs(values.mean()) < 4 * values.std() / 300**0.5 and values.std() > 0.01


def test_only_samples_of_different_kinds_give_more_than_zero():
    x, p, _ = samples()
    sides = torch.cat([torch.ones(24), torch.zeros(24)])
    twice, targets = torch.cat([x, x]), torch.cat([p, p])
    assert -0.2 < conditional_mmd(twice, targets, sides).item() <= 0
    twice[:24] += 3
    assert conditional_mmd(twice, targets, sides) > 0.3


def test_samples_of_other_targets_are_not_compared():
    """Two separate classes: 0 within each for any shares, but not if the targets are exchanged."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(300) % 3 // 2, torch.arange(300) % 3 // 2 ^ 1])  # a third, and two thirds
    x = torch.randn(600, 4, generator=generator) + 6 * labels.unsqueeze(1)
    sides, target = torch.cat([torch.ones(300), torch.zeros(300)]), torch.nn.functional.one_hot(labels, 2).float()
    assert conditional_mmd(x, target, sides) < 0.02
    assert conditional_mmd(x, torch.ones(600, 1), sides) > 0.05  # the sides differ in their shares
    exchanged = torch.where(sides.bool().unsqueeze(1), target, target.flip(1))
    assert conditional_mmd(x, exchanged, sides) > 0.5


def test_a_class_that_one_side_lacks_has_no_weight():
    x, p, f = samples()
    target = torch.cat([p, torch.zeros(24, 1)], 1)
    more = torch.cat([target, torch.tensor([[0.0, 0.0, 0.0, 1.0]])])
    value = conditional_mmd(torch.cat([x, x.mean(0, keepdim=True)]), more, torch.cat([f, torch.ones(1)]))
    assert value.item() == pytest.approx(conditional_mmd(x, target, f).item(), rel=0.1)


@pytest.mark.parametrize("side", [0.0, 1.0])
def test_one_side_alone_is_zero_with_a_gradient(side):
    x, p, _ = samples()
    x.requires_grad_()
    value = conditional_mmd(x, p, torch.full((24,), side))
    value.backward()
    assert value.item() == 0 and not x.grad.any()


def test_gradient():
    """The gradient is that of the kernels with a constant bandwidth."""
    x, p, f = samples(1, 7, 3, dtype=torch.float64)
    x.requires_grad_()
    conditional_mmd(x, p, f).backward()
    again, median = x.detach().clone().requires_grad_(), median_of(x.detach())
    assert torch.autograd.gradcheck(lambda rows: reference(rows, p, f, 1 - f, median), again)
    torch.testing.assert_close(x.grad, torch.autograd.grad(reference(again, p, f, 1 - f, median), again)[0])


def test_half_precision_sums_in_full():
    x, p, f = samples(3, 200)
    whole = conditional_mmd(x, p, f).item()
    assert conditional_mmd(x.bfloat16(), p, f).item() == pytest.approx(whole, rel=5e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert conditional_mmd(x, p, f).item() == pytest.approx(whole, rel=1e-5)


def test_sizes_that_do_not_match():
    x, p, f = samples()
    with pytest.raises(ValueError, match=r"\(24, 5\), \(24, 3\), \(3,\), \(3,\)"):
        conditional_mmd(x, p, f[:3])


def test_whitening_weighs_all_directions_alike():
    """Sides that differ in a direction of little variance; invertible maps of the features change nothing."""
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(400, 6, generator=generator).double(), torch.ones(400, 1)
    sides = (torch.arange(400) < 200).float()
    x[:, 0] = 0.01 * (x[:, 0] + 3 * sides)
    plain, white = (conditional_mmd(x, target, sides, whiten=shrinkage) for shrinkage in (None, 1e-9))
    assert plain < 0.01 and white > 0.1
    turned = x @ torch.randn(6, 6, generator=generator).double()
    assert conditional_mmd(turned, target, sides, whiten=1e-9).item() == pytest.approx(white.item(), rel=0.02)
    shrunk = conditional_mmd(x, target, sides, whiten=1.0)
    assert plain < shrunk < white
    few = x[:4].clone().requires_grad_(True)  # fewer samples than directions
    conditional_mmd(few, target[:4], torch.tensor([1.0, 0, 1, 0]), whiten=0.1).backward()
    assert few.grad.isfinite().all() and few.grad.any()
    constant = conditional_mmd(torch.ones(8, 6), target[:8], (torch.arange(8) < 4).float(), whiten=0.1)
    assert constant.isfinite()
    for value in (torch.nan, 1e200):  # as after a step that was much too large: the run then says so
        assert conditional_mmd(value * x, target, sides, whiten=0.1).isnan()
