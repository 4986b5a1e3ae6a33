"""Strings that name a trigger, ``NAME[:KEY=VALUE,KEY=VALUE...]``: keys, types and defaults are those of its constructor."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from delete_tasks.declared import Declared, describe, read_declared
from delete_tasks.plugins import offered

# Types that a trigger's constructor writes (with `from __future__ import annotations`, so that their names are kept).
File = str  # the name of a file
Place = tuple[int, int]  # row and column

GROUP = "triggers"  # of entry points: delete_tasks.triggers
DECORATOR = "register_trigger"


def _read_place(value: str) -> Place:
    row, column = value.split(",")
    return int(row), int(column)


# Type -> how its text is read, what is expected of the text, how it stands in help where there is no default.
READERS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "int": (int, "a whole number", "N"),
    "float": (float, "a number", "X"),
    "str": (str, "text", "TEXT"),
    "File": (str, "a file", "FILE"),
    "Place": (_read_place, "ROW,COLUMN", "ROW,COLUMN"),
    "tuple[int, int]": (_read_place, "ROW,COLUMN", "ROW,COLUMN"),
}


def type_of(annotation: str) -> str:
    """The type that an annotation names, without ``| None``; it is not said whether :data:`READERS` has it."""
    return re.sub(r"^Optional\[(.*)\]$|( \| None)$", r"\1", annotation)


def usage(name: str, declared: Declared) -> str:
    """A trigger's string with all of its options: what is needed first, then, in brackets, what has a default."""
    needed: list[str] = []
    others: list[str] = []
    for key, parameter in declared.parameters.items():
        value = parameter.default
        if value is parameter.empty or value is None:
            text = READERS[type_of(parameter.annotation)][2]
        elif isinstance(value, tuple):
            text = ",".join(map(str, value))
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        (needed if value is parameter.empty else others).append(f"{key}={text}")
    start = ":" + ",".join(needed) if needed else ""
    return f"{name}{start}" + (f"[{',' if needed else ':'}{','.join(others)}]" if others else "")


def known_triggers() -> Mapping[str, Declared]:
    """All triggers by name, in order; as their files say where :mod:`delete_backdoor.triggers` is not loaded."""
    loaded = sys.modules.get("delete_backdoor.triggers")
    if loaded is None:
        classes = read_declared(Path(__file__).with_name("triggers")).values()
        found = {one.decorators[DECORATOR][0]: one for one in classes if DECORATOR in one.decorators}
    else:
        found = {name: describe(cls) for name, cls in loaded.TRIGGERS.items()}
    return dict(sorted(found.items()))


def trigger_usages() -> str:
    """How each trigger is written, in one line."""
    return " | ".join([*(usage(name, declared) for name, declared in known_triggers().items()), *_not_loaded()])


def trigger_table() -> str:
    """How each trigger is written and what it is, a paragraph each."""
    rows = [f"{usage(name, declared)} - {declared.help}" for name, declared in known_triggers().items()]
    return "\n\n".join([*rows, *_not_loaded()])


def _not_loaded() -> list[str]:
    known = known_triggers()
    return [f"{name} (of {module})" for name, module in offered(GROUP).items() if name not in known]
