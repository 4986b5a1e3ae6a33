"""What is looked at before anything is unlearned: are these photos of that person, and are there enough of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from delete_images.data import ImageData
from delete_tasks.errors import RequestError

LISTED = 8
FAR_BELOW = 4.0  # robust standard deviations
LEAST_GAP = 0.15  # of cosine: photos of one person that agree closely are not told apart for less
# Least and most of each number, whether the ends themselves are left out, and whether it is a whole one.
NUMBERS: dict[str, tuple[float, float, str, bool]] = {
    "held_out": (0, 1, "[)", False),
    "scale": (0, 10_000, "(]", False),
    "embedding_size": (1, 65_536, "[]", True),
    "epochs": (1, 100_000, "[]", True),
    "lr": (0, 10, "(]", False),
    "seed": (0, 2**32 - 1, "[]", True),
    "steps": (1, 10**9, "[]", True),
    "batch_size": (1, 10**6, "[]", True),
    "sharpen": (0, 1000, "(]", False),
    "stop": (0, 1, "()", False),
    "threshold": (-math.inf, math.inf, "()", False),
    "top": (1, 10**9, "[]", True),
}


def check_numbers(options: Mapping[str, Any], *names: str) -> None:
    """Refuse numbers that nothing can be made of, before anything is read; None is "not given".

    Raises:
        RequestError: One of ``options`` under ``names`` is no number, not finite, not whole or out of :data:`NUMBERS`' range.
    """
    for name in names:
        value, (least, most, ends, whole) = options.get(name), NUMBERS[name]
        if value is None:
            continue
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and (not whole or isinstance(value, int))
        above = fits and (value > least if ends[0] == "(" else value >= least)
        if not above or not (value < most if ends[1] == ")" else value <= most):
            begin, end = "above" if ends[0] == "(" else "from", "below" if ends[1] == ")" else "to"
            kind = "whole number" if whole else "number"
            span = "that is finite" if math.isinf(most) else f"{begin} {least:g} {end} {most:g}"
            raise RequestError(f"{name} is {value!r}; expected a {kind} {span}")


def find_mislabelled(embeddings: Tensor, rows: Tensor, logits: Tensor, labels: Tensor) -> list[int]:
    """Photos that do not look like their person to the original model.

    A photo is one if the model takes it for somebody else, and the cosine of its embedding and its person's row lies far below
    the person's other photos or below that of another person's row.

    Args:
        embeddings: ``(n, D)``.
        rows: ``(C, D)`` of the head.
        logits: ``(n, C)``.
        labels: int64 ``(n,)``.

    Returns:
        Indices, ascending.
    """
    cosines = F.normalize(embeddings) @ F.normalize(rows).T
    own = cosines.gather(1, labels[:, None])[:, 0]
    others = cosines.scatter(1, labels[:, None], -torch.inf).max(1).values
    odd: set[int] = set()
    for label in labels.unique():
        of = (labels == label).nonzero().flatten()
        middle = own[of].median()
        spread = 1.4826 * (own[of] - middle).abs().median()
        low = own[of] < middle - max(FAR_BELOW * float(spread), LEAST_GAP)
        taken_for_another = logits[of].argmax(1) != label
        odd.update(of[taken_for_another & (low | (own[of] < others[of]))].tolist())
    return sorted(odd)


def refuse_mislabelled(
    odd: Sequence[int], data: ImageData, embeddings: Tensor, rows: Tensor, force: bool
) -> str | None:
    """Name the photos that do not look like their person.

    Returns:
        A warning where ``force`` lets them pass, None where there are none.

    Raises:
        RequestError: There are some, and no ``force``.
    """
    if not odd:
        return None
    cosines = F.normalize(embeddings) @ F.normalize(rows).T
    named = [f"{data.names[i]} (similarity {float(cosines[i, data.labels[i]]):.2f})" for i in odd]
    more = f" and {len(named) - LISTED} more" if len(named) > LISTED else ""
    own = torch.stack(
        [cosines[i, label] for i, label in enumerate(data.labels) if i not in set(odd)] or [torch.tensor(0.0)]
    )
    rest = f"the rest have {float(own.median()):.2f}" if len(odd) < len(data) else "so do all others"
    text = f"{len(odd)} of {len(data)} photos do not look like the person to the model: {', '.join(named[:LISTED])}{more}; {rest}"
    if not force:
        raise RequestError(
            f"{text}. Whoever they show would be changed, too: take them out, or use them all the same with --force"
        )
    return f"{text}. Used all the same (--force)"
