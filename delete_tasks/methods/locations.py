"""Weights of the locations that take part in a method's loss."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..errors import RequestError
from ..losses.masks import is_forgotten
from ..model.loss_point import LossInputs
from ..request.classes import ForgetRequest


def forgotten_weight(method: str, inputs: LossInputs, ids: Sequence[int], weight: Tensor | None) -> Tensor:
    """Select the locations whose label is one of the classes ``ids``: float32 ``(N, *locations)``, ``weight`` there, else 0.

    Raises:
        RequestError: There are no labels; the message names the ``method``.
    """
    if inputs.labels is None:
        raise RequestError(f"{method} needs the label of each location, and the data have none; use type='DELETE'")
    forgotten = is_forgotten(inputs.labels, ids)
    if inputs.retain is not None:
        forgotten = forgotten & ~inputs.retain
    return forgotten.float() if weight is None else forgotten * weight


def loss_weight(request: ForgetRequest, inputs: LossInputs, ids: Sequence[int], teacher: Any) -> Tensor | None:
    """Weigh the locations that take part in the loss ``(N, *locations)`` by 1, all others by 0; None if all take part."""
    valid = inputs.valid
    if request.locations == "forgotten":
        labels = None if request.select == "teacher" else inputs.labels
        if labels is None and teacher is None:
            raise RequestError("locations='forgotten' needs labels or a teacher, and here is neither")
        forgotten = is_forgotten(inputs.classes(teacher) if labels is None else labels, ids)
        if inputs.retain is not None:
            forgotten = forgotten | inputs.retain  # every location of a retain set takes part
        valid = forgotten if valid is None else valid & forgotten
    return None if valid is None else valid.float()
