"""Options that commands share, and their ranges: a value outside of its range is refused when the command line is read."""

from __future__ import annotations

import contextlib
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import click

from .cli.command import FILE, File, data, evaluation, machine, recipe, record
from .methods import known_methods, method_help
from .ranges import MOST, SEED_MOST
from .workdir import WorkDir, claim

BY_NAME = "by name or id ('#2'); --OPTION=NAME where a NAME begins with '-'"


class Number(click.ParamType):
    """Numbers of a range. ``read`` makes a number of text, or a ValueError; ``words`` say the range."""

    name = "number"

    def __init__(self, read: Callable[[Any], Any], fits: Callable[[Any], bool], words: str) -> None:
        self.read, self.fits, self.words = read, fits, words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "N" if self.read is int else "X"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        with contextlib.suppress(ValueError):
            found = self.read(value)
            if self.fits(found):
                return found
        self.fail(f"expected {self.words}, got '{value}'", param, ctx)


def whole(low: int, high: int = MOST) -> Number:
    """A whole number from ``low`` to ``high``."""
    return Number(int, lambda found: low <= found <= high, f"a whole number from {low} to {high}")


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Number:
    """A finite number from ``low`` to ``high``; ``above``: ``low`` itself is outside of the range, ``below``: ``high`` is."""
    words = f"a number {'above' if above else 'from'} {low:g} {'below' if below else 'to'} {high:g}"
    least, most = operator.lt if above else operator.le, operator.lt if below else operator.le
    return Number(float, lambda found: least(low, found) and most(found, high), words)


class _Method(click.ParamType):
    """A method's name. The recipe refuses other words: a config's ``custom_imports`` may register the method that is named."""

    name = "method"

    def __init__(self, retain: bool) -> None:
        self.retain = retain

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in known_methods(self.retain) if name.startswith(incomplete)]


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
SEED = whole(0, SEED_MOST)
WORKERS = whole(0, 1024)
RATE = number(0, 10, above=True)  # a learning rate
SHARE = number(0, 1)
TEMPERATURE = number(0, 1000, above=True)
STOP = number(0, 1, above=True, below=True)

TEACHER_TEMPERATURE = recipe(
    "--teacher-temperature",
    "teacher_temperature",
    type=TEMPERATURE,
    help="What the teacher's logits are divided by. [default: the method's]",
)
NORM_TRAIN = recipe(
    "--norm-train", "norm_eval", is_flag=True, flag_value=False, default=None, help="Train norm statistics."
)
AMP = recipe("--amp", is_flag=True, help="Mixed precision: bfloat16 on a CPU, float16 on a GPU.")
VERBOSE = machine("--verbose", is_flag=True, help="Show the run's log on the terminal, too.")
DEVICE = machine("--device", metavar="cpu|cuda|cuda:N", help="Where models run. [default: a GPU if there is one]")
ALLOW_IMPORT = machine(
    "--allow-import", is_flag=True, help="Run the code of an architecture that is named by import path."
)
LAUNCHER = machine(
    "--launcher",
    type=click.Choice(["none", "pytorch", "slurm", "mpi"]),
    help="What started several processes. [default: pytorch under torchrun, else none]",
)
LOADERS = machine("--workers", type=WORKERS, help="Processes that load images.")
CFG_OPTIONS = machine("--cfg-options", many=True, metavar="KEY=VALUE...", help="Override parts of the config.")


DEEP_METHOD = "DeepDELETE"
DEEP = recipe(
    "--deep",
    is_flag=True,
    help=f"Experimental, see docs/notes/deep.md for the few figures there are: the method {DEEP_METHOD}, which makes the "
    "features forget, too.",
)
AVOID = recipe(
    "--avoid",
    many=True,
    metavar="NAME...",
    help=f"Classes that must not take the forgotten ones' place, {BY_NAME}.",
)
EXPECT = evaluation(
    "--expect",
    many=True,
    metavar="NAME...",
    help="Classes that may take their place; what goes elsewhere is a figure ('unexpected', at most 10%).",
)


def method(retain: bool, default: str | None = None) -> click.Option:
    """``--method``; ``retain``, whether the command reads a retain set, without which some methods learn nothing."""
    return recipe(
        "--method",
        type=_Method(retain),
        metavar="NAME",
        default=default,
        show_default=False,
        help=partial(method_help, retain),
    )


def config(instead_of: str) -> click.Option:
    """``--config``; ``instead_of`` which options it is given, for the help."""
    return data(
        "--config",
        type=FILE,
        help=f"Instead of {instead_of}, which then override it. A config is Python, and its code runs.",
    )


def overwrite(what: str) -> click.Option:
    """``--overwrite``; ``what`` it replaces, for the help."""
    return data("--overwrite", is_flag=True, help=f"Replace {what}.")


def seed(default: int | None, help: str = "Of everything random.") -> click.Option:
    """``--seed``."""
    return machine("--seed", type=SEED, default=default, help=help)


def work_dir_options(what: str, resumes: bool = True) -> list[click.Option]:
    """``--work-dir``, ``--overwrite`` and, where the command can resume, ``--resume`` and ``--keep-states``. ``what`` goes
    into the work dir, for the help."""
    found: list[click.Option] = [
        data("--work-dir", type=Folder("DIR"), required=True, help=f"Where {what} go."),
        data(
            "--overwrite",
            is_flag=True,
            help="Take a work dir that holds other files, too, and replace those of the names this run writes.",
        ),
    ]
    if resumes:
        found += [
            machine("--resume", is_flag=True, help="Go on from the work dir's last state."),
            machine(
                "--keep-states",
                is_flag=True,
                help="Leave the last state (weights, optimizer) when the run is complete.",
            ),
        ]
    return found


def record_panel() -> list[click.Option]:
    """The erasure record's options, of every command that erases; see :func:`delete_tasks.record.record_options`."""
    return [
        record("--reference", metavar="TEXT", help="Reference of the request, e.g. a ticket's number."),
        record("--requested", metavar="YYYY-MM-DD", help="Date of the request."),
        record("--show-names", is_flag=True, help="People's names and pictures in clear, instead of hashed."),
        record("--accept", many=True, metavar="FIGURE=MOST...", help="Limits of figures, e.g. forget_acc=1."),
        record("--fail-on-limit", is_flag=True, help="Exit with status 3 where a limit is exceeded."),
        record("--sign", type=File("KEY"), help="Sign the record with an Ed25519 key (PEM, private)."),
        record("--record-log", type=FILE, help="Log to append a line of JSON about the record to."),
        evaluation(
            "--audit",
            type=click.Choice(["none", "quick", "full"]),
            default="quick",
            help="Try to read the classes out of the result, from the features that the table's data have.",
        ),
        record("--no-record", is_flag=True, help="Write no record (DIR/record.json, DIR/record.html)."),
    ]


def claim_work_dir(options: Mapping[str, Any], originals: Sequence[Any], **request: Any) -> WorkDir:
    """Claim a command's work dir, see :func:`delete_tasks.workdir.claim`. The ``originals`` are read and must not be touched;
    ``request`` is what makes two runs the same request, as JSON values."""
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
