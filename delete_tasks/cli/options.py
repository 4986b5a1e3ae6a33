"""Options that commands share, and their ranges, which are checked when the command line is parsed."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import RequestError
from ..fileio.workdir import WorkDir, claim
from ..methods.registry import method_names
from ..plugins import load_commands, plugin_modules
from ..request import ranges
from ..request.classes import as_compared
from ..request.config import LOGGERS, SCHEDULES
from .command import FILE, File, Output, data, evaluation, machine, recipe, record

BY_NAME = "by name or id ('#2')"


class Number(click.ParamType):
    """Number in a range, which ``words`` describe. ``read`` parses text, or raises ValueError for one outside of it."""

    name = "number"

    def __init__(self, metavar: str, read: Callable[[Any], Any], words: str) -> None:
        self.metavar, self.read, self.words = metavar, read, words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        with contextlib.suppress(ValueError):
            return self.read(value)
        self.fail(f"expected {self.words}, got '{value}'", param, ctx)


def whole(low: int, high: int = ranges.MOST) -> Number:
    """Return the type of whole numbers from ``low`` to ``high``."""
    return Number("N", lambda text: ranges.whole("", int(text), low, high), f"a whole number from {low} to {high}")


def number(low: float, high: float, *, above: bool = False, below: bool = False) -> Number:
    """Return the type of finite numbers from ``low`` to ``high``; ``above`` excludes ``low``, ``below`` excludes ``high``."""
    words = f"a number {'above' if above else 'from'} {low:g} {'below' if below else 'to'} {high:g}"
    return Number("X", lambda text: ranges.number("", float(text), low, high, above=above, below=below), words)


# Types of options that commands share.
STEPS = whole(1)
BATCH_SIZE = whole(1, 1_000_000)
SEED = whole(0, ranges.SEED_MOST)
RATE = number(0, 10, above=True)  # a learning rate
SHARE = number(0, 1)
TEMPERATURE = number(0, 1000, above=True)
STOP = number(0, 1, above=True, below=True)

TEACHER_TEMPERATURE = recipe(
    "--teacher-temperature",
    "teacher_temperature",
    type=TEMPERATURE,
    help="Teacher temperature: the original's logits are divided by it. [default: by method]",
)
NORM_TRAIN = recipe(
    "--norm-train",
    "norm_eval",
    is_flag=True,
    flag_value=False,
    default=None,
    help="Update the statistics of normalisation layers.",
)
DRY_RUN = machine("--dry-run", is_flag=True, help="Write nothing: check everything, print the plan and its duration.")
VERBOSE = machine("--verbose", is_flag=True, help="Show the run's log on the terminal.")
DEVICE = machine("--device", metavar="cpu|cuda|cuda:N", help="Device to run on. [default: a GPU if there is one]")
ALLOW_IMPORT = machine("--allow-import", is_flag=True, help="Allow architectures by import path; their code is run.")
LAUNCHER = machine(
    "--launcher",
    type=click.Choice(["none", "pytorch", "slurm", "mpi"]),
    default=lambda: "pytorch" if "LOCAL_RANK" in os.environ else "none",
    show_default=False,
    help="Distributed launcher. [default: pytorch under torchrun, else none]",
)
LOADERS = machine("--workers", type=whole(0, 1024), help="Worker processes that load images.")
LOG_TO = machine(
    "--log-to",
    type=click.Choice(list(LOGGERS)),
    help="Also log loss, rate and seconds to TensorBoard (files in the work dir), Weights & Biases or MLflow; never the config.",
)
CFG_OPTIONS = machine("--cfg-options", many=True, metavar="KEY=VALUE...", help="Config keys to override.")

DEEP_METHOD = "DeepDELETE"
DEEP = recipe(
    "--deep",
    is_flag=True,
    help=f"Also erase the class from the features ({DEEP_METHOD}, docs/notes/deep.md); slower, and the default of images.",
)
AVOID = recipe("--avoid", many=True, metavar="NAME...", help=f"Classes not to replace the forgotten ones, {BY_NAME}.")
INTO = recipe("--into", metavar="NAME", help=f"Class that takes the place of the forgotten ones, {BY_NAME}.")
EXPECT = evaluation(
    "--expect",
    many=True,
    metavar="NAME...",
    help="Classes that may replace the forgotten ones; predictions of others are reported as 'unexpected' (limit: 10%).",
)


def method(retain: bool, default: str | None = None, told: str = "DELETE") -> click.Option:
    """Make ``--method``, which accepts any name, since a config's ``custom_imports`` may register the method. If the command
    reads no retain set, completion omits methods that need one. ``told`` is the default for the help."""
    return recipe(
        "--method",
        metavar="NAME",
        default=default,
        show_default=False,
        shell_complete=lambda ctx, param, text: [name for name in method_names(retain) if name.startswith(text)],
        help=f"Unlearning method; 'delete-tasks methods' lists them. [default: {told}]",
    )


def temperatures(told: str, schedule: str) -> list[click.Option]:
    """Make ``--teacher-temperature``, ``--temperature``, whose default for the help is ``told``, and ``--schedule``."""
    help = f"Learning rate schedule: {', '.join(SCHEDULES)}. [default: {schedule}]"
    told = f"Temperature: the logits of both models are divided by it. [default: {told}]"
    return [
        TEACHER_TEMPERATURE,
        recipe("--temperature", type=TEMPERATURE, help=told),
        recipe("--schedule", type=click.Choice(SCHEDULES), metavar="NAME", help=help),
    ]


def amp(told: str) -> click.Option:
    """Make ``--amp`` and ``--no-amp``; ``told`` is the default for the help."""
    told = f"Mixed precision: bfloat16 on a CPU, float16 on a GPU. [default: {told}]"
    return recipe("--amp/--no-amp", default=None, show_default=False, help=told)


def config(replaced: str) -> click.Option:
    """Make ``--config``; ``replaced`` are the options that it replaces."""
    return data(
        "--config",
        type=FILE,
        help=f"Config in place of {replaced}, which override it. It is executed: use only configs you trust.",
    )


def overwrite(target: str) -> click.Option:
    """Make ``--overwrite``; ``target`` is the output that it replaces."""
    return data("--overwrite", is_flag=True, help=f"Replace {target}.")


def seed(default: int | None, help: str = "Random seed.") -> click.Option:
    """Make ``--seed``."""
    return machine("--seed", type=SEED, default=default, help=help)


def work_dir_options(content: str, resumes: bool = True) -> list[click.Option]:
    """Make ``--work-dir`` for ``content``, ``--overwrite`` and, if the command can resume, ``--resume`` and ``--keep-states``."""
    replace = "Write into a work dir that is not empty; files of the same names are replaced."
    folder = data("--work-dir", type=Output("DIR"), required=True, help=f"Output folder of {content}.")
    options: list[click.Option] = [folder, data("--overwrite", is_flag=True, help=replace)]
    if resumes:
        options += [
            machine("--resume", is_flag=True, help="Continue from the last state in the work dir."),
            machine("--keep-states", is_flag=True, help="Keep the last state (weights, optimizer) of a complete run."),
        ]
    return options


def machine_panel(told: str) -> list[click.Option]:
    """Make the options of a run in a panel of their own; ``told`` is the default seed for the help."""
    return [LOG_TO, CFG_OPTIONS, seed(None, f"Random seed. [default: {told}]"), LAUNCHER, DEVICE, DRY_RUN, VERBOSE]


def record_panel() -> list[click.Option]:
    """Make the options of the erasure record; see :func:`delete_tasks.report.record.options.record_options`."""
    return [
        record("--reference", metavar="TEXT", help="Reference of the request, e.g. a ticket number."),
        record("--requested", metavar="YYYY-MM-DD", help="Date of the request."),
        record("--show-names", is_flag=True, help="Show names and pictures of people in the record; default: hashed."),
        record("--accept", many=True, metavar="FIGURE=MOST...", help="Limits of figures, e.g. forget_acc=1."),
        record("--fail-on-limit", is_flag=True, help="Exit with status 3 if a limit is exceeded."),
        record("--sign", type=File("KEY"), help="Private Ed25519 key (PEM) that signs the record."),
        record("--record-log", type=Output("FILE"), help="Log file to which a JSON line about the record is appended."),
        evaluation(
            "--audit",
            type=click.Choice(["none", "quick", "full"]),
            default="quick",
            help="Audit level: probe the model's features for the forgotten classes.",
        ),
        record("--no-record", is_flag=True, help="Write no record (DIR/record.json, DIR/record.html)."),
    ]


def plugin_options() -> list[click.Parameter]:
    """Collect the options that installed plugins add to attention and audit: ``ATTENTION_OPTIONS`` in their commands.py."""
    options: dict[str, click.Parameter] = {}
    for _, module in sorted(plugin_modules().items()):
        with contextlib.suppress(ImportError, RequestError):  # the plugin's own command reports it
            added = getattr(load_commands(module), "ATTENTION_OPTIONS", ())
            options = {param.opts[0]: param for param in added} | options
    return list(options.values())


def claim_work_dir(
    options: Mapping[str, Any], originals: Sequence[Any], names: Sequence[str] = (), **request: Any
) -> WorkDir:
    """Claim a command's work dir, see :func:`.workdir.claim`; ``names`` are the model's classes, ``request`` JSON values."""
    name = [options["command"], options.get("action")]
    for key in ("classes", "people", "target", "without"):
        if request.get(key):
            request[key] = as_compared(request[key], names)
    if (log := options.get("record_log")) and Path(log).resolve().is_relative_to(Path(options["work_dir"]).resolve()):
        inside = f"'{log}' is in the work dir, and a log is of several runs"
        raise RequestError(f"--record-log {inside}; give a file outside of it")
    work = claim(
        options["work_dir"],
        {"command": name, "originals": [None if o is None else os.path.abspath(o) for o in originals], **request},
        originals=originals,
        inputs=options.get("reads", ()),
        overwrite=options["overwrite"],
        resume=options.get("resume", False),
    )
    work.keep_states = options.get("keep_states", False)
    return work


def use_device(device: str | None) -> None:
    """Make torch see only the requested device; call it before anything uses CUDA. 'cuda:N' is the N-th device that
    CUDA_VISIBLE_DEVICES lists; None takes a GPU if there is one. Raise :class:`RequestError` for other text or a missing GPU."""
    if device is None:
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    match = re.fullmatch(r"cuda(?::([0-9]+))?", device)
    if match is None:
        raise RequestError(f"--device takes cpu, cuda or cuda:N, got '{device}'")
    import torch

    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if int(match[1] or 0) >= count:
        listed = "" if before is None else f" (CUDA_VISIBLE_DEVICES={before!r})"
        visible_gpus = "no GPU" if count == 0 else f"{count} GPU(s), the last of which is cuda:{count - 1}"
        raise RequestError(f"--device {device}: torch sees {visible_gpus}{listed}; give one of those, or cpu")
    if match[1] is not None:
        visible = before.split(",") if before else [str(i) for i in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(match[1])]
