"""Options that commands share, and their ranges: a value outside of its range is refused when the command line is read."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .workdir import WorkDir, claim

MOST = 1_000_000_000  # of whole numbers: no count of steps, epochs or images is larger


def whole(low: int, high: int = MOST) -> Callable[[str], int]:
    """Reader of a whole number from ``low`` to ``high``, for ``add_argument(type=...)``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got '{text}'")
        return value

    return read


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """Reader of a finite number from ``low`` to ``high``.

    Args:
        low, high: The range.
        above: ``low`` itself is outside of it.
        below: ``high`` itself is.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value if above else low <= value) or not (value < high if below else value <= high):
            begin, end = "above" if above else "from", "below" if below else "to"
            raise argparse.ArgumentTypeError(f"expected a number {begin} {low:g} {end} {high:g}, got '{text}'")
        return value

    return read


# Options that several commands have, by what they are.
STEPS = whole(1)
BATCH_SIZE = whole(1, 1_000_000)
SEED = whole(0, 2**32 - 1)
WORKERS = whole(0, 1024)
RATE = number(0, 10, above=True)  # a learning rate
SHARE = number(0, 1)
TEMPERATURE = number(0, 1000, above=True)
STOP = number(0, 1, above=True, below=True)


def _folder(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder, got ''")
    return text


def add_work_dir_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--work-dir``, ``--overwrite`` and, where the command can resume, ``--resume`` and ``--keep-states``.

    Args:
        parser: Of the command.
        what: What goes into the work dir, for the help.
    """
    parser.add_argument("--work-dir", type=_folder, required=True, metavar="DIR", help=f"where {what} go")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="take a work dir that holds other files, too, and replace those of the names this run writes",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the work dir's last state")
    parser.add_argument(
        "--keep-states", action="store_true", help="leave the last state (weights, optimizer) when the run is complete"
    )


def claim_work_dir(options: Mapping[str, Any], originals: Sequence[Any], **request: Any) -> WorkDir:
    """Claim a command's work dir, see :func:`delete_tasks.workdir.claim`.

    Args:
        options: Of the command line, with ``command``, perhaps ``action``, and those of :func:`add_work_dir_arguments`.
        originals: Files and folders that are read and must not be touched.
        request: What makes two runs the same request, as JSON values.
    """
    name = [options["command"], options.get("action")]
    work = claim(
        options["work_dir"],
        {"command": name, "originals": [None if o is None else os.path.abspath(o) for o in originals], **request},
        originals=originals,
        overwrite=options["overwrite"],
        resume=options.get("resume", False),
    )
    work.keep_states = options.get("keep_states", False)
    return work
