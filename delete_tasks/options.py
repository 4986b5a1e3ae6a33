"""Options that commands share, and their ranges: a value outside of its range is refused when the command line is read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from .cli.command import DATA, EVALUATION, FILE, MACHINE, RECIPE, RECORD, File, option
from .workdir import WorkDir, claim

MOST = 1_000_000_000  # of whole numbers: no count of steps, epochs or images is larger
BY_NAME = "by name or id ('#2'); --OPTION=NAME where a NAME begins with '-'"


class _Number(click.ParamType):
    """Numbers of a range; ``metavar`` of an option that has none of its own."""

    name = "number"

    def __init__(self, words: str) -> None:
        self.words = words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "N" if isinstance(self, whole) else "X"


class whole(_Number):
    """A whole number from ``low`` to ``high``."""

    def __init__(self, low: int, high: int = MOST) -> None:
        self.low, self.high = low, high
        super().__init__(f"a whole number from {low} to {high}")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            found = int(value)
        except ValueError:
            found = self.low - 1
        if not self.low <= found <= self.high:
            self.fail(f"expected {self.words}, got '{value}'", param, ctx)
        return found


class number(_Number):
    """A finite number from ``low`` to ``high``.

    Args:
        low, high: The range.
        above: ``low`` itself is outside of it.
        below: ``high`` itself is.
    """

    def __init__(self, low: float, high: float, *, above: bool = False, below: bool = False) -> None:
        self.low, self.high, self.above, self.below = low, high, above, below
        begin, end = "above" if above else "from", "below" if below else "to"
        super().__init__(f"a number {begin} {low:g} {end} {high:g}")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if not (self.low < found if self.above else self.low <= found) or not (
            found < self.high if self.below else found <= self.high
        ):
            self.fail(f"expected {self.words}, got '{value}'", param, ctx)
        return found


class Folder(File):
    """A folder's name, which is not empty."""

    name = "folder"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip():
            self.fail("expected a folder, got ''", param, ctx)
        return value


# Options that several commands have, by what they are.
STEPS = whole(1)
BATCH_SIZE = whole(1, 1_000_000)
SEED = whole(0, 2**32 - 1)
WORKERS = whole(0, 1024)
RATE = number(0, 10, above=True)  # a learning rate
SHARE = number(0, 1)
TEMPERATURE = number(0, 1000, above=True)
STOP = number(0, 1, above=True, below=True)

TEACHER_TEMPERATURE = option(
    "--teacher-temperature",
    "sharpen",
    panel=RECIPE,
    type=TEMPERATURE,
    help="What the teacher's logits are divided by. [default: the method's]",
)
NORM_TRAIN = option(
    "--norm-train",
    "norm_eval",
    panel=RECIPE,
    is_flag=True,
    flag_value=False,
    default=None,
    help="Train norm statistics.",
)
VERBOSE = option("--verbose", panel=MACHINE, is_flag=True, help="Show the run's log on the terminal, too.")
DEVICE = option(
    "--device", panel=MACHINE, metavar="cpu|cuda|cuda:N", help="Where models run. [default: a GPU if there is one]"
)
ALLOW_IMPORT = option(
    "--allow-import", panel=MACHINE, is_flag=True, help="Run the code of an architecture that is named by import path."
)
LAUNCHER = option(
    "--launcher",
    panel=MACHINE,
    type=click.Choice(["none", "pytorch", "slurm", "mpi"]),
    help="What started several processes. [default: pytorch under torchrun, else none]",
)
LOADERS = option("--workers", panel=MACHINE, type=WORKERS, help="Processes that load images.")
CFG_OPTIONS = option(
    "--cfg-options", panel=MACHINE, many=True, metavar="KEY=VALUE...", help="Override parts of the config."
)


def config(instead_of: str) -> click.Option:
    """``--config``; ``instead_of`` which options it is given, for the help."""
    return option(
        "--config",
        panel=DATA,
        type=FILE,
        metavar="FILE",
        help=f"Instead of {instead_of}, which then override it. A config is Python, and its code runs.",
    )


def overwrite(what: str) -> click.Option:
    """``--overwrite``; ``what`` it replaces, for the help."""
    return option("--overwrite", panel=DATA, is_flag=True, help=f"Replace {what}.")


def seed(default: int | None, help: str = "Of everything random.") -> click.Option:
    """``--seed``."""
    return option("--seed", panel=MACHINE, type=SEED, default=default, help=help)


def work_dir_options(what: str, resumes: bool = True) -> list[click.Option]:
    """``--work-dir``, ``--overwrite`` and, where the command can resume, ``--resume`` and ``--keep-states``.

    Args:
        what: What goes into the work dir, for the help.
        resumes: Whether the command can resume.
    """
    found: list[click.Option] = [
        option("--work-dir", panel=DATA, type=Folder(), required=True, metavar="DIR", help=f"Where {what} go."),
        option(
            "--overwrite",
            panel=DATA,
            is_flag=True,
            help="Take a work dir that holds other files, too, and replace those of the names this run writes.",
        ),
    ]
    if resumes:
        found += [
            option("--resume", panel=MACHINE, is_flag=True, help="Go on from the work dir's last state."),
            option(
                "--keep-states",
                panel=MACHINE,
                is_flag=True,
                help="Leave the last state (weights, optimizer) when the run is complete.",
            ),
        ]
    return found


def record_panel() -> list[click.Option]:
    """The erasure record's options, of every command that erases; see :func:`delete_tasks.record.record_options`."""
    return [
        option("--reference", panel=RECORD, metavar="TEXT", help="Reference of the request, e.g. a ticket's number."),
        option("--requested", panel=RECORD, metavar="YYYY-MM-DD", help="Date of the request."),
        option(
            "--show-names", panel=RECORD, is_flag=True, help="People's names and pictures in clear, instead of hashed."
        ),
        option(
            "--accept",
            panel=RECORD,
            many=True,
            metavar="FIGURE=MOST...",
            help="Limits of figures, e.g. forget_acc=1.",
        ),
        option("--fail-on-limit", panel=RECORD, is_flag=True, help="Exit with status 3 where a limit is exceeded."),
        option(
            "--sign", panel=RECORD, type=FILE, metavar="KEY", help="Sign the record with an Ed25519 key (PEM, private)."
        ),
        option(
            "--record-log",
            panel=RECORD,
            type=FILE,
            metavar="FILE",
            help="Append-only log. [default: records.jsonl beside the work dir]",
        ),
        option(
            "--audit",
            panel=EVALUATION,
            type=click.Choice(["none", "quick", "full"]),
            default="quick",
            help="Try to read the classes out of the result, from the features that the table's data have.",
        ),
        option("--no-record", panel=RECORD, is_flag=True, help="Write no record (DIR/record.json, DIR/record.html)."),
    ]


def claim_work_dir(options: Mapping[str, Any], originals: Sequence[Any], **request: Any) -> WorkDir:
    """Claim a command's work dir, see :func:`delete_tasks.workdir.claim`.

    Args:
        options: Of the command line, with ``command``, perhaps ``action``, and those of :func:`work_dir_options`.
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
