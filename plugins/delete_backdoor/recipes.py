"""Recipes of backdoored classifiers: defaults of ``unlearn``, of the dataset and of hooks.

Chosen on images of which no run reads and no figure reports any, see docs/notes/backdoor.md.
"""

from typing import Any

from delete_images.recipes import rate_for
from delete_tasks.task import Recipes

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


def delete(*, parameters: int, beside: bool, **_: Any) -> dict[str, Any]:
    """Choose DELETE's options; ``beside`` means a retain set. Strict mode's rate rises until the watch stops the run."""
    if not beside:
        return STRICT["unlearn"]
    options = WITH_RETAIN_SET["unlearn"]
    return {**options, "lr": rate_for(options["lr"], parameters)}


RECIPES = Recipes({"DELETE": delete})
