"""Unlearning methods and saving, as mmengine hooks."""

from .checkpoint import UnlearnCheckpointHook
from .delete import DELETE
from .unlearn import UnlearnHook

__all__ = ["DELETE", "UnlearnCheckpointHook", "UnlearnHook"]
