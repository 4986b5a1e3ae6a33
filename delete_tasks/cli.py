"""``delete-tasks COMMAND ...``: each installed task plugin brings the command of its name."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from .errors import (
    CheckpointMismatchError,
    MissingExtraError,
    RequestError,
    UnsafeCheckpointError,
    UnsupportedModelError,
)
from .task import plugin_modules
from .terminal import print_any_name
from .workdir import process_rank

REFUSED, INTERRUPTED = 2, 130  # exit statuses; 3 and 4 are those of delete_tasks.record.Verdict
USER_ERRORS = (
    RequestError,
    UnsupportedModelError,
    UnsafeCheckpointError,
    CheckpointMismatchError,
    MissingExtraError,
    OSError,
)

# Commands of the core's own, imported when asked for, like those of plugins.
CORE_COMMANDS = {
    "attention": "delete_tasks.attention.command",
    "compare": "delete_tasks.compare.command",
    "record": "delete_tasks.record.command",
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is a user's mistake like any other: one message, exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; '{self.prog} --help' tells more")


def use_device(device: str | None) -> None:
    """Make torch see the wanted device (cpu, cuda or cuda:N) alone; call it before anything touches CUDA.

    Args:
        device: 'cuda:N' is the N-th of those that CUDA_VISIBLE_DEVICES shows already. None takes a GPU if there is one.

    Raises:
        RequestError: Another word, or a GPU that is not there.
    """
    if device is None:
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    number = device.removeprefix("cuda:") if device.startswith("cuda:") else "0"
    if device != "cuda" and not (device.startswith("cuda:") and number.isdecimal() and number.isascii()):
        raise RequestError(f"--device takes cpu, cuda or cuda:N, got '{device}'")
    import torch

    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    if int(number) >= count:
        shown = "" if before is None else f" (CUDA_VISIBLE_DEVICES={before!r})"
        there = "no GPU" if count == 0 else f"{count} GPU(s), the last of which is cuda:{count - 1}"
        raise RequestError(f"--device {device}: torch sees {there}{shown}; give one that is there, or cpu")
    if device != "cuda":
        visible = before.split(",") if before else [str(i) for i in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[int(number)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 2 after a user's mistake, with one message on standard error (of the first process alone); 3, 4: see the
        commands; 130 after Ctrl-C.
    """
    print_any_name()
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except USER_ERRORS as error:
        return _say(f"error: {_message(error)}", REFUSED)
    except KeyboardInterrupt as error:
        return _say(f"interrupted. {error}".rstrip(), INTERRUPTED)


def _run(words: list[str]) -> int:
    modules = {**{name: f"{module}.commands" for name, module in plugin_modules().items()}, **CORE_COMMANDS}
    parser = Parser(
        prog="delete-tasks",
        description="Make a trained vision model forget a class, and show what it did.",
        epilog="'delete-tasks COMMAND --help' tells more.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in sorted(modules.items()):
        # Only the command that is asked for is imported: the others may need extras that are not installed.
        if words and words[0] == name:
            plugin = importlib.import_module(module)
            plugin.add_arguments(commands.add_parser(name, help=plugin.DESCRIPTION, description=plugin.DESCRIPTION))
            return _interruptible(plugin.run, parser.parse_args(words))
        commands.add_parser(name)
    parser.parse_args(words)
    return REFUSED


def _interruptible(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Carry a command out; Ctrl-C says how to go on, where that is possible."""
    try:
        return run(args)
    except KeyboardInterrupt as error:
        if str(error) or not hasattr(args, "resume"):
            raise
        raise KeyboardInterrupt("The same command with --resume goes on from the last state.") from error


def _message(error: BaseException) -> str:
    """An error in words; the system's own ones name the path and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        other = f" and '{os.fsdecode(error.filename2)}'" if error.filename2 is not None else ""
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else error.filename
        return f"{error.strerror}: '{name}'{other}"
    return str(error) or type(error).__name__


def _say(text: str, status: int) -> int:
    if process_rank() == 0:
        print(f"delete-tasks: {text}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
