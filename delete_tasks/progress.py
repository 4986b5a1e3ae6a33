"""Progress bars with the time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .terminal import make_console

T = TypeVar("T")
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Iterate over ``items`` under a bar on standard error; where that is no terminal, nothing is drawn."""
    with Progress(*COLUMNS, console=make_console(stderr=True), transient=True) as progress:
        bar = progress.add_task(title, total=total)
        yield from progress.track(items, total=total, task_id=bar)
        progress.update(bar, total=progress.tasks[0].completed)  # there may have been fewer
