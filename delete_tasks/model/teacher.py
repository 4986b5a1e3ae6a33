"""Teacher: the frozen original model, loaded and compared with the student."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..errors import CheckpointMismatchError


def freeze(teacher: nn.Module, training_flags: Callable[[nn.Module], Sequence[nn.Module]]) -> nn.Module:
    """Freeze a teacher; set norms and dropout to eval mode, see :meth:`delete_tasks.task.Task.training_flags` for exceptions."""
    teacher.requires_grad_(False)
    teacher.eval()
    for module in training_flags(teacher):
        module.training = True
    return teacher


def check_same_weights(student: nn.Module, teacher: nn.Module, path: str) -> None:
    """Refuse a student with other weights than its teacher, at step 0."""
    expected = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        if not torch.equal(tensor, expected[name].to(tensor.device)):
            raise CheckpointMismatchError(
                f"at step 0 the model and its teacher ('{path}') must be the same, but '{name}' differs. "
                "Let load_from and unlearn.teacher name the same original checkpoint, or leave teacher out."
            )


@torch.no_grad()
def step_back(model: nn.Module, original: nn.Module, share: float) -> None:
    """Move weights and running statistics by ``share``, 0 to 1, back to the ``original`` (as WiSE-FT, arXiv 2109.01903)."""
    before = original.state_dict()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            tensor.lerp_(before[name].to(tensor), share)
