"""The terminal: text as it is, since names of classes, files and people may look like markup; and what does not belong there."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

WIDTH = 120  # where the output is no terminal and COLUMNS does not say
# Libraries whose warnings a user cannot act on: they are in a run's log, and with --verbose on the terminal.
LIBRARIES = ("albumentations", "mmcv", "mmengine", "mmseg", "torch", "torchvision")
CHATTER = ("Could not import OneDL",)  # printed by libraries while they are imported
CHATTER_WARNING = "Fail to import ``MultiScaleDeformableAttention``"  # of mmcv-lite, which has no compiled operations

_quiet = False
_announced: list[tuple[Console, str]] = []  # not printed yet


class _Console(Console):
    """Prints what was announced before anything else."""

    def print(self, *objects: Any, **options: Any) -> None:
        begin()
        super().print(*objects, **options)


def short(path: str | os.PathLike[str]) -> str:
    """A path as short as it can be said: from the current folder where it lies in that."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def make_console(*, stderr: bool = False) -> Console:
    """A console without markup, as wide as the terminal, as ``COLUMNS``, or 120 columns."""
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


def print_any_name() -> None:
    """Let standard output and error show names that the terminal's encoding lacks, escaped, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def is_quiet() -> bool:
    """Whether a command runs that keeps the log and libraries' warnings from the terminal."""
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
    """Whether a source file is of one of :data:`LIBRARIES`, as installed."""
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
