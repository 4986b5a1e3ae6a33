"""Command line ``delete-tasks COMMAND ...``; each installed task plugin adds the command of its name."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import click

from .. import errors
from ..display.streams import guarded
from ..display.terminal import make_console, quiet
from ..errors import FinishedError, MissingExtraError, RequestError
from ..fileio.compute import keep_freed_memory
from ..fileio.processes import GRACE, Interrupted, interrupt_in, no_lost_interrupt, process_rank, signal_of
from .command import in_words
from .options import use_device
from .tree import complete, make_root

# Exit statuses; 3 and 4 are in delete_tasks.report.record.figures.
REFUSED, SIGNALLED = 2, 128  # and the number of the signal
USER_ERRORS = (*errors.USER_ERRORS, MissingExtraError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0; 2: user's mistake; 3, 4: see the commands; 130, 143, 129: ended by a signal."""
    if argv is None:  # the process is the command's own
        keep_freed_memory()
    logging.raiseExceptions = False  # print no tracebacks when logging fails
    with guarded() as output:
        status = _status(argv)
        if argv is None:  # all is done, and Ctrl-C while the interpreter ends would print a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        output.flush()
        if output.error is not None and not status:
            status = _report(f"error: standard output cannot be written: {output.error.strerror}", REFUSED)
    return status


def _status(argv: Sequence[str] | None) -> int:
    try:
        status = complete(make_root())
        return _parse(sys.argv[1:] if argv is None else argv, _run) if status is None else status
    except FinishedError as error:
        if process_rank() == 0:
            print(f"delete-tasks: {error}.")
        return 0
    except USER_ERRORS as error:
        if process_rank() > 0:
            time.sleep(GRACE)
        return _report(f"error: {_message(error)}", REFUSED)
    except KeyboardInterrupt as error:
        number = signal_of(error)
        word = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        # A signal may reach all processes of a run; one of them reports it.
        return _report(f"{word}. {error}".rstrip(), SIGNALLED + number)


def parse(words: Sequence[str]) -> SimpleNamespace:
    """Parse a command line to the options of its command, and run nothing; raise :class:`RequestError` if it is wrong."""
    return _parse(words, lambda run, args: args)


def _parse(words: Sequence[str], then: Callable[[Any, SimpleNamespace], Any]) -> Any:
    """Parse a command line and call ``then`` with the command's function and options."""
    for word in words:
        if "\0" in word:
            raise RequestError(f"'{word}' holds a NUL character, which no path, name or number has; leave it out")
    try:
        with make_root().make_context("delete-tasks", list(words), obj=then) as ctx:
            return ctx.command.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        raise RequestError(in_words(error)) from error


def _run(run: Callable[[SimpleNamespace], int | None], args: SimpleNamespace) -> int:
    """Run a command on the requested device; after a signal, name the option to resume, if the command has it."""
    with no_lost_interrupt():
        try:
            with quiet(getattr(args, "verbose", False)):
                _refuse_umask()
                use_device(getattr(args, "device", None))
                return run(args) or 0
        except (KeyboardInterrupt, Exception) as error:
            interrupt = interrupt_in(error)
            # A user's error takes precedence.
            if interrupt is None or isinstance(error, USER_ERRORS):
                raise
            if str(interrupt) or not hasattr(args, "resume"):
                raise interrupt from error
            message = "The same command with --resume continues from the last state."
            raise Interrupted(message, signal_of(interrupt)) from error


def _refuse_umask() -> None:
    umask = os.umask(0o077)  # which can only be read by setting it
    os.umask(umask)
    if umask & 0o700:
        unread = f"with umask {umask:03o} you could not read the files that you write"
        raise RequestError(f"{unread}; run: umask 077, or 022")


def _message(error: BaseException) -> str:
    """Describe an error; errors of the operating system name the path and the reason."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        other = f" and '{os.fsdecode(error.filename2)}'" if error.filename2 is not None else ""
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes, os.PathLike)) else error.filename
        return f"{error.strerror}: '{name}'{other}"
    return str(error) or type(error).__name__


def _report(text: str, status: int) -> int:
    if process_rank() == 0:
        make_console(stderr=True).print(f"delete-tasks: {text}")
    return status
