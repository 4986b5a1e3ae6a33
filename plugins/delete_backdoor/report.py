"""The tables and sentences that ``backdoor clean`` and ``backdoor find`` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from delete_tasks.display.table import Column, Table

from .find.evidence import CLUSTERS


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """What stands beside the table of a cleaning: what its columns mean, what the watch saw, and the verdict."""
    details = results["details"]
    last, samples = details["watch"]["readings"][-1], details["samples"]
    kinds = "trigger-free views" if samples["strict"] else "retain samples"
    lines = [f"  {metric['column']}: {metric['title']}" for metric in results["metrics"] if metric["column"]]
    lines += [
        f"{name}: {run['verdict']} ({run['reason']}), {run['steps']} steps, {run['seconds']:.0f} s"
        for name, run in details["runs"].items()
        if name != "erased"
    ]
    lines.append(
        f"Watch, on {samples['held_poisoned']} poisoned and {samples['held_retain']} {kinds} set aside: "
        f"{cell(last['to_target'])}% at the target, agreement with the original {cell(last['agreement'])}%, target's probability "
        f"kept {cell(last['target_kept'])}%"
    )
    if samples["left_out"]:
        lines.append(
            f"{samples['left_out']} poisoned samples that the model does not send to the target were left out."
        )
    lines.append(f"Verdict: {details['verdict']} ({details['reason']}).")
    if not results["published"]:
        lines.append(
            "--force writes the model all the same. A few hundred samples without a trigger (--retain) help most."
        )
    return lines


def show_ranking(content: Mapping[str, Any], total: int, console: Console) -> None:
    """Print the table of classes, both clusters of a suspicious one with their evidence, and what follows."""
    title = f"Activation clustering of {total} samples ({content['flagged']} flagged as poisoned)"
    table = Table(["samples", "smaller cluster, %", "silhouette", "suspicious"], "label", title)
    for name, split in content["classes"].items():
        cells = [str(split["samples"]), f"{split['smaller_cluster']:.1f}", f"{split['silhouette']:.3f}"]
        table.add(name, [*cells, "yes" if split["suspicious"] else "no"])
    table.show(console, wrap=True, hint="the terminal is too narrow")
    suspicious = content["suspicious"]
    if suspicious is None:
        console.print("No class's clusters stand out from those of the others: nothing is flagged.")
    else:
        _show_clusters(suspicious, console)
    if content["rates"] is not None:
        precision, recall = content["rates"]["precision"], content["rates"]["recall"]
        console.print(
            f"Against the truth in the file: precision {cell(precision)}% (share of flagged samples that are poisoned), recall "
            f"{cell(recall)}% (share of poisoned samples that are flagged)"
        )


# Key of Evidence, in words for the table and for the picture, and the sign that is read off it.
MEASURES = (
    ("samples", "samples", "", None),
    (
        "moved_by_pattern",
        "others sent here by its shared pattern, %",
        "its shared pattern sends {}% of others here",
        "pattern",
    ),
    ("kept_cropped", "label kept under crops and flips, %", "label kept by {}% of crops and flips", "hangs_on_place"),
    ("kept_coloured", "label kept under changes of colour, %", "{}% of changes of colour", "hangs_on_place"),
    ("kept_blended", "label kept in blends with others, %", "{}% of blends with others", "wins_blends"),
    ("variance", "variance of the features", "variance of the features {}", "varies"),
)


def _show_clusters(suspicious: Mapping[str, Any], console: Console) -> None:
    poison, clusters = suspicious["poison"], suspicious["clusters"]
    title = f"The clusters of '{suspicious['class']}' stand out; which is the poison?"
    table = Table([*CLUSTERS, Column("poison by this", words=True)], "", title)
    for key, words, _, sign in MEASURES:
        says = (suspicious["signs"][sign] or "-") if sign else ""
        table.add(words, [*(cell(clusters[name][key], key == "samples") for name in CLUSTERS), says])
    console.print()
    table.show(console, wrap=True, hint="the terminal is too narrow")
    if suspicious["decided_by"] == "user":
        console.print(f"The {poison} one is flagged, as --flag says.")
    elif poison is not None:
        console.print(f"The {poison} one is the poison by these signs, and is flagged.")
    else:
        console.print(
            "These signs do not tell which of the two is the poison, or whether either is: nothing is flagged. Look at the "
            "images of both in the picture written below, then find again with --flag smaller or --flag larger."
        )


def evidence_text(evidence: Mapping[str, Any]) -> str:
    """The figures of one cluster in two lines; the keys are :class:`delete_backdoor.find.evidence.Evidence`'s."""
    parts = [
        words.format(cell(evidence[key])) for key, _, words, sign in MEASURES if sign and evidence[key] is not None
    ]
    return f"{evidence['samples']} samples, {parts[0]}\n{', '.join(parts[1:])}"


def cell(value: float | None, whole: bool = False) -> str:
    """A figure, or '-' where there is none."""
    return "-" if value is None else str(value) if whole else f"{value:.1f}"
