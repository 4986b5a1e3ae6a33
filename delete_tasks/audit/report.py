"""Table and sentences of an audit."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from ..display.table import Table, row_title
from ..evaluation.metric import Measured
from .attack import Attack
from .depth import retrained_names
from .results import MODELS, Audit

SHORT = {"logit_cut": "cut", "head_only": "head"}  # for a terminal's width


def markdown(audit: Audit) -> str:
    """Format the table as Markdown, with intervals, and over several retrained models their range and the range of their depths
    (each against their mean)."""
    models, count = [name for name in MODELS if name in audit.rows], len(retrained_names(audit.rows))
    columns = {0: [], 1: ["retrained", "depth"]}.get(
        count, ["retrained, mean", "range", "depth", "depths of the retrained"]
    )
    table = Table([*map(row_title, models), "95% interval", *columns], first="attack")
    for attack in audit.attacks:
        digits, unit = _digits(attack), "" if attack.unit == "percent" else f" ({attack.unit})"
        cells, retrained, mean, depth = _cells(audit, attack, models)
        cells.append(_range(audit.rows["erased"][attack.name].interval or (), digits))
        if count == 1:
            cells += [_figure(mean, digits), _figure(depth, 2)]
        if count > 1:
            original = audit.rows["original"][attack.name].value
            complete = depth is not None and original is not None and mean is not None
            depths = [(original - value) / (original - mean) for value in retrained] if complete else []  # type: ignore[operator]
            cells += [_figure(mean, digits), _range(retrained, digits), _figure(depth, 2), _range(depths, 2)]
        table.add(f"{attack.column}{unit}", cells)
    return table.to_markdown() + "\n"


def show(audit: Audit, console: Console, wide: bool = False) -> None:
    """Print the table and the reasons for missing figures."""
    models = [name for name in MODELS if name in audit.rows]
    columns = [*(SHORT.get(name, name) for name in models), "retrained", "depth", "chance", "range"]
    table = Table(
        columns, "attack", f"Attacks: what can still be read of {', '.join(audit.names[i] for i in audit.ids)}"
    )
    reasons: dict[str, list[str]] = {}
    for attack in audit.attacks:
        digits, erased = _digits(attack), audit.rows["erased"][attack.name]
        cells, retrained, mean, depth = _cells(audit, attack, models)
        cells += [_figure(mean, digits), _figure(depth, 2)]
        cells.append(_figure(audit.chance[attack.name], digits) if any(cells) else None)
        table.add(str(attack.column), [*cells, _range(retrained, digits) if len(retrained) > 1 else None])
        if erased.value is None:
            reasons.setdefault(erased.note or "the reason is unknown", []).append(str(attack.column))
    notes = {depth.note for depth in audit.depth.values()}
    if len(notes) == 1 and all(depth.value is None and depth.note for depth in audit.depth.values()):
        reasons.setdefault(str(notes.pop()), []).append("depth")
    table.show(console, wide, hint="--wide shows them; audit.json holds all")
    for reason, columns in reasons.items():
        console.print(Text(f"NOT MEASURED: {', '.join(columns)}, because {reason.rstrip('.')}."))


def _digits(attack: Attack) -> int:
    return 1 if attack.unit in ("percent", "points") else 3


def _cells(
    audit: Audit, attack: Attack, models: Sequence[str]
) -> tuple[list[str | None], list[float], float | None, float | None]:
    """Return the models' cells of an attack, the retrained models' values and their mean, and the depth."""
    cells = [_figure(audit.rows[name][attack.name].value, _digits(attack)) for name in models]
    values = (audit.rows[name][attack.name].value for name in retrained_names(audit.rows))
    retrained = [value for value in values if value is not None]
    mean = float(np.mean(retrained)) if retrained else None
    return cells, retrained, mean, audit.depth.get(attack.name, Measured()).value


def _figure(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _range(values: Sequence[float], digits: int) -> str | None:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else None
