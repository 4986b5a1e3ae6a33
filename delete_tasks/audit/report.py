"""The table and the sentences of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from ..display.table import Table, row_title
from ..evaluation.metric import Measured
from .attack import Attack
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
    """Write the table as Markdown, with intervals, the range over retrained models, and how far a depth of 1 spreads among them:
    each one's against their mean."""
    models, count = [name for name in MODELS if name in audit.rows], len(retrained_names(audit.rows))
    more = {0: [], 1: ["retrained", "depth"]}
    columns = more.get(count, ["retrained, mean", "range", "depth", "depths of the retrained"])
    table = Table([*map(row_title, models), "95% interval", *columns], first="attack")
    for attack in audit.attacks:
        digits, unit = _digits(attack), "" if attack.unit == "percent" else f" ({attack.unit})"
        retrained, depth = _of_retrained(audit, attack), audit.depth.get(attack.name, Measured()).value
        original, mean = audit.rows["original"][attack.name].value, float(np.mean(retrained)) if retrained else None
        cells = [_figure(audit.rows[name][attack.name].value, digits) for name in models]
        cells.append(_range(audit.rows["erased"][attack.name].interval or (), digits))
        if count == 1:
            cells += [_figure(mean, digits), _figure(depth, 2)]
        if count > 1:
            known = depth is not None and original is not None and mean is not None
            depths = [(original - one) / (original - mean) for one in retrained] if known else []  # type: ignore[operator]
            cells += [_figure(mean, digits), _range(retrained, digits), _figure(depth, 2), _range(depths, 2)]
        table.add(f"{attack.column}{unit}", cells)
    return table.to_markdown() + "\n"


def show(audit: Audit, console: Console, wide: bool = False) -> None:
    """Print the table, the verdict and what was not measured."""
    models = [name for name in MODELS if name in audit.rows]
    columns = [*(SHORT.get(name, name) for name in models), "retrained", "depth", "chance", "range"]
    table = Table(columns, "attack", f"What is still read of {', '.join(audit.names[i] for i in audit.ids)}")
    for attack in audit.attacks:
        digits, retrained = _digits(attack), _of_retrained(audit, attack)
        cells = [_figure(audit.rows[name][attack.name].value, digits) for name in models]
        cells.append(_figure(float(np.mean(retrained)) if retrained else None, digits))
        cells.append(_figure(audit.depth.get(attack.name, Measured()).value, 2))
        cells.append(_figure(audit.chance[attack.name], digits) if any(cells) else None)
        table.add(str(attack.column), [*cells, _range(retrained, digits) if len(retrained) > 1 else None])
    table.show(console, wide, hint="--wide shows them; audit.json holds all")
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


def _digits(attack: Attack) -> int:
    return 1 if attack.unit in ("percent", "points") else 3


def _of_retrained(audit: Audit, attack: Attack) -> list[float]:
    values = [audit.rows[name][attack.name].value for name in retrained_names(audit.rows)]
    return [value for value in values if value is not None]


def _figure(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _range(values: Sequence[float], digits: int) -> str | None:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else None
