"""A run inside the caller's process."""

import contextlib
import ctypes
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def preserve_process_state() -> Iterator[None]:
    """Run with PyTorch's default modes, and put back at the end what a run changes for the whole process.

    Restored are the random states of Python, NumPy and PyTorch, how processes are started, OpenCV's threads, and whether
    subnormal numbers are flushed to zero, which they are meanwhile. Meanwhile gradients are on, autocast is off, and the default
    device is the CPU.
    """
    flushed = sys.float_info.min / 2 == 0  # PyTorch sets this, and has no way to ask for it
    states = random.getstate(), np.random.get_state(), torch.multiprocessing.get_start_method(allow_none=True)
    cv2 = sys.modules.get("cv2")
    threads = None if cv2 is None else cv2.getNumThreads()
    try:
        _flush_subnormal(True)
        with _default_modes(), torch.random.fork_rng():
            yield
    finally:
        _flush_subnormal(flushed)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.multiprocessing.set_start_method(states[2], force=True)
        if cv2 is not None:
            cv2.setNumThreads(threads)


def _flush_subnormal(flush: bool) -> None:
    """Flush subnormal numbers to zero, or not, in this thread and in the worker threads of its operations."""
    torch.set_flush_denormal(flush)
    # Workers inherit it when they start, and keep it. OpenMP 5.0 can end them (1: omp_pause_soft); operations start new ones.
    with contextlib.suppress(AttributeError, OSError, TypeError):  # an older OpenMP; Windows
        ctypes.CDLL(None).omp_pause_resource_all(1)


@contextlib.contextmanager
def _default_modes() -> Iterator[None]:
    """Leave the modes that the caller's thread may be in."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
