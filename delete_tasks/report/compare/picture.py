"""compare.png: for each task the figures of forgotten and of retained classes, one line per run."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...display.figure import drawn, new_figure, save_figure
from ...errors import RequestError, require
from .compare import Run, metrics_of, plain

LEAST_SPAN = {"percent": 2.0, "points": 2.0, "nats": 0.05}  # of an axis, so that a small difference looks small
MADE_BY = "delete-tasks compare"  # in the picture's meta data; only such a picture is replaced


def check_out(path: Path) -> None:
    """Raise RequestError if the picture cannot be written, or would replace a file of another program."""
    if path.suffix != ".png":
        raise RequestError(f"--out takes a file that ends in .png; got '{path}'")
    if path.is_dir():
        raise RequestError(f"--out '{path}' is a folder; name a file in it")
    if not path.parent.is_dir():
        raise RequestError(f"--out '{path}': there is no folder '{path.parent}'; make it first")
    software = None
    with contextlib.suppress(OSError), require("PIL.Image", "audit").open(path) as picture:
        software = picture.info.get("Software")
    if path.exists() and software != MADE_BY:
        raise RequestError(f"'{path}' is there and was not made by this command; choose another --out")


def draw(path: Path, groups: Sequence[tuple[str, Sequence[Run]]]) -> None:
    """Draw before (hollow) and after (filled) of every run."""
    heights = [0.4 * len(runs) + 1.2 for _, runs in groups]
    figure = new_figure((10, sum(heights) + 0.4), "audit")
    axes = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (left, right), (task, runs) in zip(axes, groups, strict=True):
        roles = {metric["role"]: metric for metric in reversed(metrics_of(runs))}
        for axis, role in ((left, "forget"), (right, "retain")):
            metric = roles.get(role)
            drawn = [_draw_run(axis, y, run, metric) for y, run in enumerate(runs)]
            if metric is not None:
                better = "lower" if metric["lower_is_better"] else "higher"
                axis.set_title(f"{task}: {plain(metric['column'])} ({better} is better)", fontsize=10)
                axis.set_xlabel(plain(metric["unit"]))
            axis.set_ylim(len(runs) - 0.5, -0.7)
            axis.set_yticks(range(len(runs)), [_label(run) for run in runs] if axis is left else [""] * len(runs))
            axis.margins(x=0.2)
            axis.grid(axis="x", alpha=0.3)
            if not any(drawn):
                axis.set_xticks([])
            elif axis is left:
                axis.set_xlim(-6, 106)
            else:
                low, high = axis.get_xlim()
                more = max(0, LEAST_SPAN[metric["unit"]] - (high - low)) / 2  # type: ignore[index]
                axis.set_xlim(low - more, high + more)
    before = left.plot([], [], "o", mfc="white", mec="tab:gray", label="before")
    after = left.plot([], [], "o", color="tab:blue", label="after, with its 95% interval")
    figure.legend(handles=[*before, *after], loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path, metadata={"Software": MADE_BY})


def _draw_run(axis: Any, y: int, run: Run, metric: Mapping[str, Any] | None) -> bool:
    """Draw one run's line, and the interval of its end; return True if it has a figure."""
    values = (None,) if metric is None else run.values(metric)
    before, after = values[0], values[-1]
    if after is None:
        middle = {"transform": axis.get_yaxis_transform(), "ha": "center", "va": "center"}
        axis.text(0.5, y, "not measured", color="gray", **middle)
        return False
    if before is not None:
        axis.plot([before, after], [y, y], color="tab:blue", alpha=0.35, lw=2, zorder=1)
        axis.plot(before, y, "o", mfc="white", mec="tab:gray", ms=8, zorder=2)
    interval = run.interval(metric) if metric is not None else None
    if interval is not None:
        axis.plot(interval, [y, y], color="black", lw=1, marker="|", zorder=2)
    axis.plot(after, y, "o", color="tab:blue", ms=6, zorder=3)
    axis.annotate(f"{after:.2f}", (after, y), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    return True


def _label(run: Run) -> str:
    """Make a label of the run's name and its forgotten classes, cut to fit."""
    parts = (text if len(text) <= 28 else f"{text[:27]}\N{HORIZONTAL ELLIPSIS}" for text in (run.name, run.forgotten))
    return drawn("\n".join(parts))
