"""Grid of a few cells on a real network and a few real images."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write_grid(shared, few, tmp_path) -> Callable[..., Path]:
    """``write_grid(methods, seeds)``: a grid file of a ResNet-20 that forgets deer."""

    def write_grid(methods: str, seeds: str = "[0, 1]", classes: str = "dict(deer=['deer'])", more: str = "") -> Path:
        data = few(6, 12)
        weights = shared / "weights" / "cifar10_resnet20-12fca82f.th"
        path = tmp_path / "grid.py"
        path.write_text(
            f"task = 'images'\n"
            f"networks = dict(net=dict(architecture='cifar_resnet20', classes='cifar10', original={str(weights)!r}))\n"
            f"data = dict(forget={data!r}, retain={data!r}, train={data!r}, test={data!r})\n"
            f"classes = {classes}\nmethods = {methods}\nunlearn = dict(keep_row=True, match_scale=False, steps=1, batch_size=4)\n"
            f"seeds = {seeds}\n{more}\n"
        )
        return path

    return write_grid
