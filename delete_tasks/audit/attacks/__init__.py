"""One attack, or a few that read the same thing, a module: its ``ATTACKS``, and pure functions of features, logits, labels."""

from __future__ import annotations

import importlib
import pkgutil

from ..attack import LEVELS, Attack


def find_attacks(level: str = "full") -> list[Attack]:
    """Collect the attacks of a level: those that read the class first, of these the percentages of features alone; then by file.

    Args:
        level: 'quick' or 'full'.
    """
    found: list[Attack] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        found += importlib.import_module(f"{__name__}.{module}").ATTACKS
    chosen = [attack for attack in found if LEVELS.index(attack.level) <= LEVELS.index(level)]
    return sorted(chosen, key=lambda one: (not one.reads, one.unit != "percent", not one.of_features))
