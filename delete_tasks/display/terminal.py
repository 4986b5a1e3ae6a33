"""The terminal: text without markup, since names of classes, files and people may look like it; progress bars; no chatter of
libraries; and text that can be written anywhere: without lone surrogates (file names that are not UTF-8), control characters or
line breaks."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from ..fileio.processes import process_rank

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

WIDTH = 120  # where the output is no terminal and COLUMNS does not say
# Libraries whose warnings a user cannot act on: they are in a run's log, and with --verbose on the terminal.
LIBRARIES = ("albumentations", "mmcv", "mmengine", "mmseg", "torch", "torchvision")
CHATTER = ("Could not import OneDL",)  # printed by libraries while they are imported
CHATTER_WARNING = "Fail to import ``MultiScaleDeformableAttention``"  # of mmcv-lite, which has no compiled operations
# What splits lines somewhere (str.splitlines, browsers, editors) and JSON leaves as it is; and halves of characters.
_LEFT = re.compile("[\u007f-\u009f\u2028\u2029\ud800-\udfff]")
_UNFIT = re.compile("[\\x00-\\x08\\x0b-\\x1f\u007f-\u009f\ud800-\udfff]")  # for a terminal or a page

_quiet = False
_announced: list[tuple[Console, str]] = []  # not printed yet


class _Console(Console):
    """Prints what was announced before anything else."""

    def print(self, *objects: Any, **options: Any) -> None:
        begin()
        super().print(*objects, **options)


def short(path: str | os.PathLike[str]) -> str:
    """Shorten a path that is in the current folder to its part below it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def make_console(*, stderr: bool = False) -> Console:
    """Make a console without markup, as wide as the terminal, as ``COLUMNS``, or 120 columns."""
    stream = sys.stderr if stderr else sys.stdout
    known = os.environ.get("COLUMNS", "").isdecimal() or stream.isatty()
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if known else WIDTH)


def announce(console: Console, lines: Sequence[str]) -> None:
    """Print lines when a command has something else to show, or begins its work: one that is refused shows its error alone."""
    _announced.extend((console, line) for line in lines)
    if not _quiet:
        begin()


def begin() -> None:
    """Print what was announced."""
    lines = list(_announced)
    _announced.clear()
    for console, line in lines:
        console.print(line, soft_wrap=True)


def printable(text: str) -> str:
    """Write lone surrogates and control characters as ``\\udcff``, so that ``text`` can be printed and encoded, and a stranger's
    record cannot steer the terminal."""
    return _UNFIT.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def one_line(text: str) -> str:
    """Put ``text`` on one line: line breaks, control characters, quotes, backslashes and lone surrogates as JSON escapes them."""
    return _LEFT.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False)[1:-1])


def from_line(line: str) -> str:
    """Restore the text that :func:`one_line` was given.

    Raises:
        ValueError: :func:`one_line` never gives this line.
    """
    return json.loads(f'"{line}"')


def print_any_name() -> None:
    """Let standard output and error show names that the terminal's encoding lacks, escaped, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def make_progress() -> Progress:
    """Make progress bars with the time left, on standard error of the first process. Without a terminal nothing is drawn, not
    even an empty line."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    if console.is_terminal:
        begin()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal or process_rank() > 0)


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Iterate over ``items`` under a bar."""
    with make_progress() as progress:
        bar = progress.add_task(title, total=total)
        yield from progress.track(items, total=total, task_id=bar)
        progress.update(bar, total=progress.tasks[0].completed)  # there may have been fewer


def is_quiet() -> bool:
    """Return True while a command keeps the log and libraries' warnings from the terminal."""
    return _quiet


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Keep the log and libraries' warnings from the terminal while a command runs. ``verbose`` lets everything through."""
    global _quiet
    if verbose:
        yield
        return
    before, _quiet = _quiet, True
    show = warnings.showwarning
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read by torch when it is imported

    def ours(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if not from_library(filename) or sys.warnoptions:  # python -W and PYTHONWARNINGS are the user's word
            show(message, category, filename, *rest, **more)

    warnings.showwarning = ours
    try:
        yield
    finally:
        _quiet = before
        _announced.clear()
        if warnings.showwarning is ours:
            warnings.showwarning = show


def from_library(path: str) -> bool:
    """Return True if a source file belongs to an installed library of :data:`LIBRARIES`."""
    parts = Path(path).parts
    return any(folder == "site-packages" and name in LIBRARIES for folder, name in itertools.pairwise(parts))


def hush(logger: logging.Logger) -> None:
    """Let a logger tell the terminal of our own and users' warnings, and of all errors; files get what they got.

    What commands print anyway is logged with ``extra={"printed": True}``.
    """

    def wanted(record: logging.LogRecord) -> bool:
        own = not from_library(record.pathname) and not getattr(record, "printed", False)
        return record.levelno >= logging.ERROR or (record.levelno >= logging.WARNING and own)

    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.addFilter(wanted)
            handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Keep from the terminal what libraries are known to print, and to warn of, while they are imported."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stdout(caught), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=CHATTER_WARNING)
            yield
    finally:
        lines = [line for line in caught.getvalue().splitlines() if line.strip() not in CHATTER]
        if lines:
            print("\n".join(lines))
