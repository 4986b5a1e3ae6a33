"""Sentences that ``backdoor clean`` prints beside its table."""

from collections.abc import Mapping
from typing import Any


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Write the lines beside the table of a cleaning: its columns, the other runs, the watch's last reading and the verdict."""
    details = results["details"]
    last, samples = details["watch"]["readings"][-1], details["samples"]
    kind = "trigger-free views" if samples["strict"] else "retain samples"
    lines = [f"  {metric['column']}: {metric['title']}" for metric in results["metrics"] if metric["column"]]
    lines += [
        f"{name}: {run['verdict']} ({run['reason']}), {run['steps']} steps, {run['seconds']:.0f} s"
        for name, run in details["runs"].items()
        if name != "erased"
    ]
    lines.append(
        f"Watch, on {samples['held_poisoned']} poisoned samples and {samples['held_retain']} {kind} held out: "
        f"{cell(last['to_target'])}% at the target, agreement with the original {cell(last['agreement'])}%, target's probability "
        f"{cell(last['target_kept'])}% of the original's"
    )
    if samples["left_out"]:
        lines.append(
            f"{samples['left_out']} poisoned samples that the model does not assign to the target were left out."
        )
    lines.append(f"Verdict: {details['verdict']} ({details['reason']}).")
    if not results["published"]:
        lines.append("--force writes the model anyway. A few hundred samples without a trigger (--retain) help most.")
    return lines


def cell(value: float | None, whole: bool = False) -> str:
    """Format a figure; '-' for None."""
    return "-" if value is None else str(value) if whole else f"{value:.1f}"
