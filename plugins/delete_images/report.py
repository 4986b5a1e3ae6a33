"""The table of a run on the terminal, and what it does not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from delete_tasks.forgotten import not_forgotten
from delete_tasks.table import Column, show_table

COLUMNS = (
    Column("forgotten"),
    Column("others"),
    Column("worst drop"),
    Column("NLL"),
    Column("ECE"),
    Column("linear probe"),
    Column("5-shot"),
    Column("forgotten (train)", detail=True),
    Column("others (train)", detail=True),
    Column("H-mean", detail=True),
)
TITLES = {
    "logit_cut": "logit cut off",
    "head_only": "head alone",
    "erased_with_original_head": "erased, original head",
}


def show(results: Mapping[str, Any], console: Console, wide: bool = False) -> None:
    """Print the table, and what it does not show."""
    rows = results["rows"]
    tested = rows["original"]["per_class"] is not None
    cells = {}
    for name, row in rows.items():
        worst, probe = row["worst_drop"], results["probe"].get(name) or {}
        splits = [row["test"], row["train"]] if tested else [row["train"], {}]
        values = [splits[0].get("forget_acc"), splits[0].get("remain_acc"), None if worst is None else worst["points"]]
        values += [row["nll"], row["ece"], probe.get("linear"), probe.get("prototype")]
        values += [splits[1].get("forget_acc"), splits[1].get("remain_acc"), row["h_mean"]]
        cells[TITLES.get(name, name)] = [None if value is None else f"{value:.2f}" for value in values]
    on = "test images" if tested else "the forget set" if results["data"]["train"] is None else "training images"
    what = f"Forgetting {', '.join(results['classes'])}: percent of {on}; NLL and ECE of the others"
    show_table(console, what, COLUMNS, cells, wide)
    for line in notes(results):
        console.print(Text(line))


def notes(results: Mapping[str, Any]) -> list[str]:
    """What has to be said beside the table."""
    said = []
    worst, check = results["rows"]["erased"]["worst_drop"], results["forget_check"]
    if worst is not None:
        said.append(f"Of the others, {worst['class']} lost most: {worst['points']:.2f} points.")
    if results["forgotten_became"]:
        went = list(results["forgotten_became"].items())[:5]
        said.append(f"Forgotten images are predicted as {', '.join(f'{name} {share:.1f}%' for name, share in went)}.")
    unlearn = results["unlearn"]
    left = not_forgotten(check, unlearn["steps"], unlearn["optimizer"])
    if left is not None:
        said.append(left)
    elif check is not None and check.get("still") is not None:
        said.append(
            f"Of the training views that the original predicts as {' or '.join(results['classes'])}, {check['still']:.1f}% still "
            "were at the end, before the row was taken out."
        )
    reason = (results["finished"] or {}).get("rows_not_replaced")
    if reason is not None:
        said.append(f"The classes' rows are still in the model: {reason}.")
    said += [f"Not measured: {part}, because {reason}." for part, reason in results["not_measured"].items()]
    read = results["forget_set"]
    others = read["available"] - read["read"]
    left_out = f" ({others} of other classes left out)" if others else ""
    said.append(f"Read {read['read']} images{left_out}, {results['steps']} steps, {results['seconds']:.0f} s.")
    return said
