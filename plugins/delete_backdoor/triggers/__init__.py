"""Triggers of published attacks as albumentations transforms; each file registers its own when it is imported."""

import importlib
import pkgutil

from .base import TRIGGERS, Trigger, parse_trigger, register_trigger, split_trigger

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["TRIGGERS", "Trigger", "parse_trigger", "register_trigger", "split_trigger"]
