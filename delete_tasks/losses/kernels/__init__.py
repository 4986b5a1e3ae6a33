"""Triton kernels behind the losses. Nothing here imports Triton before a kernel is asked for."""

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def kernels_for(student: Tensor, teacher: Tensor) -> Any:
    """Return the module :mod:`.masked_kl` if its kernel supports these logits, else None, for PyTorch."""
    if not (runs_on(student) and teacher.device == student.device):
        return None
    if student.dtype not in DTYPES or teacher.dtype not in DTYPES or student.numel() == 0:
        return None
    return load("masked_kl")


def runs_on(tensor: Tensor) -> bool:
    """Return True if Triton is available for the tensor's device."""
    return tensor.device.type == "cuda" and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def load(name: str) -> Any:
    """Import a module of kernels by name."""
    return importlib.import_module(f".{name}", __name__)
