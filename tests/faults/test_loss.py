"""The loss at layouts, values and uses where sums go wrong in silence."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from delete_tasks import masked_kl_div
from delete_tasks.losses import masked_mass


def reference(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """Sum over locations, float64, written down anew: only classes with a target probability count."""
    s = student.double().movedim(1, -1) / temperature
    t = teacher.double().movedim(1, -1) / temperature
    m = mask.expand(student.shape).movedim(1, -1)
    p = t.masked_fill(m, -torch.inf).softmax(-1)
    log_q = s.log_softmax(-1)
    terms = torch.where(p > 0, p * (p.clamp_min(1e-300).log() - log_q), torch.zeros_like(p))
    return terms.sum()


SHAPES = [(3, 5), (2, 5, 7), (2, 4, 3, 5), (1, 3, 2, 2, 2), (4, 2), (2, 150, 3, 3), (1, 1000)]
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "strided": lambda x: torch.cat([x, x], -1)[..., ::2] if x.ndim > 2 else torch.cat([x, x], 0)[::2],
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "offset": lambda x: torch.cat([x[:1], x])[1:],
    "expanded over locations": lambda x: x[(..., *[slice(0, 1)] * (x.ndim - 2))].expand(x.shape),
    "expanded over samples": lambda x: x[:1].expand(x.shape),
    "expanded over classes": lambda x: x[:, :1].expand(x.shape),
}


@pytest.mark.parametrize("who", ["student", "teacher", "both"])
def test_layouts(who):
    for (name, layout), shape in itertools.product(LAYOUTS.items(), SHAPES):
        torch.manual_seed(0)
        student, teacher = torch.randn(shape) * 3, torch.randn(shape) * 3
        student = layout(student) if who in ("student", "both") else student
        teacher = layout(teacher) if who in ("teacher", "both") else teacher
        mask = torch.zeros(1, shape[1], *[1] * (len(shape) - 2), dtype=torch.bool)
        mask[:, 1] = True
        leaf = student.detach().requires_grad_()
        loss = masked_kl_div(leaf, teacher, mask, reduction="sum")
        expected = reference(student, teacher, mask)
        assert torch.allclose(loss.double(), expected, rtol=1e-4, atol=1e-5), f"{loss.item()} is not {expected.item()}"
        (gradient,) = torch.autograd.grad(loss, leaf)
        p = teacher.masked_fill(mask, -torch.inf).softmax(1)
        assert torch.allclose(gradient, student.softmax(1) - p, atol=1e-5)


VALUES = {"-inf": -math.inf, "-1e30": -1e30, "1e30": 1e30, "-1e4": -1e4, "0": 0.0}
AT = ["student masked", "student unmasked", "teacher masked", "teacher unmasked"]


@pytest.mark.parametrize("at", AT)
def test_extreme_values(at):
    """-inf on a logit that has no target leaves loss and gradient finite and right."""
    for (name, value), shape in itertools.product(VALUES.items(), SHAPES[:5]):
        torch.manual_seed(1)
        student, teacher = torch.randn(shape), torch.randn(shape)
        mask = torch.zeros(1, shape[1], *[1] * (len(shape) - 2), dtype=torch.bool)
        mask[:, 0] = True
        (student if "student" in at else teacher)[:, 0 if " masked" in at else 1] = value
        if "teacher unmasked" in at and shape[1] == 2:
            continue  # its only target
        leaf = student.requires_grad_()
        loss = masked_kl_div(leaf, teacher, mask)
        if "student unmasked" in at and value <= -1e30:
            assert loss > 1e3 or math.isinf(loss), f"{loss}"  # a target that cannot be reached costs without bound
            continue
        loss.backward()
        assert loss.isfinite() and leaf.grad.isfinite().all(), f"loss {loss}, gradient {leaf.grad.flatten()[:4]}"
        if abs(value) <= 1e4 or value == -math.inf:
            count = student[:, 0].numel()
            assert torch.allclose(
                loss.double() * count, reference(student.detach(), teacher, mask), rtol=1e-3, atol=1e-4
            )


def test_uses():
    torch.manual_seed(2)
    mask = torch.tensor([[True, False, False]])
    student = torch.randn(4, 3, requires_grad=True)
    loss = masked_kl_div(student, torch.randn(4, 3), mask)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"second time|retain_graph"):
        loss.backward()
    student = torch.randn(4, 3, requires_grad=True)
    loss = masked_kl_div(student, torch.randn(4, 3), mask)
    loss.backward(retain_graph=True)
    first = student.grad.clone()
    loss.backward()
    assert torch.allclose(student.grad, 2 * first)
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    (masked_kl_div(student, teacher, mask) + masked_kl_div(student, teacher, mask)).backward()
    both = student.grad.clone()
    student.grad = None
    masked_kl_div(student, teacher, mask).backward()
    assert torch.allclose(both, 2 * student.grad)
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    kept = student.detach().clone(), teacher.clone()
    masked_kl_div(student, teacher, mask).backward()
    assert torch.equal(student, kept[0]) and torch.equal(teacher, kept[1])
    student = torch.randn(4, 3, requires_grad=True)
    loss = masked_kl_div(student, torch.randn(4, 3), mask, weight=torch.zeros(4))
    loss.backward()
    assert loss == 0 and torch.equal(student.grad, torch.zeros(4, 3))
    student = torch.randn(0, 3, requires_grad=True)
    loss = masked_kl_div(student, torch.randn(0, 3), mask)
    loss.backward()
    assert loss == 0
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        student, teacher = torch.randn(8, 3).to(dtype).requires_grad_(), torch.randn(8, 3).to(dtype)
        loss = masked_kl_div(student, teacher, mask, reduction="sum")
        loss.backward()
        assert (
            torch.allclose(loss.double(), reference(student.detach(), teacher, mask), rtol=2e-2, atol=1e-3)
            and student.grad.dtype == dtype
        )
    for size in (1, 2, 3):
        student, teacher = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
        masked_kl_div(student, teacher, mask, reduction="sum").backward()
        whole, student.grad = student.grad.clone(), None
        for part in torch.arange(6).tensor_split([1, 4][: size - 1] if size > 1 else 1):
            masked_kl_div(student[part], teacher[part], mask, reduction="sum").backward()
        assert torch.allclose(student.grad, whole, atol=1e-6)


BAD = {
    "another shape": lambda s, t, m: (s, t[:, :2], m),
    "another batch": lambda s, t, m: (s, t[:2], m),
    "a mask of numbers": lambda s, t, m: (s, t, m.float()),
    "a mask of another shape": lambda s, t, m: (s, t, m[:, :2]),
    "everything masked": lambda s, t, m: (s, t, torch.ones_like(m)),
    "one dimension": lambda s, t, m: (s[0], t[0], m[0]),
    "integers": lambda s, t, m: (s.detach().long(), t.long(), m),
    "a teacher of NaN": lambda s, t, m: (s, t * math.nan, m),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    student, teacher, mask = BAD[name](
        torch.randn(4, 3, requires_grad=True), torch.randn(4, 3), torch.tensor([[True, False, False]])
    )
    try:
        loss = masked_kl_div(student, teacher, mask)
    except (ValueError, TypeError, RuntimeError) as error:
        assert len(str(error)) > 15, f"no message: {error!r}"
    else:
        assert name == "a teacher of NaN" and loss.isnan(), f"it gave {loss}"


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "two", None])
@pytest.mark.parametrize("name", ["temperature", "teacher_temperature"])
def test_bad_options(name, value):
    with cases(f"{name}={value}"), pytest.raises((ValueError, TypeError)):
        masked_kl_div(torch.randn(4, 3), torch.randn(4, 3), torch.tensor([[True, False, False]]), **{name: value})


def test_masked_mass():
    for shape in SHAPES:
        torch.manual_seed(3)
        logits = torch.randn(shape)
        mask = torch.zeros(1, shape[1], *[1] * (len(shape) - 2), dtype=torch.bool)
        mask[:, 1] = True
        assert torch.allclose(masked_mass(logits, mask), logits.softmax(1)[:, 1], atol=1e-6)
        logits[:, 0] = -math.inf
        assert masked_mass(logits, mask).isfinite().all()
