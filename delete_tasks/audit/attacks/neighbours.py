"""OU@eps: over-unlearning in the neighbourhood of the forgotten samples, across the border to other classes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...evaluation.metric import Measured, Row
from ..attack import Attack, Network, NotMeasured, context_of, mean_of
from .outputs import js_distance

EPSILON, STEPS = 0.03, 5  # largest change as a share of the input's range, and steps of the search
MOST, LEAST = 200, 10


def across_the_border(original: Network, inputs: Tensor, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Move inputs ``(N, ...)`` of the forgotten classes by at most eps towards the original's next class (projected gradient
    descent); return them, and booleans ``(N,)``: whether the original now predicts another class."""
    module, forward = original.module, original.forward
    device = next(module.parameters()).device
    start, most = inputs.to(device), EPSILON * original.scale.to(device)
    forgotten = torch.tensor(list(ids), device=device)
    with torch.no_grad():
        target = forward(module, start).index_fill(1, forgotten, -torch.inf).argmax(1)
    generator = torch.Generator().manual_seed(0)
    moved = start + most * (2 * torch.rand(start.shape, generator=generator) - 1).to(device)
    for _ in range(STEPS):
        moved = moved.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(F.cross_entropy(forward(module, moved), target), moved)
        moved = moved - 2 * most / STEPS * slope.sign()
        moved = torch.maximum(torch.minimum(moved, start + most), start - most)
    moved = moved.detach()
    with torch.no_grad():
        crossed = ~torch.isin(forward(module, moved).argmax(1), forgotten)
    return moved, crossed.cpu()


def over_unlearning(row: Row) -> Measured:
    """Measure the mean Jensen-Shannon distance between the model's probabilities and the original's without the forgotten
    classes, on the forget set's neighbours that the original predicts as another class."""
    context = context_of(row)
    network, original = context.network, context.original_network
    if network is None or original is None:
        raise NotMeasured("this row has no network of its own, or the task provides none")
    inputs = original.inputs["forget"][0][:MOST]
    if not len(inputs):
        raise NotMeasured("the forget set shows none of the forgotten classes")
    moved, crossed = across_the_border(original, inputs, row.ids)
    count = int(crossed.sum())
    if count < LEAST:
        raise NotMeasured(
            f"{count} of {len(inputs)} forgotten samples cross the original's border within eps, fewer than {LEAST}"
        )
    with torch.no_grad():
        neighbours = moved[crossed.to(moved.device)]
        teacher = original.forward(original.module, neighbours).float().cpu()
        student = network.forward(network.module, neighbours).float().cpu()
    teacher[:, list(row.ids)] = -torch.inf
    distances = js_distance(teacher.softmax(1), student.softmax(1))
    return mean_of(distances.numpy(), details={"epsilon": EPSILON, "moved": len(inputs)})


ATTACKS = (
    Attack(
        "neighbours",
        f"distance to the masked original on neighbours of the forget set (OU@{EPSILON:g})",
        "distance",
        over_unlearning,
        of="neighbours of forgotten samples",
        column=f"OU@{EPSILON:g}",
        group="kept",
        level="full",
        source="arXiv 2506.01318",
    ),
)
