"""Features on which a model's last layer decides."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class FeatureTap:
    """Catches what goes into a layer: the features on which a model's last layer decides.

    Example:
        ``with FeatureTap(layer) as tap: model(x)`` and then ``tap.features`` is the layer's last input.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.features: Tensor | None = None

    def __enter__(self) -> FeatureTap:
        self._handle = self.layer.register_forward_pre_hook(self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _catch(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self.features = args[0].detach()
