"""Audit of an erased model: attacks that read the forgotten classes, and their verdict.

In Python::

    from delete_tasks.audit import measure
    from delete_tasks.evaluation import Predictions

    rows = {"original": {"train": Predictions(...), "test": Predictions(...)}, "erased": {...}, "retrained": {...}}
    print(measure(rows, ids=[4], names=class_names).verdict["word"])
"""

from .attack import Attack, Context, Found
from .attacks import find_attacks
from .results import Audit, measure, with_cut_logit
from .samples import read_all

__all__ = ["Attack", "Audit", "Context", "Found", "find_attacks", "measure", "read_all", "with_cut_logit"]
