"""OU@eps: what forgetting did to the neighbourhood of the forgotten samples, where kept classes begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...evaluation.metric import Measured, Row
from ..attack import Attack, NotMeasured, context_of, mean_of
from .outputs import js_distance

EPSILON, STEPS = 0.03, 5  # of the input's range
MOST, LEAST = 200, 10


def across_the_border(
    module: nn.Module,
    forward: Callable[[nn.Module, Tensor], Tensor],
    inputs: Tensor,
    ids: Sequence[int],
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """Inputs of the forgotten classes, moved by at most eps towards the original's next class (projected gradient descent).

    Args:
        module: The original.
        forward: See :class:`delete_tasks.audit.attack.Network`.
        inputs: ``(N, ...)``.
        ids: The forgotten classes.
        scale: See :class:`delete_tasks.audit.attack.Network`.

    Returns:
        The moved inputs; and booleans ``(N,)``, True where the original now predicts a kept class.
    """
    device = next(module.parameters()).device
    start, most = inputs.to(device), EPSILON * scale.to(device)
    gone = list(ids)
    with torch.no_grad():
        target = forward(module, start).index_fill(1, torch.tensor(gone, device=device), -torch.inf).argmax(1)
    generator = torch.Generator().manual_seed(0)
    moved = start + most * (2 * torch.rand(start.shape, generator=generator) - 1).to(device)
    for _ in range(STEPS):
        moved = moved.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(F.cross_entropy(forward(module, moved), target), moved)
        moved = moved - 2 * most / STEPS * slope.sign()
        moved = torch.maximum(torch.minimum(moved, start + most), start - most)
    moved = moved.detach()
    with torch.no_grad():
        crossed = ~torch.isin(forward(module, moved).argmax(1), torch.tensor(gone, device=device))
    return moved, crossed.cpu()


def over_unlearning(row: Row) -> Measured:
    """Mean Jensen-Shannon distance between the original's probabilities without the forgotten classes and the model's, on the
    forget set's neighbours that the original predicts as a kept class."""
    context = context_of(row)
    network, original = context.network, context.original_network
    if network is None or original is None:
        raise NotMeasured("this row is no network of its own, or the task gives none to run")
    inputs = original.inputs["forget"][0][:MOST]
    if not len(inputs):
        raise NotMeasured("the forget set shows none of the forgotten classes")
    moved, crossed = across_the_border(original.module, original.forward, inputs, row.ids, original.scale)
    if int(crossed.sum()) < LEAST:
        raise NotMeasured(
            f"{int(crossed.sum())} of {len(inputs)} forgotten samples cross the original's border within eps, fewer than {LEAST}"
        )
    with torch.no_grad():
        parts = moved[crossed.to(moved.device)]
        teacher = original.forward(original.module, parts).float().cpu()
        student = network.forward(network.module, parts).float().cpu()
    teacher[:, list(row.ids)] = -torch.inf
    return mean_of(
        js_distance(teacher.softmax(1), student.softmax(1)).numpy(), details={"epsilon": EPSILON, "moved": len(inputs)}
    )


ATTACKS = (
    Attack(
        "neighbours",
        f"distance to the masked original on neighbours of the forget set (OU@{EPSILON:g})",
        "distance",
        over_unlearning,
        of="neighbours of forgotten samples",
        column=f"OU@{EPSILON:g}",
        level="full",
        source="arXiv 2506.01318",
    ),
)
