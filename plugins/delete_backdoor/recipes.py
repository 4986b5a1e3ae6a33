"""Recipes of backdoored classifiers: defaults of ``unlearn``, of the dataset and of hooks.

Chosen on images of which no run reads and no figure reports any, see docs/notes/backdoor.md.
"""

from typing import Any

from delete_images.recipes import rate_for
from delete_tasks.task import Recipes

ALWAYS: dict[str, Any] = {"lr": 1e-3, "norm_eval": True, "forgetting_only": True}
DATASET: dict[str, Any] = {"mix": 1.0, "held": 0.2, "augment_poisoned": False}
STEPS: dict[str, Any] = {"steps": 1200, "batch_size": 3, "schedule": "cosine"}
CLEANING: dict[str, Any] = {
    "unlearn": {**ALWAYS, **STEPS, "temperature": 2.0, "feature_distillation": 3.0},
    "dataset": {**DATASET, "retain_each": 11, "paste": 0.3},
    "hooks": [{"type": "BackdoorWatch", "interval": 60, "agreement": 90.0, "target_kept": 60.0}],
}
# Without a retain set and without an estimated trigger (`--paste 0`): the rate rises until the watch stops the run.
VIEWS_ALONE: dict[str, Any] = {
    "unlearn": {**ALWAYS, "steps": 100, "batch_size": 8, "schedule": "rising"},
    "dataset": {**DATASET, "retain_each": 7, "views": 8},
    "hooks": [{"type": "BackdoorWatch", "interval": 5, "stop": 1.0, "agreement": 85.0, "target_kept": 25.0}],
}


def delete(*, parameters: int, views_alone: bool = False, **_: Any) -> dict[str, Any]:
    """Choose DELETE's options; the rate depends on the number of parameters, but for :data:`VIEWS_ALONE`."""
    return VIEWS_ALONE["unlearn"] if views_alone else {**CLEANING["unlearn"], "lr": rate_for(ALWAYS["lr"], parameters)}


LABELLED = ("FineTune", "FTSAM", "IBAU")  # methods that fine-tune on labels
# Their dataset options: neither mixtures nor pasted samples have one.
COMPARED: dict[str, Any] = {"mix": 0.0, "paste": 0.0}


def fine_tune(*, parameters: int, **_: Any) -> dict[str, Any]:
    """Choose FineTune's options: samples and rate of DELETE."""
    return {**STEPS, "norm_eval": True, "lr": rate_for(ALWAYS["lr"], parameters)}


# FTSAM and IBAU as in BackdoorBench, which gives them 100 epochs and 5 rounds of 2,500 images in batches of 256.
SAM = {"type": "SGD", "momentum": 0.9, "weight_decay": 5e-4}
RECIPES = Recipes(
    {
        "DELETE": delete,
        "InversionDELETE": delete,
        "FineTune": fine_tune,
        "FTSAM": {"steps": 400, "batch_size": 10, "schedule": "cosine", "norm_eval": False, "optimizer": SAM},
        "IBAU": {"steps": 20, "batch_size": 10, "schedule": "constant", "optimizer": {"type": "Adam"}},
    }
)
