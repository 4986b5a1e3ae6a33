"""Recipes of segmentation models: options of ``unlearn`` that neither a config nor the command line gives."""

from typing import Any

from delete_tasks.task import Recipes

# Chosen on training images, see docs/notes/segmentation.md.
RECIPES = Recipes({"DeepDELETE": {}}, teacher_temperature=1.0)

# `--preset` puts one in the place of a config's recipe, of which nothing else stays.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 100, "schedule": "constant", "optimizer": {"type": "AdamW", "lr": 1e-4}},
}
