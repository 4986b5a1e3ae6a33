"""Grid of a few cells on a real network and a few real images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from delete_images.data.opening import open_data


@pytest.fixture(scope="session")
def few(shared, tmp_path_factory) -> Callable[[int, int], str]:
    """``few(train, test)``: an .npz with this number of images of each CIFAR-10 class."""
    folder, whole = tmp_path_factory.mktemp("few"), f"cifar10:{shared / 'data' / 'cifar10'}"

    def few(train: int, test: int) -> str:
        path = folder / f"{train}_{test}.npz"
        if not path.exists():
            arrays = {}
            for split, count in (("train", train), ("test", test)):
                # Test images stand for both: all of them lie in files that are read in a moment.
                data = open_data(f"{whole}?limit=1000", "test")
                kept = np.concatenate(
                    [np.flatnonzero(data.labels == i)[-count:] if split == "train" else np.flatnonzero(data.labels == i)[:count]
                     for i in range(10)]
                )  # fmt: skip
                arrays[f"x_{split}"] = np.stack([data[int(i)][0] for i in kept])
                arrays[f"y_{split}"] = data.labels[kept]
            np.savez(path, classes=np.array(data.class_names), **arrays)
        return str(path)

    return few


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
