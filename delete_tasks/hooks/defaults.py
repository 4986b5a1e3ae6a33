"""Defaults of methods by task and by the network's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Task's name -> options of `unlearn`, or a function that makes them of what the task tells of the run, by keyword.
Recipes = Mapping[str, Mapping[str, Any] | Callable[..., Mapping[str, Any]]]

SMALL_NETWORK = 300_000  # parameters; up to a ResNet-20, recipes are as they were chosen on it


def rate_for(rate: float, parameters: int, power: float = 0.8) -> float:
    """A learning rate that was chosen on a ResNet-20 (0.27 million parameters), for a network of another size.

    AdamW moves every weight by about the rate at each step, and a larger network has more and smaller ones: what a ResNet-20
    bears ruins a ResNet-18. The power is drawn through those two (6e-4, and 3e-5 for 11 million); a method that was measured on
    both has its own. Smaller networks keep ``rate``.
    """
    return rate * min(1.0, (SMALL_NETWORK / max(1, parameters)) ** power)
