"""Unlearning methods and saving, as mmengine hooks."""

from .checkpoint import UnlearnCheckpointHook
from .delete import DELETE
from .fine_tune import FineTune
from .head_only import HeadOnly
from .negative_gradient import NegativeGradient
from .random_label import RandomLabel
from .schedule import StepSchedulerHook
from .unlearn import UnlearnHook

__all__ = [
    "DELETE",
    "FineTune",
    "HeadOnly",
    "NegativeGradient",
    "RandomLabel",
    "StepSchedulerHook",
    "UnlearnCheckpointHook",
    "UnlearnHook",
]
