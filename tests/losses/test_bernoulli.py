"""masked_bernoulli_kl against the definition in float64."""

import pytest
import torch

from delete_tasks.losses.bernoulli import masked_bernoulli_kl


@pytest.mark.parametrize("places", [(), (7,), (3, 5)])
def test_value_terms_and_gradient_are_those_of_the_definition(places):
    torch.manual_seed(0)
    student = torch.randn(4, 5, *places, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 5, *places, dtype=torch.float64)
    mask = (torch.tensor([False, True, False, True, False]) & (torch.arange(4)[:, None] > 0)).view(
        4, 5, *[1] * len(places)
    )
    weight = torch.rand(4, *places, dtype=torch.float64) * (torch.rand(4, *places) > 0.2)
    p, q = teacher.sigmoid().masked_fill(mask, 0.0), student.sigmoid()
    divergence = p * (p.clamp(min=1e-300).log() - q.log()) + torch.xlogy(1 - p, (1 - p) / (1 - q))
    expected = ((divergence.sum(1) * weight).sum() / weight.sum()).requires_grad_()
    (gradient,) = torch.autograd.grad(expected, student)
    loss, terms = masked_bernoulli_kl(student, teacher, mask, weight=weight, return_terms=True)
    (found,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(found, gradient)
    masked = ((divergence * mask).sum(1) * weight).sum() / weight.sum()
    torch.testing.assert_close(terms.forgetting, masked.detach())
    torch.testing.assert_close(terms.forgetting + terms.retention, expected.detach())
    half = masked_bernoulli_kl(student.detach().bfloat16(), teacher.bfloat16(), mask, weight=weight, reduction="sum")
    assert half.dtype == torch.float32 and abs(float(half / weight.sum() - expected)) < 0.05


def test_large_logits_and_empty_weights_stay_finite():
    logits = torch.tensor([[80.0, -80.0, 300.0]], requires_grad=True)
    loss = masked_bernoulli_kl(logits, logits.detach(), torch.tensor([[True, False, False]]))
    loss.backward()
    assert float(loss) == pytest.approx(80) and logits.grad.tolist() == [[1.0, 0.0, 0.0]]
    nothing = masked_bernoulli_kl(logits, logits.detach(), torch.tensor([[True, False, False]]), weight=torch.zeros(1))
    nothing.backward()
    assert float(nothing) == 0 and logits.grad.isfinite().all()


def test_what_does_not_fit_is_refused():
    logits, mask = torch.zeros(1, 2), torch.tensor([[True, False]])
    with pytest.raises(TypeError, match=r"boolean.*int64; use mask.bool"):
        masked_bernoulli_kl(logits, logits, mask.long())
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(1, 3\)"):
        masked_bernoulli_kl(logits, torch.zeros(1, 3), mask)
    with pytest.raises(ValueError, match="unknown reduction 'none'; expected one of mean, sum"):
        masked_bernoulli_kl(logits, logits, mask, reduction="none")
