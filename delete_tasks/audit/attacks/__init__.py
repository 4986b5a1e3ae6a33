"""Attacks: each module lists related ones in ``ATTACKS``, made of pure functions of features, logits and labels. Those of other
packages are entry points of the group ``delete_tasks.attacks``."""

import importlib
import pkgutil

from ...plugins import load_offered
from ..attack import LEVELS, Attack


def find_attacks(level: str = "full") -> list[Attack]:
    """Collect the attacks of a level ('quick' or 'full'): first readers, of these percentages of features; then by module."""
    attacks: list[Attack] = []
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        attacks += importlib.import_module(f"{__name__}.{module}").ATTACKS
    attacks += load_offered("attacks", "ATTACKS")
    chosen = [attack for attack in attacks if LEVELS.index(attack.level) <= LEVELS.index(level)]
    return sorted(chosen, key=lambda attack: (not attack.reads, attack.unit != "percent", not attack.of_features))
