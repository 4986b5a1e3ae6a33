"""Triggers of published attacks as albumentations transforms, and the strings that name them."""

from .base import Trigger
from .spec import TRIGGERS, parse_trigger

__all__ = ["TRIGGERS", "Trigger", "parse_trigger"]
