"""Recipes of backdoored classifiers: ``unlearn``, dataset, hooks; chosen on images that no run reads (docs/notes/backdoor.md)."""

from typing import Any

from delete_images.recipes import rate_for
from delete_tasks.task import Recipes

CLEANING: dict[str, Any] = {
    "unlearn": {
        "steps": 4800,
        "batch_size": 1,
        "lr": 2e-3,
        "schedule": "cosine",
        "norm_eval": True,
        "forgetting_only": True,
        "temperature": 2.0,
        "feature_distillation": 3.0,
    },
    "dataset": {"mix": 1.0, "held": 0.2, "augment_poisoned": False, "retain_each": 11, "paste": 0.45},
    "hooks": [{"type": "BackdoorWatch", "interval": 240, "agreement": 90.0, "target_kept": 60.0, "restart": 85.0}],
}
# Fewer and larger steps at half the rate, without a retain set (strict mode): there, more cost agreement with the original.
FEWER: dict[str, Any] = {"steps": 1200, "batch_size": 3, "lr": 1e-3}
FEWER_PASTED = 0.3
LABELLED = ("FineTune", "FTSAM", "IBAU")  # methods that fine-tune on labels


def dataset_options(method: str, strict: bool) -> dict[str, Any]:
    """Choose the dataset's options; neither mixtures nor pasted samples have a label."""
    if method in LABELLED:
        return {**CLEANING["dataset"], "mix": 0.0, "paste": 0.0}
    return CLEANING["dataset"] | ({"paste": FEWER_PASTED} if strict or method == "InversionDELETE" else {})


def delete(*, parameters: int, strict: bool = False, **_: Any) -> dict[str, Any]:
    """Choose DELETE's options; the rate depends on the number of parameters."""
    options = CLEANING["unlearn"] | (FEWER if strict else {})
    return {**options, "lr": rate_for(options["lr"], parameters)}


def fine_tune(*, parameters: int, **_: Any) -> dict[str, Any]:
    """Choose FineTune's options: the steps and rate of DELETE in strict mode."""
    return {**FEWER, "norm_eval": True, "schedule": "cosine", "lr": rate_for(FEWER["lr"], parameters)}


# FTSAM and IBAU as in BackdoorBench, which gives them 100 epochs and 5 rounds of 2,500 images in batches of 256.
SAM = {"type": "SGD", "momentum": 0.9, "weight_decay": 5e-4}
RECIPES = Recipes(
    {
        "DELETE": delete,
        "InversionDELETE": lambda **facts: delete(**{**facts, "strict": True}),
        "FineTune": fine_tune,
        "FTSAM": {"steps": 400, "batch_size": 10, "schedule": "cosine", "norm_eval": False, "optimizer": SAM},
        "IBAU": {"steps": 20, "batch_size": 10, "schedule": "constant", "optimizer": {"type": "Adam"}},
    }
)
