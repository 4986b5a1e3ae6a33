"""Fixtures: a real network and real images, small enough for a CPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import argv

from delete_images.data.opening import open_data
from delete_images.data.transforms import eval_transform
from delete_images.models.model_file import load_model


@pytest.fixture(scope="session")
def cifar(shared, tmp_path_factory) -> str:
    """CIFAR-10 with 1,000 training images of each class: to read a few of all 50,000 takes two seconds."""
    folder, whole = tmp_path_factory.mktemp("cifar10"), shared / "data" / "cifar10"
    for split, step in (("train", 5), ("test", 1)):  # a class has so many mosaics of 1,000
        labels = np.load(whole / f"{split}_labels.npy").reshape(-1, 1000)
        np.save(folder / f"{split}_labels.npy", labels[::step].ravel())
        for number, mosaic in enumerate(sorted(whole.glob(f"{split}_*.webp"))[::step]):
            (folder / f"{split}_{number:02d}.webp").symlink_to(mosaic)
    return f"cifar10:{folder}"


@pytest.fixture(scope="session")
def deer(resnet20, cifar):
    """``deer(work_dir, *more)``: words of a run that makes the ResNet-20 forget deer with twenty images."""

    def words(work_dir: Path, *more: object, classes: str = "deer", query: str = "class=deer&limit=20") -> list[str]:
        command = argv("images forget --model", resnet20, f"--forget {cifar}?{query} --classes {classes}")
        return argv(command, "--work-dir", work_dir, *more)

    return words


@pytest.fixture(scope="module", autouse=True)
def scale_of_fewer_views() -> Iterator[None]:
    """Fit the logits' scale on a quarter of the views, in the process of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delete_images.models.finish.VIEWS", 128)
        yield


@pytest.fixture
def samples() -> torch.Tensor:
    """Vectors of six numbers."""
    torch.manual_seed(4)
    return torch.randn(64, 6)


@pytest.fixture(scope="session")
def read(resnet20, cifar):
    """``read('class=deer&limit=9', 'test')``: preprocessed images (N, 3, 32, 32) and labels."""
    _, spec = load_model(resnet20)
    transform = eval_transform(spec)

    def read(query: str, split: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
        data = open_data(f"{cifar}?{query}", split, spec.classes)
        return torch.stack([transform(data[i][0]) for i in range(len(data))]), torch.from_numpy(data.labels)

    return read
