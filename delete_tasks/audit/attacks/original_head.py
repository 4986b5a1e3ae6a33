"""The original's last layer on another model's features: what whoever kept the original's head reads."""

from __future__ import annotations

import torch

from ...evaluation.metric import Measured, Row
from ...evaluation.predictions import through_head
from ..attack import Attack, NotMeasured, context_of, given, members, share_of


def read_with_original_head(row: Row) -> Measured:
    """Percent of the held-out samples of the forgotten classes that the original's last layer predicts as their class."""
    context, test, shown = context_of(row), given(row, "test"), members(row, "test")
    if context.is_retrained:
        raise NotMeasured(
            "a model trained anew has features of another basis, which the original's last layer cannot read"
        )
    if context.original_head is None:
        raise NotMeasured(
            "the original's last layer is not known here, or the logits are not just what its last layer makes of features"
        )
    again = through_head(test, context.original_head)
    if again is None:
        raise NotMeasured("the last layer reads no rows of features")
    return share_of((again.predicted == test.labels)[torch.from_numpy(shown)].numpy())


ATTACKS = (
    Attack(
        "original_head",
        "forgotten classes as the original's last layer reads them from the features",
        "percent",
        read_with_original_head,
        of="held-out samples",
        column="original head",
        reads=True,
        chance=lambda row: round(100 / len(row.names), 2),
    ),
)
