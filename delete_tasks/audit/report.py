"""The table and the sentences of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from ..evaluation.metric import Measured
from ..evaluation.table import row_title, show_table
from .depth import HIDDEN, RETRAINED, UNKNOWN, WEAKENED, retrained_names
from .results import MODELS, Audit

SHORT = {"logit_cut": "cut", "head_only": "head"}  # for a terminal's width

HEADLINES = {
    HIDDEN: "HIDDEN, NOT FORGOTTEN: every attack on the features reads as much as before",
    WEAKENED: "WEAKENED: attacks on the features read less than before",
    RETRAINED: "AS A RETRAINED MODEL: no attack on the features reads more than of a model that never saw the classes",
    UNKNOWN: "NOT MEASURED: no attack could read the features",
}


def headline(verdict: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    if verdict["word"] == UNKNOWN and verdict["of"] is not None:
        return f"NOT MEASURED: no attack tells the original from a retrained model ({verdict['sentence']})."
    if verdict["word"] == UNKNOWN and verdict["sentence"] is not None:
        return f"NOT MEASURED: {verdict['sentence']}."
    said = "" if verdict["sentence"] is None else f" ({verdict['sentence']})"
    return f"{HEADLINES[verdict['word']]}{said}."


def markdown(audit: Audit) -> str:
    """The table with intervals, the range over retrained models, and how far a depth of 1 spreads among them: each one's against
    their mean."""
    models, retrained = [name for name in MODELS if name in audit.rows], retrained_names(audit.rows)
    columns = ["attack", *map(row_title, models), "95% interval"]
    columns += {0: [], 1: ["retrained", "depth"]}.get(
        len(retrained), ["retrained, mean", "range", "depth", "depths of the retrained"]
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for attack in audit.attacks:
        digits = 1 if attack.unit in ("percent", "points") else 3
        figures = {name: audit.rows[name][attack.name] for name in (*models, *retrained)}

        def told(value: float | None, places: int = digits) -> str:
            return "-" if value is None else f"{value:.{places}f}"

        def between(values: Sequence[float], places: int = digits) -> str:
            return f"{told(min(values), places)} to {told(max(values), places)}" if values else "-"

        unit = "" if attack.unit == "percent" else f" ({attack.unit})"
        parts = [f"{attack.column}{unit}", *(told(figures[name].value) for name in models)]
        parts.append(between(figures["erased"].interval or ()))
        if retrained:
            known = [value for value in (figures[name].value for name in retrained) if value is not None]
            deep = audit.depth.get(attack.name, Measured())
            parts.append(told(float(np.mean(known)) if known else None))
            parts += [between(known)] if len(retrained) > 1 else []
            parts.append(told(deep.value, 2))
        if len(retrained) > 1:
            original, mean = figures["original"].value, float(np.mean(known)) if known else None
            alike = deep.value is None or original is None or mean is None
            parts.append("-" if alike else between([(original - one) / (original - mean) for one in known], 2))  # type: ignore[operator]
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join([*lines, ""])


def cells(audit: Audit, models: Sequence[str]) -> dict[str, list[str | None]]:
    """Cells of the table by attack: each model, then the mean of retrained ones, depth, chance and the retrained ones' range."""
    retrained = retrained_names(audit.rows)
    found = {}
    for attack in audit.attacks:
        digits = 1 if attack.unit in ("percent", "points") else 3
        values = [audit.rows[name][attack.name].value for name in models]
        others = [v for v in (audit.rows[name][attack.name].value for name in retrained) if v is not None]
        deep, chance = audit.depth.get(attack.name), audit.chance[attack.name]
        row = [None if value is None else f"{value:.{digits}f}" for value in values]
        row.append(f"{np.mean(others):.{digits}f}" if others else None)
        row.append(None if deep is None or deep.value is None else f"{deep.value:.2f}")
        row.append(None if chance is None or not any(row) else f"{chance:.{digits}f}")
        row.append(f"{min(others):.{digits}f} to {max(others):.{digits}f}" if len(others) > 1 else None)
        found[str(attack.column)] = row
    return found


def show(audit: Audit, console: Console, wide: bool = False) -> None:
    """Print the table, the verdict and what was not measured."""
    models = [name for name in MODELS if name in audit.rows]
    titles = [SHORT.get(name, name) for name in models]
    columns = [(title, False) for title in (*titles, "retrained", "depth", "chance", "range")]
    who = ", ".join(audit.names[i] for i in audit.ids)
    title = f"What is still read of {who}"
    show_table(console, title, columns, cells(audit, models), wide, first="attack", whole="audit.json")
    console.print(Text(headline(audit.verdict)))
    reasons: dict[str, list[str]] = {}
    for attack in audit.attacks:
        found = audit.rows["erased"][attack.name]
        if found.value is None:
            reasons.setdefault(found.note or "no reason is known", []).append(str(attack.column))
    for reason, which in reasons.items():
        console.print(Text(f"NOT MEASURED: {', '.join(which)}, because {reason.rstrip('.')}."))
    without = {one.note for one in audit.depth.values() if one.value is None and one.note}
    if audit.depth and all(one.value is None for one in audit.depth.values()) and len(without) == 1:
        console.print(Text(f"NOT MEASURED: depth, because {next(iter(without))}."))
