"""The terminal: text as it is, since names of classes, files and people may look like markup."""

from __future__ import annotations

import os
import sys

from rich.console import Console

WIDTH = 120  # where the output is no terminal and COLUMNS does not say


def make_console(*, stderr: bool = False) -> Console:
    """A console without markup, as wide as the terminal, as ``COLUMNS``, or 120 columns."""
    stream = sys.stderr if stderr else sys.stdout
    known = os.environ.get("COLUMNS", "").isdecimal() or stream.isatty()
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if known else WIDTH)


def print_any_name() -> None:
    """Let standard output and error show names that the terminal's encoding lacks, escaped, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
