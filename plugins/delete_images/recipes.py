"""Default options of ``unlearn`` for image classifiers, and for dense models in memory. Those of our methods were chosen on
held-out training images with a ResNet-20 and a ResNet-18 (docs/notes/images.md, deep.md); those of others are their authors'."""

from typing import Any

from delete_tasks.task import Recipes

# Options of all runs of classifiers unless a recipe or the user sets others; AdamW's rate is the method's.
BASE: dict[str, Any] = {"steps": 100, "batch_size": 128, "optimizer": {"type": "AdamW"}, "schedule": "cosine"}
SGD = {"type": "SGD", "momentum": 0.9}
BOUNDARY = {"steps": 780, "batch_size": 64, "optimizer": SGD, "schedule": "constant"}  # 10 epochs of 5,000 images

# See delete_tasks.methods.guard; losses on the features of other images move predictions more before they settle.
GUARD, DEEP_GUARD = 0.75, 0.5
SHORT = 300  # steps; features take longer, so that shorter runs are DELETE's by default
SMALL_NETWORK = 300_000  # parameters; recipes up to this size are those of a ResNet-20


def rate_for(rate: float, parameters: int, power: float = 0.8) -> float:
    """Scale a learning rate for a ResNet-20 (0.27 million parameters) to a network with more ``parameters``, whose smaller
    weights AdamW changes by as much. The power fits a ResNet-18; methods that were measured on both have their own power."""
    return rate * min(1.0, (SMALL_NETWORK / max(1, parameters)) ** power)


def fitted(options: dict[str, Any], steps: int | None) -> dict[str, Any]:
    """Lower the rate of ``options`` in proportion to fewer ``steps``: at full rate the first do harm that later ones repair."""
    own = options.get("steps", BASE["steps"])
    shorter = isinstance(steps, int) and 0 < steps < own  # what is no number of steps is refused with the other options
    return {**options, "lr": options["lr"] * steps / own} if shorter else options


def delete(*, parameters: int, views: str, steps: int | None = None, **_: Any) -> dict[str, Any]:
    """Choose DELETE's options. The target is not sharpened, which costs others least on strong views (docs/notes/images.md)."""
    if views in ("plain", "none"):
        return fitted({"lr": rate_for(2e-4, parameters)}, steps)
    options = {"steps": 300, "batch_size": 64, "lr": rate_for(1e-4, parameters), "teacher_temperature": 1.0}
    return fitted({**options, "guard": GUARD}, steps)


def trew(**facts: Any) -> dict[str, Any]:
    """Choose TREW's options: DELETE's, but for its own target, with which the original does not agree."""
    return {name: value for name, value in delete(**facts).items() if name not in ("guard", "teacher_temperature")}


def deep(*, parameters: int, beside: bool, steps: int | None = None, **_: Any) -> dict[str, Any]:
    """Choose DeepDELETE's options; ``beside``: with other images. Without them, features held at the original's and a sharpened
    target pull apart (docs/notes/deep.md). With them, a ResNet-18 lost hardly any accuracy at 2e-4, and nearly all at 5e-4."""
    options: dict[str, Any] = {"batch_size": 64, "schedule": "warmup_cosine", "feature_distillation": 30.0}
    if not beside:
        options |= {"steps": 600, "lr": rate_for(4e-4, parameters, power=0.45), "guard": GUARD}
        options |= {"temperature": 4.0, "teacher_temperature": 1.0, "likeness": 30.0, "earlier": 20.0}
        return fitted(options, steps)
    options |= {"steps": 900, "lr": rate_for(1e-3, parameters, power=0.45), "guard": DEEP_GUARD}
    return fitted({**options, "temperature": 3.0, "likeness": 20.0, "earlier": 12.0}, steps)


# Functions get the number of `parameters`, the `views` of the forget set, `beside`, see deep(), and `steps` that the user chose.
RECIPES = Recipes(
    teacher_temperature=0.25,
    methods={
        "DELETE": delete,
        "TREW": trew,
        "DeepDELETE": deep,
        "BadTeacher": {"norm_eval": False, "optimizer": {"type": "Adam"}, "schedule": "constant"},
        "BoundaryShrink": BOUNDARY,
        "Projection": {"steps": 20},
        "SalUn": {"steps": 200, "norm_eval": False, "optimizer": SGD},
        "SCRUB": {"steps": 200, "norm_eval": False, "optimizer": {"type": "Adam"}},
    },
)

# `--preset` replaces the whole recipe by one of these.
PRESETS: dict[str, dict[str, Any]] = {
    # The paper's loop, 20 epochs of 5,000 images; its code masks each image's own label alone.
    "paper": {
        "type": "DELETE",
        "augment": "plain",
        "steps": 780,
        "batch_size": 128,
        "optimizer": {**SGD, "lr": 1e-4},
        "schedule": "constant",
        "masking": "own",
        "norm_eval": False,
        "teacher_temperature": 1.0,
    },
}

# Models with logits at many locations, as for segmentation: docs/notes/segmentation.md.
DENSE_BASE: dict[str, Any] = {"steps": 200, "batch_size": 4}
DENSE_RECIPES = Recipes({"DELETE": {"lr": 1e-4}, "DeepDELETE": {}})
