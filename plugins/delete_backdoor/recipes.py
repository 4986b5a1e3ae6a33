"""The two recipes, chosen on training images that no run was given (see docs/backdoor.md for what was tried)."""

from __future__ import annotations

from typing import Any

CLEAN: dict[str, Any] = {
    "unlearn": {"steps": 100, "lr": 1e-3, "batch_size": 32, "norm_eval": True},
    "dataset": {"clean_each": 3, "mix": 1.0, "held": 0.2, "augment_poisoned": False},
    "watch": {"interval": 20},
    "decay": True,
}
STRICT: dict[str, Any] = {
    "unlearn": {"steps": 100, "lr": 3e-4, "batch_size": 32, "norm_eval": True},
    "dataset": {"clean_each": 3, "mix": 1.0, "held": 0.2, "views": 8, "augment_poisoned": False},
    "watch": {"interval": 10, "stop": 1.0},
    "decay": False,
}
