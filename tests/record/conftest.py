"""A recorded run of a network of a few hundred numbers: seconds, where the records of real networks are made elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from delete_images.model_file import ModelSpec, Preprocessing, save_model
from delete_tasks.cli import main

NAMES = ("red", "green", "blue")


@pytest.fixture(scope="session")
def colours(tmp_path_factory) -> Path:
    """A folder with ``model/``, which tells red, green and blue pictures of 16 pixels apart, and ``data.npz``."""
    folder = tmp_path_factory.mktemp("colours")
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    images = generator.integers(0, 90, (90, 16, 16, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:12, 4:12, label] += 150
    np.savez(folder / "data.npz", x=images, y=labels, classes=np.array(NAMES))
    from delete_images.architectures import build

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build("cifar_resnet20", num_classes=3)
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        model.train()
        for _ in range(12):
            loss = torch.nn.functional.cross_entropy(model(inputs), torch.from_numpy(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    spec = ModelSpec("cifar_resnet20", NAMES, Preprocessing.named("none", 16))
    save_model(folder / "model", model.eval(), spec)
    return folder


def _forget(colours: Path, work_dir: Path, *words: str, model: str | None = None, data: str = "limit=30") -> Path:
    command = [
        "images",
        "forget",
        "--model",
        model or str(colours / "model"),
        "--forget",
        f"{colours / 'data.npz'}?{data}",
    ]
    command += [
        "--eval",
        f"{colours / 'data.npz'}?{data}&seed=1",
        "--work-dir",
        str(work_dir),
        "--steps",
        "4",
        "--batch-size",
        "8",
    ]
    command += ["--augment", "none", "--device", "cpu", *words]
    if "--classes" not in words:
        command += ["--classes", "green"]
    assert main(command) == 0
    return work_dir


@pytest.fixture(scope="session")
def forget(colours):
    """``forget(work_dir, *words, model=None, data="limit=30")``: run ``images forget`` on it; returns the work dir."""
    return partial(_forget, colours)


@pytest.fixture(scope="session")
def recorded(forget, tmp_path_factory) -> Path:
    """The work dir of one run; copy it before anything in it is changed."""
    folder = tmp_path_factory.mktemp("runs")
    return forget(folder / "first", "--reference", "REQ-7", "--requested", "2026-11-02", "--accept", "remain_drop=50")
