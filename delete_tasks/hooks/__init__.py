"""Unlearning methods, as mmengine hooks: a method is one file here, which registers itself when it is imported."""

import importlib
import pkgutil

from .delete import DELETE
from .head_only import HeadOnly
from .negative_gradient import NegativeGradient
from .random_label import RandomLabel
from .unlearn import UnlearnHook

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["DELETE", "HeadOnly", "NegativeGradient", "RandomLabel", "UnlearnHook"]
