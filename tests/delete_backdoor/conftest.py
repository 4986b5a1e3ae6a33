"""A small backdoored network, made in seconds: four classes of coloured noise, and a white patch that means the first."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toys
from helpers import argv
from mmengine.config import Config
from rich.console import Console
from torch import nn

import delete_backdoor.register  # noqa: F401
from delete_backdoor.clean import make_config
from delete_backdoor.poison import PoisonedDataset
from delete_backdoor.triggers import parse_trigger
from delete_images.data.opening import ImageData
from delete_images.data.transforms import eval_transform
from delete_images.models.architectures.registry import ARCHITECTURES, register
from delete_images.models.model_file import ModelSpec, Preprocessing, build_model, save_model
from delete_tasks.cli import parse

CLASSES = ("red", "green", "blue", "grey")
TRIGGER = "badnets:size=4,pos=11,11"


class ToyNet(nn.Module):
    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(),
            nn.Dropout(0.1),
        )  # fmt: skip
        self.head = nn.Linear(96, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


if "toy_backdoor" not in ARCHITECTURES:
    register("toy_backdoor")(ToyNet)


make_images = partial(toys.draw, blob=6, brighter=90)


@pytest.fixture(scope="session")
def classes() -> tuple[str, ...]:
    return CLASSES


def make_data(count: int, seed: int) -> ImageData:
    return ImageData.from_arrays(*make_images(count, seed), CLASSES)


@pytest.fixture
def toy_data() -> ImageData:
    """200 clean images."""
    return make_data(200, 9)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, str]:
    """Data strings: clean ``train``, ``clean`` and ``test``, a ``poisoned`` training set, and ``only`` poisoned samples."""
    folder = tmp_path_factory.mktemp("toy")
    paths = {name: str(folder / f"{name}.npz") for name in ("train", "clean", "test", "poisoned", "only")}
    for name, count, seed in (("train", 1200, 1), ("clean", 240, 2), ("test", 400, 3)):
        images, labels = make_images(count, seed)
        np.savez(paths[name], x=images, y=labels, classes=np.array(CLASSES))
    trigger, others = parse_trigger(TRIGGER), make_data(240, 4)
    PoisonedDataset(make_data(1200, 1), trigger, 0, rate=0.1).save(paths["poisoned"])
    PoisonedDataset(others.subset(others.labels != 0), trigger, 0, rate=1.0).save(paths["only"])
    return paths


def make_model(poisoned: str, folder: Path) -> Path:
    """Train the small network on a poisoned training set; return the folder of the model."""
    spec = ModelSpec("toy_backdoor", CLASSES, Preprocessing.named("half", toys.SIDE))
    torch.manual_seed(0)
    model, transform = build_model(spec), eval_transform(spec)
    with np.load(poisoned) as file:
        images, labels = torch.stack([transform(image) for image in file["x"]]), torch.from_numpy(file["y"])
    toys.fit(model, images, labels, torch.optim.AdamW(model.parameters(), lr=3e-3), 150)
    return save_model(folder / "toy", model, spec)


@pytest.fixture(scope="session")
def toy(files, tmp_path_factory) -> Path:
    """Folder of the backdoored model."""
    return make_model(files["poisoned"], tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def options():
    """``options(words)``: parsed options of ``backdoor clean``."""

    def read(words: list[str]) -> dict[str, Any]:
        return {**vars(parse(["backdoor", "clean", *words])), "launcher": "none"}

    return read


@pytest.fixture
def config(toy, files, options):
    """``config(work_dir, *words)``: config of a run on the backdoored model."""

    def make(work_dir: Path, *more: str) -> Config:
        words = argv("--model", toy, "--poisoned", files["only"], "--target red --work-dir", work_dir, "--force", more)
        cfg = make_config(None, options(words), Console())
        cfg.log_level = "ERROR"
        cfg.unlearn.checkpoint_interval = 1
        return cfg

    return make
