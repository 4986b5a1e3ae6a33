"""The two recipes, chosen on images that no run was given and no figure is of (docs/notes/backdoor.md says what was tried)."""

from __future__ import annotations

from typing import Any

WITH_RETAIN_SET: dict[str, Any] = {
    "unlearn": {
        "steps": 200,
        "lr": 1e-3,
        "batch_size": 10,
        "norm_eval": True,
        "schedule": "cosine",
        "temperature": 4.0,
        "forgetting_only": True,
    },
    "dataset": {"retain_each": 11, "mix": 1.0, "held": 0.2, "augment_poisoned": False},
    "hooks": [{"type": "BackdoorWatch", "interval": 20, "agreement": 90.0, "target_kept": 60.0}],
}
STRICT: dict[str, Any] = {
    "unlearn": {
        "steps": 100,
        "lr": 1e-3,
        "batch_size": 8,
        "norm_eval": True,
        "schedule": "constant",
        "forgetting_only": True,
    },
    "dataset": {"retain_each": 7, "mix": 1.0, "held": 0.2, "views": 8, "augment_poisoned": False},
    "hooks": [
        {"type": "BackdoorWatch", "interval": 5, "stop": 1.0, "agreement": 85.0, "target_kept": 25.0},
        {"type": "RisingRate", "share": 0.01},
    ],
}
