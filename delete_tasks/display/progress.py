"""Progress bars with the remaining time on standard error or, of a command without a terminal, lines on standard output."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..fileio.processes import T, process_rank
from . import terminal

SECONDS = 30.0  # between two lines


class Bars(Progress):
    """Progress bars of the first process."""

    def __init__(self) -> None:
        console, first = terminal.make_console(stderr=True), process_rank() == 0
        if console.is_terminal:
            terminal.begin()
        self.has_lines = first and terminal.is_quiet() and not console.is_terminal  # not of a library
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console, transient=True, disable=not (first and console.is_terminal))
        self.told = self.get_time()

    def add_task(self, description: str, *args: Any, **settings: Any) -> Any:
        return super().add_task(terminal.titled(description), *args, **settings)

    def update(self, task_id: Any, **changes: Any) -> None:
        super().update(task_id, **changes)
        if self.has_lines and self.get_time() - self.told >= SECONDS:
            self.told = self.get_time()
            task = self._tasks[task_id]
            left = "" if task.time_remaining is None else f", {timedelta(seconds=round(task.time_remaining))} left"
            terminal.say(f"{task.description}: {task.completed:.0f} of {task.total:.0f}{left}")


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Iterate over ``items`` with a progress bar."""
    with Bars() as bars:
        bar = bars.add_task(title, total=total)
        for number, item in enumerate(items, start=1):
            yield item
            bars.update(bar, completed=number)
        bars.update(bar, total=bars.tasks[0].completed)  # if there were fewer items
