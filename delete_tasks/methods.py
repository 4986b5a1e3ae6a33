"""Which unlearning methods there are, for help and completion: names and a line each, without loading torch for it."""

from __future__ import annotations

import sys
from pathlib import Path

from .declared import Declared, describe, read_declared
from .plugins import offered

GROUP = "methods"  # of entry points: delete_tasks.methods
BASE, DECORATOR = "UnlearnHook", "HOOKS.register_module"  # of a method's class in its file
DEFAULT = "DELETE"


def known_methods(retain: bool = True) -> dict[str, Declared]:
    """The registered methods by name, the default first; as their files say where :mod:`delete_tasks.hooks` is not loaded.

    Args:
        retain: Whether there may be a retain set; without, methods that learn from nothing else are left out.
    """
    if "delete_tasks.hooks.unlearn" in sys.modules:
        from mmengine.registry import HOOKS

        from .hooks.unlearn import UnlearnHook

        kinds = {name: cls for name, cls in HOOKS.module_dict.items() if isinstance(cls, type)}
        found = {name: describe(cls) for name, cls in kinds.items() if issubclass(cls, UnlearnHook)}
    else:
        classes = read_declared(Path(__file__).with_name("hooks"))
        found = {name: one for name, one in classes.items() if DECORATOR in one.decorators and BASE in one.bases}
    return {
        name: one
        for name, one in sorted(found.items(), key=lambda item: (item[0] != DEFAULT, item[0]))
        if retain or not one.values["needs_retain_set"]
    }


def method_help(retain: bool = True) -> str:
    """A paragraph for each method; arguments as :func:`known_methods`."""
    known = known_methods(retain)
    others = [f"{name} (of {module})." for name, module in offered(GROUP).items() if name not in known]
    return "\n\n".join([*(f"{name}: {one.help}" for name, one in known.items()), *others, f"[default: {DEFAULT}]"])
