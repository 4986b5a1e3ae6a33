"""Checks before unlearning: photos show that person, and are enough."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from delete_images.data.opening import ImageData
from delete_tasks.errors import RequestError, list_names
from delete_tasks.request.ranges import SEED_MOST, number, whole

FAR_BELOW = 4.0  # robust standard deviations
LEAST_GAP = 0.15  # of cosine: photos of one person that agree closely are not told apart for less
NUMBERS: dict[str, Callable[[str, Any], Any]] = {
    "held_out": partial(number, low=0, high=1, below=True),
    "scale": partial(number, low=0, high=10_000, above=True),
    "embedding_size": partial(whole, low=1, high=65_536),
    "epochs": partial(whole, low=1, high=100_000),
    "lr": partial(number, low=0, high=10, above=True),
    "seed": partial(whole, low=0, high=SEED_MOST),
    "steps": partial(whole, low=1),
    "batch_size": partial(whole, low=1, high=10**6),
    "teacher_temperature": partial(number, low=0, high=1000, above=True),
    "directions": partial(whole, low=0, high=65_536),
    "stop": partial(number, low=0, high=1, above=True, below=True),
    "threshold": partial(number, low=-math.inf, high=math.inf),
    "top": partial(whole, low=1),
}


def check_numbers(options: Mapping[str, Any], *names: str) -> None:
    """Refuse numbers that nothing can be made of, before anything is read; None is "not given".

    Raises:
        RequestError: One of ``options`` under ``names`` is out of its range in :data:`NUMBERS`.
    """
    for name in names:
        if options.get(name) is not None:
            NUMBERS[name](name, options[name])


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
    mislabelled: set[int] = set()
    for label in labels.unique():
        of = (labels == label).nonzero().flatten()
        middle = own[of].median()
        spread = 1.4826 * (own[of] - middle).abs().median()
        low = own[of] < middle - max(FAR_BELOW * float(spread), LEAST_GAP)
        taken_for_another = logits[of].argmax(1) != label
        mislabelled.update(of[taken_for_another & (low | (own[of] < others[of]))].tolist())
    return sorted(mislabelled)


def refuse_mislabelled(
    mislabelled: Sequence[int], data: ImageData, embeddings: Tensor, rows: Tensor, force: bool
) -> str | None:
    """Name the photos that do not look like their person.

    Returns:
        A warning where ``force`` lets them pass, None where there are none.

    Raises:
        RequestError: There are some, and no ``force``.
    """
    if not mislabelled:
        return None
    cosines = F.normalize(embeddings) @ F.normalize(rows).T
    named = [f"{data.names[i]} (similarity {float(cosines[i, data.labels[i]]):.2f})" for i in mislabelled]
    own = torch.stack(
        [cosines[i, label] for i, label in enumerate(data.labels) if i not in set(mislabelled)] or [torch.tensor(0.0)]
    )
    rest = f"the rest have {float(own.median()):.2f}" if len(mislabelled) < len(data) else "so do all others"
    text = (
        f"{len(mislabelled)} of {len(data)} photos do not look like the person to the model: "
        f"{list_names(named, longest=None)}; {rest}"
    )
    if not force:
        raise RequestError(
            f"{text}. Whoever they show would be changed, too: take them out, or use them all the same with --force"
        )
    return f"{text}. Used all the same (--force)"
