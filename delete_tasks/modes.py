"""A model that is looked at, or asked, comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def in_eval_mode(*models: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each module's mode as before."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode and frozen parameters inside; afterwards each module's mode and each parameter's flag and gradient as before.

    Frozen parameters collect no gradients, which saves their computation, too. The hooks that a caller adds are the caller's
    to remove.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with in_eval_mode(model):
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
