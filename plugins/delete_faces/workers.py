"""The same work on each of many photos, by several processes, in order."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from delete_tasks.errors import USER_ERRORS, RequestError

BATCH = 8  # photos that a process hands over at a time; fewer for each process are not worth its start

T = TypeVar("T")


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Calls(Dataset[Any]):
    """``do(i)`` as item i; a user's mistake is handed over, since a DataLoader would raise it with its process's traceback."""

    def __init__(self, do: Callable[[int], Any], count: int) -> None:
        self.do, self.count = do, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, BaseException | None]:
        try:
            return self.do(index), None
        except USER_ERRORS as error:
            return None, error


def _begin(_: int) -> None:
    """Prepare a worker: Ctrl-C is left to the first process, which ends the others; OpenCV's threads do not survive a fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import cv2
    except ImportError:  # of detectors that frame faces without it
        return
    cv2.setNumThreads(1)


def do_each(do: Callable[[int], T], count: int, processes: int | None = None) -> Iterator[T]:
    """``do(0)``, ``do(1)``, ... of ``count`` photos, in this order whichever process is faster.

    Args:
        do: Where processes are not forked (macOS, Windows) it has to be one that can be pickled.
        count: How many.
        processes: At most; None: as many as there are cores for this process. Few photos are done by this process alone.

    Raises:
        RequestError: One of the processes was killed. What ``do`` raises of a user's mistakes is raised as it is.
    """
    wanted = min(usable_cores() if processes is None else processes, count // BATCH)
    if wanted < 2 or multiprocessing.current_process().daemon:  # such a one may have no processes of its own
        return map(do, range(count))
    loader = DataLoader(_Calls(do, count), BATCH, num_workers=wanted, collate_fn=list, worker_init_fn=_begin)
    # Made here, not when the first result is asked for: by then a progress bar's thread may hold a lock, which a fork copies.
    return _results(iter(loader))


def _results(batches: Iterator[list[tuple[Any, BaseException | None]]]) -> Iterator[Any]:
    try:
        for result, error in itertools.chain.from_iterable(batches):
            if error is not None:
                raise error
            yield result
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RequestError(
            f"one of several processes has ended ({error}), perhaps for want of memory; take fewer with --processes"
        ) from error
