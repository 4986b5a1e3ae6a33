"""Progress bars with the time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .processes import process_rank
from .terminal import begin, make_console

T = TypeVar("T")
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def make_progress() -> Progress:
    """Bars on standard error of the first process; where that is no terminal, nothing is drawn, not even an empty line."""
    console = make_console(stderr=True)
    if console.is_terminal:
        begin()
    return Progress(*COLUMNS, console=console, transient=True, disable=not console.is_terminal or process_rank() > 0)


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Iterate over ``items`` under a bar."""
    with make_progress() as progress:
        bar = progress.add_task(title, total=total)
        yield from progress.track(items, total=total, task_id=bar)
        progress.update(bar, total=progress.tasks[0].completed)  # there may have been fewer
