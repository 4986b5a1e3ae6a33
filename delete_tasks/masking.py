"""What is asked to be forgotten: class names to ids to masks, and every refusal of a bad request."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import RequestError

MASKINGS = ("all", "own")
LOCATIONS = ("all", "forgotten")
SELECTIONS = ("labels", "teacher")


def choose(name: str, value: Any, allowed: Sequence[str]) -> Any:
    """Return ``value`` if it is one of ``allowed``, else raise RequestError naming them."""
    if value not in allowed:
        raise RequestError(f"{name}={value!r} is not known; expected one of {', '.join(map(repr, allowed))}")
    return value


def resolve_classes(classes: Sequence[str | int] | str | int, names: Sequence[str]) -> list[int]:
    """Class names (or ids) to ids.

    Args:
        classes: Names as in ``names``, or ids ``0 .. len(names)-1``; a lone one is taken as a list of one.
        names: The model's class names, in order of their logits.

    Returns:
        Ids in ascending order.

    Raises:
        RequestError: No class, an unknown one (the valid names are listed), the same one twice, every class, or a
            model with a single class, which has no other class to fall back to.
    """
    if isinstance(classes, (str, int)):
        classes = [classes]
    if len(names) < 2:
        raise RequestError(
            f"a model with {len(names)} class output(s) has no other class to fall back to; a single-output (C=1) head "
            "must be turned into a two-class head (num_classes=2, out_channels=2) first"
        )
    if len(classes) == 0:
        raise RequestError(f"no class to forget was given; name at least one of: {', '.join(names)}")
    ids = []
    for wanted in classes:
        if isinstance(wanted, bool) or not isinstance(wanted, (str, int)):
            raise RequestError(
                f"a class is given by its name or its id, got {wanted!r} of type {type(wanted).__name__}"
            )
        if isinstance(wanted, int):
            if not 0 <= wanted < len(names):
                raise RequestError(f"class id {wanted} is outside 0..{len(names) - 1}")
            ids.append(wanted)
        elif wanted in names:
            ids.append(list(names).index(wanted))
        else:
            close = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
            raise RequestError(f"the model knows no class {wanted!r}.{hint} Valid names: {', '.join(names)}")
    repeated = sorted({names[i] for i in ids if ids.count(i) > 1})
    if repeated:
        raise RequestError(f"asked more than once to forget {', '.join(repeated)}; name each class once")
    if len(ids) == len(names):
        raise RequestError(f"asked to forget all {len(names)} classes; at least one must remain as the target")
    return sorted(ids)


@dataclass(frozen=True)
class ForgetRequest:
    """Which classes to forget, where the loss applies, and how the forget set is found.

    Attributes:
        classes: Class names or ids, see :func:`resolve_classes`.
        masking: 'all' masks every class being forgotten at every location and needs no labels; 'own' masks only each
            location's own label (the paper's code) and masks nothing where the label is not forgotten.
        locations: 'all' uses every location of the forget set, 'forgotten' only those of a forgotten class.
        select: 'labels' finds the forget set by annotations, 'teacher' by what the original model predicts.
    """

    classes: Sequence[str | int] = field(default_factory=tuple)
    masking: str = "all"
    locations: str = "all"
    select: str = "labels"

    def __post_init__(self) -> None:
        choose("masking", self.masking, MASKINGS)
        choose("locations", self.locations, LOCATIONS)
        choose("select", self.select, SELECTIONS)
        if self.masking == "own" and self.select == "teacher":
            raise RequestError(
                "masking='own' masks each location's own label and so needs labels, but select='teacher' says there are "
                "none; use masking='all', or select='labels' with annotations"
            )

    def resolve(self, names: Sequence[str]) -> list[int]:
        """Ids of the classes to forget among the model's class ``names``; raises as :func:`resolve_classes`."""
        return resolve_classes(self.classes, names)


def class_mask(ids: Sequence[int], num_classes: int, ndim: int, device: torch.device | str = "cpu") -> Tensor:
    """Boolean mask ``(1, C, 1, ...)`` with ``ndim`` dimensions that takes out ``ids`` at every location."""
    mask = torch.zeros(num_classes, dtype=torch.bool, device=device)
    mask[list(ids)] = True
    return mask.view(1, num_classes, *(1,) * (ndim - 2))


def own_label_mask(labels: Tensor, ids: Sequence[int], num_classes: int) -> Tensor:
    """Boolean mask ``(N, C, *locations)``: each location's own label, where that is one of ``ids``.

    Args:
        labels: Integer labels ``(N, *locations)``; values outside ``0 .. num_classes-1`` (void) mask nothing.
    """
    wanted = class_mask(ids, num_classes, labels.ndim + 1, labels.device)
    classes = torch.arange(num_classes, device=labels.device).view(1, num_classes, *(1,) * (labels.ndim - 1))
    return (labels.unsqueeze(1) == classes) & wanted


def is_forgotten(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Boolean, of the labels' shape: which labels are among ``ids``."""
    return torch.isin(labels, torch.as_tensor(list(ids), device=labels.device, dtype=labels.dtype))
