"""Resize and loss in one step and in two."""

import pytest
import torch
import torch.nn.functional as F

from delete_tasks.losses import by_rows, masked_kl_div, masked_kl_div_upsampled


@pytest.mark.parametrize("kind", ["class", "own and weights"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("small", "size"), [
    ((3, 4), (9, 11)), ((1, 1), (3, 2)), ((2, 5), (2, 5)), ((4, 3), (7, 24)), ((5, 4), (3, 2)), ((2, 3), (5, 7)),
])  # fmt: skip
def test_is_the_loss_of_resized_logits(small, size, align_corners, kind, monkeypatch):
    monkeypatch.setattr(by_rows, "CPU_CHUNK", 60)
    generator = torch.Generator().manual_seed(sum(size))
    student, teacher = (3 * torch.randn(2, 5, *small, generator=generator) for _ in range(2))
    mask, options = torch.tensor([False, True, False, True, False]).view(1, 5, 1, 1), {}
    if kind != "class":
        own = torch.randint(5, (2, 1, *size), generator=generator)
        mask = torch.zeros(2, 5, *size, dtype=torch.bool).scatter_(1, own, True)
        options = {"weight": torch.rand(2, *size, generator=generator).mul(3).floor(), "reduction": "sum"}
        options |= {"temperature": 2.0, "teacher_temperature": 0.5}
    results = by_rows_and_resized(student, teacher, size, mask, align_corners, **options)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


def by_rows_and_resized(student, teacher, size, mask, align_corners=False, **options):
    """Loss, gradient and terms of the same logits in one step, and in two in float64."""
    results, options = [], {**options, "return_terms": True}
    for fused in (True, False):
        leaf = student.to(torch.float32 if fused else torch.float64, copy=True).requires_grad_()
        if fused:
            loss, terms = masked_kl_div_upsampled(leaf, teacher, size, mask, align_corners=align_corners, **options)
        else:
            bilinear = dict(mode="bilinear", align_corners=align_corners)
            large = (F.interpolate(logits, size, **bilinear) for logits in (leaf, teacher.double()))
            loss, terms = masked_kl_div(*large, mask, **options)
        (3 * loss).backward()
        results.append([value.detach().double() for value in (loss, leaf.grad, *terms)])
    return results


@pytest.mark.parametrize("kind", ["class", "own"])
@pytest.mark.parametrize(("scale", "infinite", "directly"), [(5, False, False), (60, False, True), (5, True, True)])
def test_rows_between_follow_from_one_exponential(kind, scale, infinite, directly, monkeypatch):
    """Where that is exact."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(3, 6, 3, 3, generator=generator), (12, 10), mode="bilinear") * scale
    student, teacher = (smooth + torch.randn(3, 6, 12, 10, generator=generator) for _ in range(2))
    if infinite:
        teacher[1, 2, 4, 5] = -torch.inf
    mask = torch.tensor([False, True, False, True, False, False]).view(1, 6, 1, 1)
    if kind == "own":
        mask = torch.zeros(3, 6, 96, 80, dtype=torch.bool)
        mask.scatter_(1, torch.randint(6, (3, 1, 96, 80), generator=generator), True)
    calls = []
    real = by_rows.add_directly
    monkeypatch.setattr(by_rows, "add_directly", lambda *given: calls.append(given) or real(*given))
    monkeypatch.setattr(by_rows, "CPU_CHUNK", 2 * 2 * 6 * 8 * 80)  # two samples at once, and one
    torch.testing.assert_close(*by_rows_and_resized(student, teacher, (96, 80), mask), rtol=1e-5, atol=1e-7)
    assert bool(calls) == directly


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 3, 3, 4, generator=generator).to(dtype) for _ in range(2))
    mask = torch.tensor([True, False, False]).view(1, 3, 1, 1)
    gradients = []
    for kind in (dtype, torch.float32):
        leaf = student.detach().to(kind).requires_grad_()
        masked_kl_div_upsampled(leaf, teacher, (12, 16), mask).backward()
        assert leaf.grad.dtype == kind
        gradients.append(leaf.grad.float())
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("logits", "options", "message"), [
    (torch.zeros(2, 3), {}, r"logits \(N, C, h, w\)"),
    (torch.zeros(1, 3, 2, 2), {"reduction": "none"}, "reduction 'none'"),
    (torch.zeros(1, 3, 2, 2), {"weight": torch.ones(1, 2, 2)}, "weight of shape"),
    (torch.zeros(1, 3, 2, 2), {"mask": torch.ones(1, 1, 1, 1).bool()}, "every class"),
])  # fmt: skip
def test_refusals(logits, options, message):
    options = {"mask": torch.zeros(1, 3, 1, 1).bool(), **options}
    with pytest.raises(ValueError, match=message):
        masked_kl_div_upsampled(logits, logits, (8, 8), **options)
