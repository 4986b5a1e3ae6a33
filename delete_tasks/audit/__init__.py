"""Audit of an erased model: attacks that read the forgotten classes, and their verdict.

In Python::

    from delete_tasks.audit import measure
    from delete_tasks.evaluation import Predictions

    rows = {"original": {"train": Predictions(...), "test": Predictions(...)}, "erased": {...}, "retrained": {...}}
    print(measure(rows, ids=[4], names=class_names).verdict["word"])

Names are imported on first use, so that ``--help`` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attack import Attack, Context, Found
    from .attacks import find_attacks
    from .results import Audit, measure, with_cut_logit
    from .samples import read_all

__all__ = ["Attack", "Audit", "Context", "Found", "find_attacks", "measure", "read_all", "with_cut_logit"]

_MODULES = {
    **dict.fromkeys(("Attack", "Context", "Found"), "attack"),
    "find_attacks": "attacks",
    **dict.fromkeys(("Audit", "measure", "with_cut_logit"), "results"),
    "read_all": "samples",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
