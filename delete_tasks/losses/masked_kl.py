"""The masked KL loss as a module."""

from torch import Tensor, nn

from .functional import masked_kl_div


class MaskedKLLoss(nn.Module):
    """Distil to a teacher's logits with classes taken out (DELETE, CVPR 2025, arXiv 2503.23751).

    A thin shell over :func:`delete_tasks.losses.masked_kl_div`, which documents shapes, dtypes and errors.

    Args:
        reduction: 'mean', 'sum' or 'none'.
        temperature: Divides both logits; the loss is multiplied by its square.
        teacher_temperature: Divides the teacher's logits alone.

    Example:
        >>> import torch
        >>> criterion = MaskedKLLoss()
        >>> logits = torch.zeros(2, 3, 4, 4)
        >>> float(criterion(logits, logits, torch.zeros(1, 3, 1, 1, dtype=torch.bool)))
        0.0
    """

    def __init__(self, reduction: str = "mean", temperature: float = 1.0, teacher_temperature: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.temperature, self.teacher_temperature = reduction, temperature, teacher_temperature

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Loss of logits ``(N, C, *locations)``; see :func:`masked_kl_div`."""
        return masked_kl_div(
            student,
            teacher,
            mask,
            weight=weight,
            reduction=self.reduction,
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
        )

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, temperature={self.temperature}, teacher_temperature={self.teacher_temperature}"
