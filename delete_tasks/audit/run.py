"""Work of ``delete-tasks audit``: from models and data to audit.json, the tables and the pictures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from ..display.table import Table, row_title
from ..display.terminal import make_console, short
from ..evaluation.metric import Measured
from ..fileio.atomic import save_json, save_text
from ..fileio.environment import code_version, environment, plain
from ..fileio.workdir import WorkDir
from ..task import open_models
from .attack import GROUPS, Attack
from .pictures import draw_pictures
from .results import FORMAT, MODELS, VERSION, Audit, measure, names_of, with_cut_logit
from .samples import read_all
from .verdict import headline

RESULTS, TABLE = "audit.json", "audit.md"


def run(options: Mapping[str, Any], data: Mapping[str, str | None], work: WorkDir) -> None:
    """Attack the models with the data ('forget', 'train', 'test'), and write audit.json, audit.md and pictures into
    the work dir; raise :class:`RequestError` if no task takes the models, data cannot be read or a class is unknown."""
    retrained = list(options["retrained"])
    paths = {name: options[name] for name in ("original", "head_only") if options.get(name) is not None}
    paths |= {"erased" if i == 1 else f"erased_{i}": path for i, path in enumerate(options["erased"], 1)}
    models = {"head_only": None, **paths, "retrained": retrained}
    paths |= {"retrained" if len(retrained) == 1 else f"retrained_{i}": path for i, path in enumerate(retrained, 1)}
    splits = {name: text for name, text in data.items() if text is not None}
    task, opened = open_models(paths, splits, options, "an audit")
    work.retire()  # so that the same audit is not done again without --overwrite
    console, folder, begin = make_console(), Path(options["work_dir"]), time.monotonic()
    predictions, stages = read_all(opened, options["level"] == "full")
    read = time.monotonic() - begin
    rows = with_cut_logit(predictions, opened.ids)
    audit = measure(rows, opened.ids, opened.names, options["level"])
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "task": task.name,
        "level": options["level"],
        "models": models,
        "data": dict(data),
        "samples": {split: len(each.labels) for split, each in predictions["original"].items() if split != "context"},
        "samples_are": opened.of,
        "duplicates": list(map(asdict, opened.copies)),
        "stages": stages,
        **audit.json(),
        "verdict": dict(audit.verdict),
        "further_verdicts": {name: dict(verdict) for name, verdict in audit.further.items()},
        "code": code_version(),
        "environment": environment(opened.models["original"].device),
    }
    begin = time.monotonic()
    content["pictures"], reasons = draw_pictures(audit, rows, folder)
    content["not_measured"] |= reasons
    drawn = time.monotonic() - begin
    content["seconds"] = {"reading": round(read, 1), "attacks": round(audit.seconds, 1), "pictures": round(drawn, 1)}
    save_text(markdown(audit), folder / TABLE)
    save_json(plain(content), folder / RESULTS)
    show(audit, console, bool(options["wide"]))
    for name, reason in content["not_measured"].items():
        console.print(Text(f"NOT MEASURED: {name}, because {reason.rstrip('.')}."))
    written = ", ".join(short(folder / name) for name in (RESULTS, TABLE, *content["pictures"]))
    console.print(Text(f"Written: {written}"))
    for name, verdict in {"": audit.verdict, **audit.further}.items():
        console.print(Text(f"Verdict{f' of {row_title(name)}, {models[name]}' if name else ''}: {headline(verdict)}"))


SHORT = {"logit_cut": "cut", "head_only": "head"}  # for a terminal's width
HIGHER, NEITHER = "↑", "↕"  # marks of figures of which a higher one is better, or neither


def markdown(audit: Audit) -> str:
    """Format each group's table as Markdown, with ranges of several retrained models, and of their depths against their mean."""
    titles = {name: row_title(name) for name in (*MODELS, *audit.further) if name in audit.rows}
    titles |= {"interval": "95% interval", "chance": "chance"}
    if (count := len(names_of("retrained", audit.rows))) == 1:
        titles |= {"mean": "retrained", "depth": "depth"}
    elif count:
        titles |= {"mean": "retrained, mean", "range": "range", "depth": "depth", "depths": "depths of the retrained"}
    texts = []
    for title, attacks in _groups(audit):
        table = Table(titles.values(), first="attack")
        for attack in attacks:
            name, cells = _line(audit, attack, " to ")
            table.add(name, [cells.get(key) for key in titles])
        texts.append(f"{title}.\n\n{table.to_markdown()}\n")
    return "\n".join(texts)


def show(audit: Audit, console: Console, wide: bool = False) -> None:
    """Print a table of each group, and the reasons for missing figures."""
    models = [name for name in MODELS if name in audit.rows and name not in ("original", "erased")]
    read = ["original", "erased", "interval", *audit.further, "mean"]
    titles = [*read[:3], *map(row_title, audit.further), "retrained", "chance", "depth"]
    reasons: dict[str, list[str]] = {}
    for title, attacks in _groups(audit):
        table = Table([*titles, *(SHORT.get(name, name) for name in models), "range"], "attack", title)
        for attack in attacks:
            (name, cells), erased = _line(audit, attack), audit.rows["erased"][attack.name]
            if not any(cells.get(key) for key in read):
                cells["chance"] = None
            table.add(name, [cells.get(key) for key in (*read, "chance", "depth", *models, "range")])
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


def _line(audit: Audit, attack: Attack, between: str = "–") -> tuple[str, dict[str, str | None]]:
    """Format the title of an attack, and its cells: figures by model, or as :attr:`Attack.ratio` if it has one and depth is
    known; 'interval' and 'depth' of the erased model, 'chance', 'mean', 'range' and 'depths' of the retrained models."""
    values = {name: row[attack.name].value for name, row in audit.rows.items()}
    figures = {name: value for name, value in values.items() if value is not None}
    retrained = names_of("retrained", figures)
    interval, chance = audit.rows["erased"][attack.name].interval or (), audit.chance[attack.name]
    depth, depths = audit.depth.get(attack.name, Measured()).value, list[float]()
    unit, title, digits = attack.unit, str(attack.column), 1 if attack.unit in ("percent", "points") else 3
    if depth is not None and "original" in figures and retrained:
        mean = float(np.mean([figures[name] for name in retrained]))
        ratios = {name: (value - mean) / (figures["original"] - mean) for name, value in figures.items()}
        depths = [1 - ratios[name] for name in retrained]
        if attack.ratio is not None:
            figures, interval, chance, unit, title, digits = ratios, (), None, "ratio", attack.ratio, 2
    others = [figures[name] for name in retrained]

    def span(ends: Sequence[float], between: str, digits: int) -> str | None:
        return f"{min(ends):.{digits}f}{between}{max(ends):.{digits}f}" if ends else None

    cells: dict[str, str | None] = {name: f"{value:.{digits}f}" for name, value in figures.items()}
    cells["mean"] = f"{np.mean(others):.{digits}f}" if others else None
    cells["range"] = span(others, between, digits) if len(others) > 1 else None
    cells["interval"], cells["depths"] = span(interval, "–", digits), span(depths, " to ", 2)
    cells["chance"] = None if chance is None else f"{chance:.{digits}f}"
    cells["depth"] = None if depth is None else f"{depth:.2f}"
    mark = _mark(attack)
    return f"{title}{'' if unit == 'percent' or unit in title else f', {unit}'}{f' {mark}' if mark else ''}", cells
