"""Picture of a cleaning, with poisoned samples before and after, and the lines that are printed beside its table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from delete_tasks.display.figure import drawable, new_figure, save_figure

from .checks import predictions
from .datasets import REACHES
from .metrics import STILL_MISLEADS

SHOWN = 8
ROW_TITLES = {"original": "original", "logit_cut": "original,\ntarget's logit\ncut off", "erased": "cleaned"}


def draw(dataset: Any, original: nn.Module, cleaned: nn.Module, results: Mapping[str, Any], path: Path) -> None:
    """Draw the picture of a cleaning of a :class:`.datasets.BackdoorDataset` with these ``results``, of results.json."""
    held = dataset.held_poisoned.subset(range(min(SHOWN, len(dataset.held_poisoned))))
    before, after = (predictions(net, dataset.spec, held, "Picture") for net in (original, cleaned))
    names, target = drawable(dataset.class_names), dataset.target
    figure = new_figure((13, 5.8), "backdoor")
    grid = figure.add_gridspec(2, SHOWN, height_ratios=(1, 1.3))
    for index in range(len(held)):
        colour = "tab:red" if after[index] == target else "tab:green"
        title = f"original: {names[before[index]]}\nafter: {names[after[index]]}"
        draw_image(figure.add_subplot(grid[0, index]), held[index][0], title, colour)
    _draw_watch(figure.add_subplot(grid[1, : SHOWN // 2]), results)
    _draw_rows(figure.add_subplot(grid[1, SHOWN // 2 :]), results)
    figure.suptitle(
        f"Poisoned samples that were not trained on, and what the model predicts before and after cleaning (red: still the "
        f"attacker's class '{names[target]}')\nVerdict: {results['details']['verdict']}"
        f"{'' if results['published'] else '; not written'}",
        fontsize=10,
    )
    save_figure(figure, path)


def draw_image(axis: Any, image: Any, title: str, colour: str = "black") -> None:
    """Draw an image ``(H, W, 3)`` under a title."""
    axis.imshow(image, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title(title, fontsize=8, color=colour)


def _draw_watch(axis: Any, results: Mapping[str, Any]) -> None:
    details, target = results["details"], results["forgotten"][0]
    kind = "trigger-free views" if details["samples"]["strict"] else "retain samples"
    readings = details["watch"]["readings"]
    for key, label, colour in (
        ("to_target", f"poisoned samples predicted as '{target}'", "tab:red"),
        ("agreement", f"{kind} predicted as by the original", "tab:blue"),
        ("target_kept", f"mean probability of '{target}' on {kind},\nin percent of the original's", "tab:orange"),
    ):
        points = [(reading["step"], reading[key]) for reading in readings if reading[key] is not None]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label, color=colour)
    axis.set_title("On samples that were not trained on", fontsize=9)
    axis.set_xlabel("optimizer step")
    axis.set_ylabel("percent")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=7)


def _draw_rows(axis: Any, results: Mapping[str, Any]) -> None:
    rows = {name: row for name, row in results["rows"].items() if row["acc"]["value"] is not None}
    axis.set_title("On test images", fontsize=9)
    if not rows:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "not measured", ha="center", va="center")
        return
    for shift, key, label, colour in (
        (-0.27, "acc", "clean images recognised (ACC)", "tab:blue"),
        (0.0, "asr", f"triggered images predicted as '{results['forgotten'][0]}' (ASR)", "tab:red"),
        (0.27, "ra", "triggered images recognised (RA)", "tab:green"),
    ):
        values = [row[key]["value"] for row in rows.values()]
        points = [(index + shift, value) for index, value in enumerate(values) if value is not None]
        if points:
            bars = axis.bar(*zip(*points, strict=True), width=0.25, color=colour, label=label)
            axis.bar_label(bars, fmt="%.1f", fontsize=7)
    axis.set_xticks(range(len(rows)), [ROW_TITLES[name] for name in rows], fontsize=7)
    axis.set_ylabel("percent")
    axis.set_ylim(0, 135)
    axis.set_yticks(range(0, 101, 20))
    axis.legend(fontsize=7, loc="upper center")


def lines_of(results: Mapping[str, Any]) -> list[str]:
    """Write the lines beside the table of a cleaning: its columns, the watch's last reading and the verdict."""
    details = results["details"]
    last, samples = details["watch"]["readings"][-1], details["samples"]
    kind = "trigger-free views" if samples["strict"] else "retain samples"
    lines = [f"  {metric['column']}: {metric['title']}" for metric in results["metrics"] if metric["column"]]
    lines.append(
        f"Watch, on {samples['held_poisoned']} poisoned samples and {samples['held_retain']} {kind} held out: "
        f"at the target {percent(last['to_target'])}, agreement with the original {percent(last['agreement'])}, the target's "
        f"probability in percent of the original's {percent(last['target_kept'])}"
    )
    if (reach := samples["estimated_trigger_reach"]) is not None:
        used = f"pasted on {kind}" if reach >= REACHES else "too few, so it was not used"
        lines.append(f"Estimated trigger: brings {reach:.1f}% of {kind} to the target; {used}.")
    if results["data"]["poisoned"] == results["data"].get("retain"):
        patches = max((change.get("patches", 1) for change in results["done"]["changes"]), default=1)
        lines.append(
            f"It was cleaned by {patches} trigger(s) on the retain samples. The attacker's own may differ and still work: run "
            "backdoor find on the cleaned model."
        )
    if samples["left_out"]:
        lines.append(f"{samples['left_out']} poisoned samples that are not predicted as the target were left out.")
    lines.append(f"Watch: {details['verdict']} ({details['reason']}).")
    row = results["rows"]["erased"]
    if row["ra_drop"]["note"] == STILL_MISLEADS:
        without = row["ra"]["value"] + row["ra_drop"]["value"]
        lines.append(
            f"{STILL_MISLEADS.capitalize()}: {row['ra']['value']:.1f}% of the triggered images are predicted as their class, "
            f"{without:.1f}% without the trigger. A larger --paste, or more samples, helps."
        )
    if not results["published"]:
        lines.append("A few hundred samples without a trigger (--retain) help most; --force writes the model anyway.")
    return lines


def percent(value: float | None) -> str:
    """Format a percentage for a sentence."""
    return "not measured" if value is None else f"{value:.1f}%"


def cell(value: float | None, whole: bool = False) -> str:
    """Format a figure; '-' for None."""
    return "-" if value is None else str(value) if whole else f"{value:.1f}"
