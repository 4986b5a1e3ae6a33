"""Unlearning methods and saving, as mmengine hooks: a method is one file here, which registers itself when it is imported."""

import importlib
import pkgutil

from .checkpoint import StateHook, UnlearnCheckpointHook
from .delete import DELETE
from .head_only import HeadOnly
from .negative_gradient import NegativeGradient
from .random_label import RandomLabel
from .schedule import StepSchedulerHook
from .unlearn import UnlearnHook

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "DELETE",
    "HeadOnly",
    "NegativeGradient",
    "RandomLabel",
    "StateHook",
    "StepSchedulerHook",
    "UnlearnCheckpointHook",
    "UnlearnHook",
]
