"""Audit of an erased model: attacks that read the forgotten classes, and their verdict.

In Python::

    from delete_tasks.audit import measure
    from delete_tasks.evaluation import Predictions

    rows = {"original": {"train": Predictions(...), "test": Predictions(...)}, "erased": {...}, "retrained": {...}}
    print(measure(rows, ids=[4], names=class_names).verdict["word"])
"""

from .results import measure, with_cut_logit

__all__ = ["measure", "with_cut_logit"]
