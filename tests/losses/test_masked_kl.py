"""Masked KL divergence: an independent float64 reference, gradients, edge cases and refusals; masks of classes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from delete_tasks.losses import MaskedKLLoss, chunked, masked_kl_div, masked_mass
from delete_tasks.losses.masks import class_mask, forgotten_mass, is_forgotten, own_label_mask

SHAPES = [(1, 2), (5, 3), (2, 7, 5), (3, 4, 1, 1), (2, 5, 3, 7), (1, 19, 13, 9), (2, 3, 2, 3, 2), (0, 4), (2, 3, 0, 4)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
INF = math.inf
ONE_MASKED = torch.tensor([[True, False, False, False]])


def reference(student: Tensor, teacher: Tensor, mask: Tensor, temperature=1.0, teacher_temperature=1.0) -> np.ndarray:
    """Compute the loss by its definition in float64, one location at a time."""
    s = student.detach().double().numpy() / temperature
    t = teacher.detach().double().numpy() / temperature / teacher_temperature
    m = mask.expand(student.shape).numpy()
    locations = (s.shape[0], *s.shape[2:])
    out = np.zeros(locations)
    for place in np.ndindex(*locations):
        at = (place[0], slice(None), *place[1:])
        unmasked = ~m[at]
        log_p = t[at][unmasked] - t[at][unmasked].max()
        log_p -= math.log(np.exp(log_p).sum())
        log_q = s[at] - s[at].max()
        log_q -= math.log(np.exp(log_q).sum())
        p, log_q = np.exp(log_p), log_q[unmasked]
        out[place] = (p[p > 0] * (log_p[p > 0] - log_q[p > 0])).sum() * temperature**2  # 0 log 0 is 0
    return out


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return {"rtol": 1e-9, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-5}


def closed_form(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Gradient of each location's loss in float64: softmax(student) - target."""
    target = teacher.double().masked_fill(mask, -math.inf).softmax(1)
    return student.detach().double().softmax(1) - target


def make_mask(kind: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Mask no class, one class, all classes but one ('full'), or one class per location ('own')."""
    ones = (1,) * (len(shape) - 2)
    if kind == "empty":
        return torch.zeros(1, 1, *ones, dtype=torch.bool)
    if kind in ("class", "full"):
        mask = torch.zeros(1, shape[1], *ones, dtype=torch.bool)
        mask[:, int(torch.randint(shape[1], (1,), generator=generator))] = True
        return ~mask if kind == "full" else mask
    own = torch.randint(shape[1], (shape[0], 1, *shape[2:]), generator=generator)
    mask = torch.zeros(shape, dtype=torch.bool)
    return mask.scatter_(1, own, True) if math.prod(shape) else mask


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["empty", "class", "full", "own"]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    weighted=st.booleans(),
    temperature=st.sampled_from([1.0, 0.5, 4.0]),
    teacher_temperature=st.sampled_from([1.0, 0.25]),
    chunk=st.sampled_from([1, 16, 1 << 17]),
    seed=st.integers(0, 999),
)
def test_agrees_with_reference(shape, dtype, kind, reduction, weighted, temperature, teacher_temperature, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    mask = make_mask(kind, shape, generator)
    weight = torch.rand((shape[0], *shape[2:]), generator=generator).mul(2).floor() if weighted else None
    expected = reference(student, teacher, mask, temperature, teacher_temperature)
    w = np.ones_like(expected) if weight is None else weight.double().numpy()
    options = {"temperature": temperature, "teacher_temperature": teacher_temperature, "reduction": reduction}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "CPU_CHUNK", chunk)
        loss, terms = masked_kl_div(student, teacher, mask, weight=weight, return_terms=True, **options)
    expected = expected * w
    if reduction != "none":
        expected = expected.sum() / (max(w.sum(), 1e-300) if reduction == "mean" else 1)
        parts = (terms.forgetting_term + terms.retention_term).double()
        torch.testing.assert_close(parts, loss.double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.double(), torch.as_tensor(expected, dtype=torch.float64), **tolerance(dtype))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("kind", ["empty", "class", "full", "own"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 5), (2, 3, 2, 3)])
def test_gradcheck(kind, reduction, shape):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    mask = make_mask(kind, shape, generator)
    weight = torch.rand(shape[0], *shape[2:], generator=generator, dtype=torch.float64)
    options = {"weight": weight, "reduction": reduction, "temperature": 2.0, "teacher_temperature": 0.5}
    assert torch.autograd.gradcheck(lambda s: masked_kl_div(s, teacher, mask, **options), student.requires_grad_())


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_is_the_closed_form(dtype):
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(2, 5, 4, 3, generator=generator).to(dtype) for _ in range(2))
    student.requires_grad_()
    mask = torch.tensor([False, True, False, False, True]).view(1, 5, 1, 1)
    masked_kl_div(student, teacher, mask).backward()
    expected = closed_form(student, teacher, mask) / (2 * 4 * 3)
    assert student.grad is not None and student.grad.dtype == dtype
    accuracy = {torch.float64: 1e-12, torch.float32: 1e-7, torch.bfloat16: 2e-3, torch.float16: 1e-4}[dtype]
    torch.testing.assert_close(student.grad.double(), expected, rtol=0, atol=accuracy)


def test_half_precision_gradient_keeps_its_scale():
    """Divided by many locations a gradient is subnormal in fp16 unless it is multiplied by the loss scale first."""
    side = 1024
    student = torch.zeros(1, 2, side, side, dtype=torch.float16, requires_grad=True)
    teacher = torch.zeros(1, 2, side, side, dtype=torch.float16)
    mask = torch.tensor([True, False]).view(1, 2, 1, 1)
    (masked_kl_div(student, teacher, mask) * 65536).backward()
    expected = torch.tensor([1.0, -1.0]).double() * 32768 / side**2
    torch.testing.assert_close(student.grad[0, :, 0, 0].double(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_nan_at_extreme_logits(size, dtype):
    student = torch.tensor([[size, -size, 0.0, 1.0], [-size, -size, -size, size]], dtype=dtype, requires_grad=True)
    teacher = torch.tensor([[-size, size, size, 2.0], [size, -size, size, -size]], dtype=dtype)
    loss, terms = masked_kl_div(student, teacher, ONE_MASKED, return_terms=True)
    loss.backward()
    assert all(values.isfinite().all() for values in (loss, student.grad, *terms))


def test_a_hundred_thousand_classes():
    """As in a large face system: the loss is computed sample by sample, and the kernel leaves them to PyTorch."""
    generator = torch.Generator().manual_seed(0)
    teacher = 10 * torch.randn(3, 100_000, generator=generator)
    student = (teacher + torch.randn(teacher.shape, generator=generator)).requires_grad_()
    mask = torch.zeros(1, 100_000, dtype=torch.bool)
    mask[:, torch.randperm(100_000, generator=generator)[:50]] = True
    loss = masked_kl_div(student, teacher, mask)
    loss.backward()
    assert loss.item() == pytest.approx(reference(student, teacher, mask).mean(), rel=1e-5)
    expected = closed_form(student, teacher, mask) / 3
    # Relative to the whole gradient: most of its numbers are tiny, and where student and target agree they cancel.
    for order in (1, 2):
        assert (student.grad.double() - expected).norm(order) < 1e-5 * expected.norm(order)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("student", "teacher"), [
    ([-INF, 0.5, 1.0, -1.0], [2.0, 1.0, 0.0, -1.0]),  # masked class, student
    ([0.3, 0.5, 1.0, -1.0], [2.0, -INF, 0.0, -1.0]),  # unmasked class, teacher
    ([0.3, -INF, 1.0, -1.0], [2.0, -INF, 0.0, -1.0]),  # unmasked class, both
    ([-INF, -INF, 1.0, -1.0], [-INF, -INF, 0.0, -1.0]),
    ([0.3, 0.5, 1.0, -1.0], [-INF, -INF, 0.0, -INF]),
])  # fmt: skip
def test_logits_of_minus_infinity_are_probabilities_of_zero(student, teacher, dtype):
    """A second location with finite logits has the loss and gradient that it has alone."""
    others = [[0.1, 0.2, -0.3, 0.4], [1.0, -1.0, 0.5, 0.0]]
    s = torch.tensor([student, others[0]], dtype=dtype, requires_grad=True)
    t = torch.tensor([teacher, others[1]], dtype=dtype)
    for reduction in ("mean", "sum", "none"):
        s.grad = None
        options = {"reduction": reduction, "temperature": 2.0, "teacher_temperature": 0.5}
        loss, terms = masked_kl_div(s, t, ONE_MASKED, return_terms=True, **options)
        loss.sum().backward()
        per = reference(s, t, ONE_MASKED, 2.0, 0.5)
        expected = {"mean": per.mean(), "sum": per.sum(), "none": per}[reduction]
        torch.testing.assert_close(loss.double(), torch.as_tensor(expected), **tolerance(dtype))
        gradient = 2 * closed_form(s.double() / 2, t.double() / 2 / 0.5, ONE_MASKED) / (2 if reduction == "mean" else 1)
        torch.testing.assert_close(s.grad.double(), gradient, rtol=0, atol=1e-2 if dtype == torch.bfloat16 else 2e-3)
        assert all(term.isfinite() for term in terms)
        whole = per.sum() if reduction == "sum" else per.mean()
        assert math.isclose(terms.forgetting_term + terms.retention_term, whole, rel_tol=1e-2)


def test_target_class_of_student_probability_0_has_infinite_loss_and_finite_gradient():
    s = torch.tensor([[0.3, 0.5, -INF, -1.0]], requires_grad=True)
    loss = masked_kl_div(s, torch.zeros(1, 4), ONE_MASKED)
    loss.backward()
    assert loss == INF and s.grad.isfinite().all()


def test_teacher_with_only_a_masked_class_has_a_flat_target():
    s = torch.zeros(1, 4, requires_grad=True)
    masked_kl_div(s, torch.tensor([[5.0, -INF, -INF, -INF]]), ONE_MASKED).backward()
    torch.testing.assert_close(s.grad, torch.tensor([[0.25, *[0.25 - 1 / 3] * 3]]))


def test_locations_of_weight_0_count_as_0_even_if_their_loss_is_infinite():
    s = torch.tensor([[0.3, 0.5, -INF, -1.0], [0.0, 1.0, 2.0, 3.0]], requires_grad=True)
    nothing = masked_kl_div(s, torch.zeros(2, 4), ONE_MASKED, weight=torch.zeros(2))
    nothing.backward()
    assert nothing == 0 and torch.equal(s.grad, torch.zeros_like(s))
    for reduction in ("mean", "sum", "none"):
        loss = masked_kl_div(s, torch.zeros(2, 4), ONE_MASKED, weight=torch.tensor([0.0, 1.0]), reduction=reduction)
        assert loss.isfinite().all(), reduction


def test_masses():
    student, teacher = torch.zeros(1, 4, 2), torch.tensor([9.0, 0, 0, 0]).view(1, 4, 1).expand(1, 4, 2)
    mask = torch.tensor([True, False, False, False]).view(1, 4, 1)
    _, terms = masked_kl_div(student, teacher, mask, return_terms=True)
    t = float(teacher[0, :, 0].softmax(0)[0])
    assert float(terms.student_mass) == pytest.approx(2 * t * 0.25, rel=1e-5)
    assert float(terms.teacher_mass) == pytest.approx(2 * t * t, rel=1e-5)
    for logits in (student, torch.cat([torch.full((1, 1, 2), -INF), student[:, 1:]], 1)):
        torch.testing.assert_close(masked_mass(logits, mask), logits.softmax(1)[:, 0])


def test_backward_passes():
    """A retained graph gives the same gradient again; a freed graph and a double backward raise PyTorch's errors."""
    student, teacher, mask = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3), torch.zeros(1, 3).bool()
    loss = masked_kl_div(student, teacher, mask)
    (first,) = torch.autograd.grad(loss, student, retain_graph=True)
    copy = first.clone()
    (second,) = torch.autograd.grad(loss, student)
    assert torch.equal(first, copy) and torch.equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    (gradient,) = torch.autograd.grad(2 * masked_kl_div(student, teacher, mask), student, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiate twice|does not require grad"):
        torch.autograd.grad(gradient.sum(), student)
    assert not masked_kl_div(student.detach(), teacher, mask).requires_grad


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"mask": torch.zeros(1, 3)}, TypeError, "mask .*bool"),
    ({"mask": torch.ones(1, 3).bool()}, ValueError, "every class"),
    ({"mask": torch.ones(1, 1).bool()}, ValueError, "every class"),
    ({"mask": torch.tensor([[False] * 3, [True] * 3])}, ValueError, "every class"),
    ({"mask": torch.zeros(1, 4).bool()}, ValueError, "mask"), ({"teacher": torch.zeros(2, 4)}, ValueError, "teacher"),
    ({"student": torch.zeros(3), "teacher": torch.zeros(3)}, ValueError, "N, C"),
    ({"student": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "floating point"),
    ({"reduction": "batchmean"}, ValueError, "'batchmean'"), ({"temperature": 0.0}, ValueError, "temperature"),
    ({"teacher_temperature": math.nan}, ValueError, "teacher_temperature"),
    ({"weight": torch.tensor([1.0, -1.0])}, ValueError, "negative"),
    ({"weight": torch.ones(3)}, ValueError, "weight of shape"),
])  # fmt: skip
def test_refusals(change, error, message):
    options = {"student": torch.zeros(2, 3), "teacher": torch.zeros(2, 3), "mask": torch.zeros(1, 3).bool()} | change
    with pytest.raises(error, match=message):
        masked_kl_div(**options)


def test_module_is_the_function():
    student, teacher, mask = torch.randn(2, 3), torch.randn(2, 3), torch.tensor([[True, False, False]])
    options = dict(reduction="sum", temperature=2.0, teacher_temperature=0.5)
    module = MaskedKLLoss(**options)
    assert torch.equal(module(student, teacher, mask), masked_kl_div(student, teacher, mask, **options))
    assert "teacher_temperature=0.5" in repr(module)


@pytest.mark.parametrize("model", ["student", "teacher"])
@pytest.mark.parametrize("label", [0, 2])
def test_nan_logits_give_a_nan_loss(model, label):
    """NaN in a masked class counts in the student alone. UnlearnHook.after_train_iter then ends the run."""
    logits = {"student": torch.zeros(2, 4), "teacher": torch.zeros(2, 4)}
    logits[model][1, label] = math.nan
    loss = masked_kl_div(logits["student"], logits["teacher"], ONE_MASKED)
    assert loss.isnan() == (model == "student" or label != 0)


def test_class_mask_broadcasts():
    mask = class_mask([0, 2], 3, 4)
    assert mask.shape == (1, 3, 1, 1) and mask.flatten().tolist() == [True, False, True]


def test_own_label_mask_masks_only_the_location_s_own_forgotten_label():
    labels = torch.tensor([[0, 1], [2, 255]])
    mask = own_label_mask(labels, [0, 1], 3)
    assert mask.shape == (2, 3, 2)
    assert mask[0, :, 0].tolist() == [True, False, False] and mask[0, :, 1].tolist() == [False, True, False]
    assert not mask[1].any()
    assert is_forgotten(labels, [0, 1]).tolist() == [[True, True], [False, False]]


def test_forgotten_mass_is_the_classes_probability_at_each_location():
    logits = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(forgotten_mass(logits, [0, 3]), logits.softmax(1)[:, [0, 3]].sum(1), atol=1e-6)
