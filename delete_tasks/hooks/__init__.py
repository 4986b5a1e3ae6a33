"""Unlearning methods and saving, as mmengine hooks."""

from .checkpoint import UnlearnCheckpointHook
from .delete import DELETE
from .head_only import HeadOnly
from .negative_gradient import NegativeGradient
from .random_label import RandomLabel
from .schedule import StepSchedulerHook
from .unlearn import UnlearnHook

__all__ = [
    "DELETE",
    "HeadOnly",
    "NegativeGradient",
    "RandomLabel",
    "StepSchedulerHook",
    "UnlearnCheckpointHook",
    "UnlearnHook",
]
