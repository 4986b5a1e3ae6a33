"""``delete-tasks COMMAND ...``: each installed task plugin brings the command of its name."""

import logging
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import click

from .. import errors
from ..display.terminal import print_any_name, quiet
from ..errors import MissingExtraError, RequestError
from ..fileio.compute import keep_freed_memory
from ..fileio.processes import interrupt_in, no_lost_interrupt, process_rank
from .command import in_words
from .completion import complete
from .device import use_device, use_launcher
from .tree import make_root

# Exit statuses; 3 and 4 are those of delete_tasks.report.record.Verdict.
REFUSED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
# Seconds for which the other processes leave an error to the first: as soon as one ends, its launcher ends all.
GRACE = 30.0
USER_ERRORS = (*errors.USER_ERRORS, MissingExtraError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 2 after a user's mistake, with one message on standard error (of the first process alone); 3, 4: see the
        commands; 130 after Ctrl-C; 141 if the reader of the output has closed it (``... | head``).
    """
    print_any_name()
    if argv is None:  # the process is the command's own
        keep_freed_memory()
    logging.raiseExceptions = False  # print no tracebacks when logging fails
    try:
        status = complete(make_root())
        return _run(list(sys.argv[1:] if argv is None else argv), _carry_out) if status is None else status
    except USER_ERRORS as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return PIPE_CLOSED
        if process_rank() > 0:
            time.sleep(GRACE)
        return _say(f"error: {_message(error)}", REFUSED)
    except KeyboardInterrupt as error:
        # Ctrl-C reaches all processes of a run; one of them reports it.
        return INTERRUPTED if process_rank() > 0 else _say(f"interrupted. {error}".rstrip(), INTERRUPTED)


def parse(words: Sequence[str]) -> SimpleNamespace:
    """Parse a command line to the options that its command gets; nothing is run.

    Raises:
        RequestError: The command line is wrong.
    """
    return _run(list(words), lambda run, args: args)


def _run(words: list[str], then: Callable[[Any, SimpleNamespace], Any]) -> Any:
    """Parse a command line and call ``then`` with the command's function and options."""
    try:
        with make_root().make_context("delete-tasks", words, obj=then) as ctx:
            return ctx.command.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        raise RequestError(in_words(error)) from error


def _carry_out(run: Callable[[SimpleNamespace], int | None], args: SimpleNamespace) -> int:
    """Run a command on the device that it requests; after Ctrl-C the message says how to resume, if that is possible."""
    with no_lost_interrupt():
        try:
            with quiet(getattr(args, "verbose", False)):
                use_device(getattr(args, "device", None))
                if hasattr(args, "launcher"):
                    use_launcher(args)
                return run(args) or 0
        except (KeyboardInterrupt, Exception) as error:
            interrupt = interrupt_in(error)
            # An error that the user must know comes first.
            if interrupt is None or isinstance(error, USER_ERRORS):
                raise
            if str(interrupt) or not hasattr(args, "resume"):
                raise interrupt from error
            raise KeyboardInterrupt("The same command with --resume goes on from the last state.") from error


def _reader_is_gone() -> bool:
    """Return whether standard output is a pipe without a reader; then the rest of the output is dropped, at exit as well."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file of the operating system
        return False
    pipe = select.poll()
    pipe.register(output, 0)  # reports errors alone
    if not pipe.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _message(error: BaseException) -> str:
    """Describe an error; errors of the operating system name the path and the reason."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        other = f" and '{os.fsdecode(error.filename2)}'" if error.filename2 is not None else ""
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else error.filename
        return f"{error.strerror}: '{name}'{other}"
    return str(error) or type(error).__name__


def _say(text: str, status: int) -> int:
    if process_rank() == 0:
        print(f"delete-tasks: {text}", file=sys.stderr)
    return status
