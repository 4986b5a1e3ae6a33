"""Processes of one run, which stop together with one message, and signals, of which libraries hide Ctrl-C: mmengine's Config
raises a SyntaxError instead, safetensors a ValueError without a cause, and a callback of the garbage collector drops it."""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from ..errors import USER_ERRORS

GRACE = 30.0  # seconds for the first process to report an error, before another process reports it
LONG = timedelta(days=30)  # timeout of the wait for the first process

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a person, a scheduler or a shutdown, a closed terminal

_received: list[int] = []  # the signals inside :func:`no_lost_interrupt`


class Interrupted(KeyboardInterrupt):
    """End of a run by a signal: Ctrl-C, SIGTERM or SIGHUP. The message says how to continue."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


def process_rank() -> int:
    """Return the rank of this process that its launcher (torchrun, Slurm, MPI) sets, before a process group exists."""
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0


def leave_to_the_first(error: BaseException) -> NoReturn:
    """Wait in a process that is not the first, which reports the same error, unless the launcher ends it because another process
    has ended before. After :data:`GRACE` seconds this process reports the error itself."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(GRACE)
    print(f"delete-tasks: error (process {process_rank()}): {error}", file=sys.stderr, flush=True)
    raise SystemExit(2 if isinstance(error, USER_ERRORS) else 1) from error


@contextlib.contextmanager
def told_once(several: bool) -> Iterator[None]:
    """Raise a user's mistake on the first process only; the others end silently. ``several`` says that there are others."""
    try:
        yield
    except USER_ERRORS as error:
        if several and process_rank() > 0:
            leave_to_the_first(error)
        raise


def raise_together(error: Exception | None) -> None:
    """Stop all processes if one has an error; every process calls this, with its error or None. A user's mistake is raised on the
    first process, any other error on the process where it happened."""
    import torch
    from mmengine.dist import all_gather_object, all_reduce, get_dist_info

    rank, world = get_dist_info()
    if world == 1:
        if error is not None:
            raise error
        return
    failed = torch.tensor(0.0 if error is None else 1.0)
    all_reduce(failed, op="max")
    if not failed:
        return
    mistake = next((kind for kind in USER_ERRORS if isinstance(error, kind)), None)
    report = None if error is None else (mistake, str(error))
    reports = [pair for pair in all_gather_object(report) if pair is not None]
    kind, text = next((pair for pair in reports if pair[0] is not None), reports[0])
    if kind is None:
        if error is not None:
            raise error
        leave_to_the_first(RuntimeError(text))
    if rank == 0:
        raise error if isinstance(error, kind) else kind(text)
    leave_to_the_first(kind(text))


def together(function: Callable[..., T]) -> Callable[..., T]:
    """Make a function that all processes call fail on all if it fails on one; it must contain no collective."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> T:
        error, result = None, None
        try:
            result = function(*args, **kwargs)
        except Exception as caught:
            error = caught
        raise_together(error)
        return result  # type: ignore[return-value]

    return call


class SharedErrors:
    """Iterator over batches that fails on all processes if it fails on one, for which the others would wait without end."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self._next = together(batches.__next__)

    def __next__(self) -> Any:
        return self._next()

    def skip_iter(self, number: int) -> None:
        """Skip batches without reading them, like mmengine's iterator."""
        self.batches.skip_iter(number)


def first_does(work: Callable[[], T]) -> T:
    """Run ``work`` on the first process and return its result, or raise its error, on all; the others wait without a timeout."""
    import torch
    from mmengine.dist import get_dist_info

    rank, world = get_dist_info()
    if world == 1:
        return work()
    answer: list[Any] = [None]
    # A new group, since the default group's collectives time out after minutes.
    group = torch.distributed.new_group(backend="gloo", timeout=LONG)
    error: Exception | None = None
    if rank == 0:
        try:
            answer[0] = work()
        except Exception as caught:
            error = caught
    torch.distributed.broadcast_object_list(answer, src=0, group=group, device=torch.device("cpu"))
    torch.distributed.destroy_process_group(group)
    raise_together(error)
    return answer[0]


def interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """Find the signal that ``error`` is or was caused by; None if there is none."""
    if _received and not isinstance(error, KeyboardInterrupt):
        return Interrupted(number=_received[-1])
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def signal_of(error: KeyboardInterrupt) -> int:
    """Return the number of the signal that raised ``error``; other code raises a KeyboardInterrupt for Ctrl-C."""
    return getattr(error, "number", signal.SIGINT)


def raise_lost(error: BaseException) -> None:
    """Raise KeyboardInterrupt if one caused ``error``, in code that turns any error into a result or a message."""
    if (interrupt := interrupt_in(error)) is not None:
        raise interrupt from error


@contextlib.contextmanager
def no_lost_interrupt() -> Iterator[None]:
    """Raise :class:`Interrupted` at each of :data:`SIGNALS` inside the block, and record it. After one in a callback of the
    garbage collector, Python would print an exception and continue, so the signal is sent again a moment later."""
    before, process = sys.unraisablehook, os.getpid()

    def receive(number: int, _: Any) -> None:
        if os.getpid() != process:  # a worker process, which ends as it would without this block
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _received.append(number)
        raise Interrupted(number=number)

    def again(unraisable: Any) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            arguments = threading.main_thread().ident, signal_of(unraisable.exc_value)
            threading.Timer(0.05, signal.pthread_kill, arguments).start()
        else:
            before(unraisable)

    sys.unraisablehook = again
    # Replace only Python's default handlers: a signal that is ignored (nohup), or handled by another program, stays so.
    numbers = SIGNALS if threading.current_thread() is threading.main_thread() else ()
    defaults = (signal.default_int_handler, signal.SIG_DFL)
    replaced = {number: signal.signal(number, receive) for number in numbers if signal.getsignal(number) in defaults}
    try:
        yield
    finally:
        _received.clear()  # not the cause of later errors in this process
        sys.unraisablehook = before
        for number, handler in replaced.items():
            signal.signal(number, handler)
