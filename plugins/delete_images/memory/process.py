"""A run inside somebody's process, which is as it was when the run is over."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Put back at the end what a run changes for the whole process: the random state of Python, NumPy and PyTorch, how processes
    are started, and OpenCV's threads."""
    states = random.getstate(), np.random.get_state(), torch.multiprocessing.get_start_method(allow_none=True)
    cv2 = sys.modules.get("cv2")
    threads = None if cv2 is None else cv2.getNumThreads()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.multiprocessing.set_start_method(states[2], force=True)
        if cv2 is not None:
            cv2.setNumThreads(threads)


def in_its_own_thread(work: Callable[[], T]) -> T:
    """``work()`` in a thread of its own, whose subnormal numbers are flushed to zero, which the caller's are not.

    That is a state of each thread, and PyTorch has no way to ask for it; the worker threads of PyTorch's operations inherit it
    from the thread that starts them, and keep it. A thread of its own has workers of its own, and they go with it.

    Raises:
        BaseException: What ``work`` raises. Ctrl-C in the caller's thread is passed on to it.
    """
    done: dict[str, Any] = {}
    over = threading.Event()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
    context = contextvars.copy_context()

    def body() -> None:
        try:
            torch.set_flush_denormal(True)
            if device is not None:
                torch.cuda.set_device(device)
            done["value"] = context.run(work)
        except BaseException as error:
            done["error"] = error
        finally:
            over.set()

    thread = threading.Thread(target=body, name="delete_tasks")
    thread.start()
    while not over.is_set():
        try:
            over.wait()  # not join(): interrupted, it takes the thread for ended
        except KeyboardInterrupt:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt)
            )
    thread.join()
    if "error" in done:
        raise done["error"]
    return done["value"]
