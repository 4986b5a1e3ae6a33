"""Ctrl-C that other people's code catches: mmengine's Config raises a SyntaxError instead, safetensors a ValueError that holds
nothing of it, and a callback of the garbage collector nothing at all."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

_pressed: list[int] = []  # an entry for each Ctrl-C that was raised while :func:`no_lost_interrupt` is open


def interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that ``error`` is, or comes of; None if there was none."""
    if _pressed and not isinstance(error, KeyboardInterrupt):
        return KeyboardInterrupt()
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def raise_lost(error: BaseException) -> None:
    """Raise KeyboardInterrupt if ``error`` comes of one: for code that makes an answer or a message out of any error."""
    interrupt = interrupt_in(error)
    if interrupt is not None:
        raise interrupt from error


@contextlib.contextmanager
def no_lost_interrupt() -> Iterator[None]:
    """Note each Ctrl-C; one in a callback of the garbage collector, where Python would print an exception and go on, comes a
    moment later."""
    before, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)

    def press(number: int, _: Any) -> None:
        _pressed.append(number)
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
        _pressed.clear()  # what fails later in this process does not come of it
        sys.unraisablehook = before
        if noted:
            signal.signal(signal.SIGINT, handler)
