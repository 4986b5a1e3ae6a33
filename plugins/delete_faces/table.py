"""What ``faces remove`` prints: the table, the verdict, and what still holds the people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from delete_tasks.forgotten import in_words


def show(results: Mapping[str, Any], console: Console, wide: bool = False) -> None:
    """Print the table, the verdict and what still holds the people.

    Args:
        results: What results.json holds.
        console: To print to; the table takes 80 columns at most, unless it is ``wide``.
        wide: Verification at every false accept rate, and removed people taken for others, too.
    """
    if results["held_out"]:
        _show_table(results, console, wide)
    if results["taken_for"]:
        went = results["taken_for"]["row_removed"] or results["taken_for"]["with_row"]
        told = ", ".join(f"{e['name']} {e['percent']:.0f}% (probability {e['probability']:.2f})" for e in went[:5])
        console.print(f"Their photos are now taken for: {told or '-'}", markup=False)
    console.print(results["verdict"], style="bold", markup=False)
    console.print(in_words(results["forget_check"]), markup=False)
    read = results["forget_set"]
    held = "Still holding these people, to be destroyed by you:\n  " + "\n  ".join(results["still_holding"])
    console.print(
        f"Read {read['read']} photos, {results['steps']} steps, {results['seconds']:.0f} s\n{held}", markup=False
    )


def _show_table(results: Mapping[str, Any], console: Console, wide: bool) -> None:
    rows, counts = results["rows"], results["rows"]["original"]["counts"]
    table = Table(
        title=Text(
            f"Removing {', '.join(results['people'])}: percent of {counts['removed_photos']} held-out photos of removed and "
            f"{counts['kept_photos']} of other people"
        )
    )
    table.add_column("model", no_wrap=True)
    columns: dict[str, list[float | None]] = {
        f"{who} identified": [row["identified"][key] for row in rows.values()]
        for who, key in (("removed", "removed"), ("others", "kept"))
    }
    first = rows["original"]["verification"]
    fars = [far for far, at in first["at"].items() if at["threshold"] is not None] if first else []
    for far in fars if wide else fars[-1:]:
        for who, key in (("removed match", "removed"), ("others match", "kept"), ("as others", "removed_as_kept")):
            if wide or key != "removed_as_kept":
                columns[f"{who} @{far}"] = [row["verification"]["at"][far][key] for row in rows.values()]
    shown = {title: values for title, values in columns.items() if any(value is not None for value in values)}
    for title in shown:
        table.add_column(title, justify="right")
    for name, *values in zip(rows, *shown.values(), strict=True):
        if any(value is not None for value in values):
            table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in values))
    console.print(table)
    if fars:
        console.print(
            f"match @{fars[-1]}: two photos of one person, at the threshold that {float(fars[-1]):.1%} of "
            f"{counts['impostor_pairs']:,} pairs of different people reach. Pairs of a removed person: "
            f"{counts['removed_pairs']:,}, of another: {counts['kept_pairs']:,}",
            markup=False,
        )
