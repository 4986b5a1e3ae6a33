"""Masked KL divergence: memory layouts, and sums over several calls."""

import pytest
import torch

from delete_tasks import masked_kl_div
from delete_tasks.losses import chunked
from delete_tasks.losses.masks import class_mask

ONE_MASKED = torch.tensor([[True, False, False]])


# The loss of contiguous float64 logits is compared with a reference in test_masked_kl.py.
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


@pytest.mark.parametrize("changed", ["student", "teacher", "both"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_layouts(changed, layout, shape, monkeypatch):
    torch.manual_seed(0)
    student, teacher = (
        LAYOUTS[layout](logits) if changed in (name, "both") else logits
        for name, logits in (("student", torch.randn(shape) * 3), ("teacher", torch.randn(shape) * 3))
    )
    mask, leaf = class_mask([1], shape[1], len(shape)), student.detach().requires_grad_()
    expected = masked_kl_div(student.double().contiguous(), teacher.double().contiguous(), mask, reduction="sum")
    for chunk in (16, chunked.CPU_CHUNK):
        monkeypatch.setattr(chunked, "CPU_CHUNK", chunk)
        loss = masked_kl_div(leaf, teacher, mask, reduction="sum")
        assert torch.allclose(loss.double(), expected, rtol=1e-4, atol=1e-5)
        (gradient,) = torch.autograd.grad(loss, leaf)
        closed_form = student.softmax(1) - teacher.masked_fill(mask, -torch.inf).softmax(1)
        assert torch.allclose(gradient, closed_form, atol=1e-5)


@pytest.mark.parametrize("places", [[], [1], [1, 4]])
def test_micro_batches_of_different_counts_make_the_step_of_one_batch(places):
    torch.manual_seed(2)
    student, teacher = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    masked_kl_div(student, teacher, ONE_MASKED, reduction="sum").backward()
    whole, student.grad = student.grad.clone(), None
    for part in torch.arange(6).tensor_split(places):
        masked_kl_div(student[part], teacher[part], ONE_MASKED, reduction="sum").backward()
    assert torch.allclose(student.grad, whole, atol=1e-6)
