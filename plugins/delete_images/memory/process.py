"""Process-wide state around a run inside the caller's process."""

import contextlib
import ctypes
import random
import sys
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def preserve_process_state() -> Iterator[None]:
    """Run in PyTorch's default modes (gradients on, autocast off, CPU as default device) with subnormal numbers flushed to zero;
    restore the process-wide settings that a run changes: the random states of Python, NumPy and PyTorch, the start method of
    processes, OpenCV's threads, and the flushing."""
    with contextlib.ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        start_method = torch.multiprocessing.get_start_method(allow_none=True)
        stack.callback(torch.multiprocessing.set_start_method, start_method, force=True)
        if "cv2" in sys.modules:
            stack.callback(sys.modules["cv2"].setNumThreads, sys.modules["cv2"].getNumThreads())
        stack.callback(_flush_subnormal, sys.float_info.min / 2 == 0)  # PyTorch has no getter
        _flush_subnormal(True)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.random.fork_rng())
        yield


def _flush_subnormal(flush: bool) -> None:
    """Set whether this thread and the worker threads of its operations flush subnormal numbers to zero."""
    torch.set_flush_denormal(flush)
    # Workers inherit it when they start, and keep it. OpenMP 5.0 can end them (1: omp_pause_soft); operations start new ones.
    with contextlib.suppress(AttributeError, OSError, TypeError):  # an older OpenMP; Windows
        ctypes.CDLL(None).omp_pause_resource_all(1)
