"""The table and the sentences that ``backdoor clean`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from .measure import DEFINITIONS


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print the table, its definitions and the verdict."""
    table = Table(title=f"Backdoor to '{results['target']}' (percent; -: not measured)")
    table.add_column("model", no_wrap=True)
    for title in ("ACC", "ASR", "base", "RA", "target acc", "worst drop", "verdict of the watch", "seconds"):
        table.add_column(title, justify="right")
    for name, row in results["rows"].items():
        row = row or {}
        worst = row.get("worst_drop")
        table.add_row(
            name,
            *(cell(row.get(key)) for key in ("acc", "asr", "base", "ra", "target_acc")),
            "-" if worst is None else f"{worst['points']:.1f} ({worst['class']})",
            row.get("verdict") or "-",
            "-" if row.get("seconds") is None else f"{row['seconds']:.0f}",
        )
    console.print(table)
    for name, meaning in DEFINITIONS.items():
        console.print(f"  {name}: {meaning}", highlight=False)
    last = results["watch"]["readings"][-1]
    samples = results["samples"]
    console.print(
        f"Watch, on {samples['held_poisoned']} poisoned and {samples['held_clean']} "
        f"{'trigger-free views' if samples['strict'] else 'clean samples'} set aside: {cell(last['to_target'])}% at the target, "
        f"agreement with the original {cell(last['agreement'])}%, target's probability kept {cell(last['target_kept'])}%"
    )
    if samples["left_out"]:
        console.print(
            f"{samples['left_out']} poisoned samples that the model does not send to the target were left out."
        )
    console.print(f"Verdict: {results['verdict']} ({results['reason']}).")
    if not results["written"]:
        console.print(
            "The model is NOT written; --force writes it all the same. A few hundred clean samples (--clean) help most."
        )


def cell(value: float | None) -> str:
    """A figure, or '-' where there is none."""
    return "-" if value is None else f"{value:.1f}"
