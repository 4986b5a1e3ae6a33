"""Recipes of face networks: options of ``unlearn``, chosen on other people and photos than the figures' (docs/notes/faces.md)."""

from typing import Any

from delete_images.recipes import SGD
from delete_tasks.task import Recipes

# Options of every run, beside those of images, unless its recipe or the user sets others.
BASE = {"steps": 200, "batch_size": 16}
BOUNDARY = {"lr": 1e-3, "optimizer": SGD, "steps": 60}

# By head, for one person; with n people a step holds one n-th as many photos of each.
RATES = {"cosine": 1e-2, "linear": 1e-1}
STOPS = {"cosine": 0.01, "linear": 0.03}
# After a projection, steps help only heads that still name the person.
PROJECTED_STOP = 0.5


def delete(*, head: str, people: int, directions: int = 0, **_: Any) -> dict[str, Any]:
    """Choose DELETE's options: SGD, whose steps shrink with the gradient; Adam's bring forgotten photos together elsewhere."""
    stop = {"ratio": PROJECTED_STOP if directions else STOPS[head], "window": 3}
    return {"optimizer": {"type": "SGD"}, "schedule": "constant", "lr": RATES[head] * people, "stop": stop}


# Functions get `head`, 'cosine' or 'linear'; `people`, the number to forget; `directions` per person that are projected out.
RECIPES = Recipes(
    # Flat: all others are about equally likely. A sharp target sends a person's photos towards the few people most like them, and
    # there they match each other as before; with a flat target they only lose what they have in common.
    teacher_temperature=50.0,
    methods={
        "DELETE": delete,
        "TREW": delete,
        "DeepDELETE": "it does not generalise from a person's few photos to others, and the projection removes more "
        "(docs/notes/deep.md, Faces)",
        "HeadOnly": {"teacher_temperature": 0.25},
        "BoundaryShrink": BOUNDARY,
        "NegativeGradient": {"steps": 60},
        "Projection": {"steps": 10},
        "RandomLabel": {"lr": 1e-4, "steps": 60},
    },
)
