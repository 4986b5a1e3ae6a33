"""compare.png: for each task the forgotten figure beside the kept one, a line a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...display.figure import new_figure, save_figure
from ...errors import RequestError, require
from .compare import Run, metrics_of, plain

MADE_BY = "delete-tasks compare"  # in the picture's meta data, so that only a picture of this command's own is replaced


def check_out(path: Path) -> None:
    """Raise RequestError where the picture cannot go, or would take the place of somebody's own."""
    if path.suffix != ".png":
        raise RequestError(f"--out takes a file that ends in .png; got '{path}'")
    if path.is_dir():
        raise RequestError(f"--out '{path}' is a folder; name a file in it")
    if not path.parent.is_dir():
        raise RequestError(f"--out '{path}': there is no folder '{path.parent}'; make it first")
    if path.exists() and not _is_own(path):
        raise RequestError(f"'{path}' is there and was not made by this command; choose another --out")


def _is_own(path: Path) -> bool:
    image = require("PIL.Image", "audit")
    try:
        with image.open(path) as picture:
            return picture.info.get("Software") == MADE_BY
    except OSError:
        return False


def draw(path: Path, groups: Sequence[tuple[str, Sequence[Run]]]) -> None:
    """Draw before (hollow) and after (filled) of every run."""
    heights = [0.4 * len(runs) + 1.2 for _, runs in groups]
    figure = new_figure((10, sum(heights) + 0.4), "audit")
    axes = figure.subplots(len(groups), 2, squeeze=False, height_ratios=heights)
    for (left, right), (task, runs) in zip(axes, groups, strict=True):
        roles = {metric["role"]: metric for metric in reversed(metrics_of(runs))}
        for axis, role in ((left, "forget"), (right, "retain")):
            metric = roles.get(role)
            shown = [
                _draw_run(axis, place, run.values(metric) if metric else (None,)) for place, run in enumerate(runs)
            ]
            if metric is not None:
                better = "lower" if metric["lower_is_better"] else "higher"
                title = f"{task}: {plain(metric['column'])} ({better} is better)"
                axis.set_title(title.replace("$", r"\$"), fontsize=10)
                axis.set_xlabel(plain(metric["unit"]).replace("$", r"\$"))
            axis.set_ylim(len(runs) - 0.5, -0.7)
            axis.set_yticks(range(len(runs)), [_label(run) for run in runs] if axis is left else [""] * len(runs))
            axis.margins(x=0.2)
            axis.grid(axis="x", alpha=0.3)
            if not any(shown):
                axis.set_xticks([])
            elif axis is left:
                axis.set_xlim(-6, 106)
    before = left.plot([], [], "o", mfc="white", mec="tab:gray", label="before")
    after = left.plot([], [], "o", color="tab:blue", label="after")
    figure.legend(handles=[*before, *after], loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path, metadata={"Software": MADE_BY})


def _draw_run(axis: Any, place: int, values: Sequence[float | None]) -> bool:
    """Draw one run's line; return True if there was a figure to show."""
    before, after = values[0], values[-1]
    if after is None:
        axis.text(
            0.5, place, "not measured", transform=axis.get_yaxis_transform(), ha="center", va="center", color="gray"
        )
        return False
    if before is not None:
        axis.plot([before, after], [place, place], color="tab:blue", alpha=0.35, lw=2, zorder=1)
        axis.plot(before, place, "o", mfc="white", mec="tab:gray", ms=8, zorder=2)
    axis.plot(after, place, "o", color="tab:blue", ms=6, zorder=3)
    axis.annotate(f"{after:.2f}", (after, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
    return True


def _label(run: Run) -> str:
    """Make a label of the run's name and its forgotten classes, cut to fit; a dollar would begin a formula."""
    parts = (text if len(text) <= 28 else f"{text[:27]}\N{HORIZONTAL ELLIPSIS}" for text in (run.name, run.forgotten))
    return "\n".join(parts).replace("$", r"\$")
