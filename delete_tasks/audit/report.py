"""Tables of an audit."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from ..display.table import Table, row_title
from ..evaluation.metric import Measured
from .attack import GROUPS, Attack
from .results import MODELS, Audit, retrained_names

SHORT = {"logit_cut": "cut", "head_only": "head"}  # for a terminal's width
HIGHER, NEITHER = "↑", "↕"  # marks of figures of which a higher one is better, or neither


def markdown(audit: Audit) -> str:
    """Format a table of each group as Markdown, with intervals and chance, and over several retrained models their range and the
    range of their depths (each against their mean)."""
    models, count = [name for name in MODELS if name in audit.rows], len(retrained_names(audit.rows))
    several = ["retrained, mean", "range", "depth", "depths of the retrained"]
    columns = {0: [], 1: ["retrained", "depth"]}.get(count, several)
    texts = []
    for title, attacks in _groups(audit):
        table = Table([*map(row_title, models), "95% interval", "chance", *columns], first="attack")
        for attack in attacks:
            line = _Line(audit, attack)
            cells = [line.figure(name) for name in models]
            cells += [line.range(line.interval), line.text(line.chance)]
            if count == 1:
                cells += [line.text(line.mean), line.text(line.depth, 2)]
            if count > 1:
                depths = line.depths()
                span = f"{min(depths):.2f} to {max(depths):.2f}" if depths else None
                cells += [line.text(line.mean), line.range(line.retrained, " to "), line.text(line.depth, 2), span]
            table.add(line.title, cells)
        texts.append(f"{title}.\n\n{table.to_markdown()}\n")
    return "\n".join(texts)


def show(audit: Audit, console: Console, wide: bool = False) -> None:
    """Print a table of each group, and the reasons for missing figures."""
    models = [name for name in MODELS if name in audit.rows and name not in ("original", "erased")]
    reasons: dict[str, list[str]] = {}
    for title, attacks in _groups(audit):
        columns = ["original", "erased", "interval", "retrained", "chance", "depth"]
        table = Table([*columns, *(SHORT.get(name, name) for name in models), "range"], "attack", title)
        for attack in attacks:
            line, erased = _Line(audit, attack), audit.rows["erased"][attack.name]
            cells = [line.figure("original"), line.figure("erased"), line.range(line.interval), line.text(line.mean)]
            cells += [
                line.text(line.chance) if any(cells) else None,
                line.text(line.depth, 2),
                *map(line.figure, models),
            ]
            table.add(line.title, [*cells, line.range(line.retrained) if len(line.retrained) > 1 else None])
            if erased.value is None:
                reasons.setdefault(erased.note or "the reason is unknown", []).append(str(attack.column))
        table.show(console, wide, wrap=True, hint="--wide shows them; audit.json holds all")
    notes = {depth.note for depth in audit.depth.values()}
    if len(notes) == 1 and all(depth.value is None and depth.note for depth in audit.depth.values()):
        reasons.setdefault(str(notes.pop()), []).append("depth")
    for reason, columns in reasons.items():
        console.print(Text(f"NOT MEASURED: {', '.join(columns)}, because {reason.rstrip('.')}."))


def _groups(audit: Audit) -> list[tuple[str, list[Attack]]]:
    groups = []
    for name, title in GROUPS.items():
        attacks = [attack for attack in audit.attacks if attack.group == name]
        marks = {_mark(attack) for attack in attacks}
        words = {HIGHER: "higher is better", NEITHER: "neither is"}
        listed = [f"{mark} {text}" for mark, text in words.items() if mark in marks]
        if name != "readers":
            title += f"; lower is better{', '.join(['', *listed])}"
        if attacks:
            groups.append((title, attacks))
    return groups


def _mark(attack: Attack) -> str:
    return NEITHER if not attack.directed else "" if attack.lower_is_better else HIGHER


class _Line:
    """Line of an attack: figures by model, or as :attr:`Attack.ratio` if it has one and depth is known."""

    def __init__(self, audit: Audit, attack: Attack) -> None:
        self.values = {name: row[attack.name].value for name, row in audit.rows.items()}
        self.interval: Sequence[float] = audit.rows["erased"][attack.name].interval or ()
        self.depth, self.chance = audit.depth.get(attack.name, Measured()).value, audit.chance[attack.name]
        unit, title, original, mean = attack.unit, str(attack.column), self.values.get("original"), self.mean
        self.digits = 1 if unit in ("percent", "points") else 3
        if attack.ratio is not None and self.depth is not None and original is not None and mean is not None:
            self.values = {
                name: None if value is None else (value - mean) / (original - mean)
                for name, value in self.values.items()
            }
            self.interval, self.chance = (), None
            unit, self.digits, title = "ratio", 2, attack.ratio
        mark = _mark(attack)
        self.title = f"{title}{'' if unit == 'percent' or unit in title else f', {unit}'}{f' {mark}' if mark else ''}"

    @property
    def retrained(self) -> list[float]:
        """Figures of the retrained models."""
        return [value for name in retrained_names(self.values) if (value := self.values[name]) is not None]

    @property
    def mean(self) -> float | None:
        """Mean of the retrained models."""
        return float(np.mean(self.retrained)) if self.retrained else None

    def depths(self) -> list[float]:
        """Return the depth of each retrained model against their mean; empty if depth is unknown."""
        original, mean = self.values.get("original"), self.mean
        if self.depth is None or original is None or mean is None:
            return []
        return [(original - value) / (original - mean) for value in self.retrained]

    def text(self, value: float | None, digits: int | None = None) -> str | None:
        return None if value is None else f"{value:.{self.digits if digits is None else digits}f}"

    def figure(self, name: str) -> str | None:
        return self.text(self.values.get(name))

    def range(self, values: Sequence[float], between: str = "–") -> str | None:
        return f"{min(values):.{self.digits}f}{between}{max(values):.{self.digits}f}" if values else None
