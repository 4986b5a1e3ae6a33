"""The frozen original model: where it comes from, and what is compared so that it stays the original."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import CheckpointMismatchError
from ..fileio.checkpoint import load_weights
from .modes import fast_layout

TrainingFlags = Callable[[nn.Module], Sequence[nn.Module]]


def make_teacher(student: nn.Module, path: str, training_flags: TrainingFlags) -> nn.Module:
    """Copy the unwrapped student, load the original file's weights, freeze it in eval mode.

    Norms, dropout and drop-path are in eval mode; modules that give fewer outputs there keep their own training flag: those that
    ``training_flags`` names, see :meth:`delete_tasks.task.Task.training_flags`.
    """
    teacher = copy.deepcopy(student)
    load_weights(teacher, path)
    return fast_layout(freeze(teacher, training_flags))


def freeze(teacher: nn.Module, training_flags: TrainingFlags) -> nn.Module:
    """Make a model a teacher: no gradients, and the modes that :func:`make_teacher` describes."""
    teacher.requires_grad_(False)
    teacher.eval()
    for module in training_flags(teacher):
        module.training = True
    return teacher


def check_same_weights(student: nn.Module, teacher: nn.Module, path: str) -> None:
    """Student and teacher must agree at step 0: their inputs, code and mode being one, that is their weights being equal.

    Raises:
        CheckpointMismatchError: A tensor differs.
    """
    expected = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        if not torch.equal(tensor, expected[name].to(tensor.device)):
            raise CheckpointMismatchError(
                f"at step 0 the model and its teacher ('{path}') must be the same, but '{name}' differs. "
                "Let load_from and unlearn.teacher name the same original checkpoint, or leave teacher out."
            )


class Frozen:
    """Holds a module without registering it: nothing of it gets into a state dict, an optimizer or a wrapper."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> Frozen:
        return self
