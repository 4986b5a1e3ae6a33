"""Recipes of segmentation models: defaults of ``unlearn``."""

from typing import Any

from delete_tasks.task import Recipes

# Chosen on training images, see docs/notes/segmentation.md.
RECIPES = Recipes({"DeepDELETE": {}}, teacher_temperature=1.0)

# `--preset` replaces the whole recipe of a config by one of these.
PRESETS: dict[str, Any] = {"quick": {"steps": 100, "schedule": "constant", "optimizer": {"type": "AdamW", "lr": 1e-4}}}
