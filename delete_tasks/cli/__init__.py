"""``delete-tasks COMMAND ...``: each installed task plugin brings the command of its name."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import click

from .. import errors
from ..errors import MissingExtraError, RequestError
from ..terminal import print_any_name, quiet
from ..workdir import process_rank
from .command import in_words
from .completion import complete
from .device import use_device, use_launcher
from .tree import make_root

# Exit statuses; 3 and 4 are those of delete_tasks.record.Verdict.
REFUSED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
# Seconds for which the other processes leave an error to the first: as soon as one ends, its launcher ends all.
GRACE = 30.0
USER_ERRORS = (*errors.USER_ERRORS, MissingExtraError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0; 2 after a user's mistake, with one message on standard error (of the first process alone); 3, 4: see the
        commands; 130 after Ctrl-C; 141 where the reader of the output has gone (``... | head``).
    """
    print_any_name()
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    try:
        status = complete()
        return _run(list(sys.argv[1:] if argv is None else argv), _carry_out) if status is None else status
    except USER_ERRORS as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return PIPE_CLOSED
        if process_rank() > 0:
            time.sleep(GRACE)
        return _say(f"error: {_message(error)}", REFUSED)
    except KeyboardInterrupt as error:
        return _say(f"interrupted. {error}".rstrip(), INTERRUPTED)


def parse(words: Sequence[str]) -> SimpleNamespace:
    """The options of a command line, as its command gets them; nothing is run.

    Raises:
        RequestError: It is wrong.
    """
    return _run(list(words), lambda run, args: args)


def _run(words: list[str], then: Callable[[Any, SimpleNamespace], Any]) -> Any:
    """Read a command line, and do with the command's function and options what ``then`` says."""
    try:
        with make_root().make_context("delete-tasks", words, obj=then) as ctx:
            return ctx.command.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        raise RequestError(in_words(error)) from error


def _carry_out(run: Callable[[SimpleNamespace], int | None], args: SimpleNamespace) -> int:
    """Carry a command out on the device it asks for; Ctrl-C says how to go on, where that is possible."""
    pressed: list[int] = []
    try:
        with _no_lost_interrupt(pressed), quiet(getattr(args, "verbose", False)):
            use_device(getattr(args, "device", None))
            if hasattr(args, "launcher"):
                use_launcher(args)
            return run(args) or 0
    except (KeyboardInterrupt, Exception) as error:
        interrupt = _interrupt_in(error, bool(pressed))
        if interrupt is None:
            raise
        if str(interrupt) or not hasattr(args, "resume"):
            raise interrupt from error
        raise KeyboardInterrupt("The same command with --resume goes on from the last state.") from error


def _interrupt_in(error: BaseException | None, pressed: bool) -> KeyboardInterrupt | None:
    """Ctrl-C, as it is or as other people's code, which catches everything, has raised it again (mmengine's Config as
    SyntaxError, safetensors as a ValueError that holds nothing of it). A user's error that came after it is told instead."""
    if isinstance(error, USER_ERRORS):
        return None
    if pressed and not isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


@contextlib.contextmanager
def _no_lost_interrupt(pressed: list[int]) -> Iterator[None]:
    """Ctrl-C in a callback of the garbage collector, where Python would print an exception and go on, comes a moment later;
    ``pressed`` gets an entry for each that is raised."""
    before, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)

    def press(number: int, _: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            main_thread = threading.main_thread().ident
            threading.Timer(0.05, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
        else:
            before(unraisable)

    sys.unraisablehook = again
    # As Python's own; where Ctrl-C is ignored, or another program's, it stays so.
    noted = handler is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    if noted:
        signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        sys.unraisablehook = before
        if noted:
            signal.signal(signal.SIGINT, handler)


def _reader_is_gone() -> bool:
    """Whether nobody reads standard output any more; what is left of it then goes nowhere, also when Python ends."""
    try:
        sys.stdout.flush()
        gone = _has_no_reader(sys.stdout.fileno())  # what could not be written may have been dropped already
    except BrokenPipeError:
        gone = True
    except (OSError, ValueError):  # no file of the system's
        return False
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _has_no_reader(file: int) -> bool:
    """Whether a pipe's other end is closed; False where the system cannot tell."""
    if not hasattr(select, "poll"):
        return False
    asked = select.poll()
    asked.register(file, 0)
    return any(event & select.POLLERR for _, event in asked.poll(0))


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
