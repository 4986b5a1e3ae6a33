"""Triton kernels behind the losses. Triton is imported when a kernel is loaded."""

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .._common import Call

HAS_TRITON = find_spec("triton") is not None
MOST_CLASSES = 2048  # that a tile holds
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def support(call: Call) -> bool:
    """Return True if the kernels support the logits of a call."""
    student, teacher = call.student, call.teacher
    fits = (
        student.dtype in DTYPES and teacher.dtype in DTYPES and student.numel() > 0 and student.shape[1] <= MOST_CLASSES
    )
    return fits and runs_on(student) and teacher.device == student.device


def runs_on(tensor: Tensor) -> bool:
    """Return True if Triton is available for the tensor's device."""
    return tensor.device.type == "cuda" and HAS_TRITON


def load(name: str) -> Any:
    """Import a module of kernels by name."""
    return importlib.import_module(f".{name}", __name__)
