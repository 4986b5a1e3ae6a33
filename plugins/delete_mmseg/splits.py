"""The splits of a config, each opened once and read by one pipeline."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmengine.config import Config
from mmseg.registry import DATASETS
from torch.utils.data import Dataset

from delete_tasks.errors import RequestError

from .labels import data_info

SPLITS = ("test", "val", "train")


class Scenes(Dataset):
    """Samples of a dataset, read by its pipeline; ``indices`` are those that take part, None takes all."""

    def __init__(self, dataset: Any, indices: Sequence[int] | None = None) -> None:
        self.dataset = dataset
        self.indices = list(range(len(dataset)) if indices is None else indices)

    @cached_property
    def names(self) -> list[str]:
        return [os.path.basename(data_info(self.dataset, index)["img_path"]) for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Any:
        return self.dataset[self.indices[number]]

    def subset(self, numbers: Any) -> Scenes:
        return Scenes(self.dataset, [self.indices[int(number)] for number in numbers])


@dataclass
class Splits:
    """The data of a config, read by the pipeline of its test split.

    Attributes:
        cfg: The config.
        test: Its test data.
        train: Its training data, if they are there already.
    """

    cfg: Config
    test: Any
    train: Any = None

    def open(self, word: str) -> Any:
        """The dataset of 'test', 'val' or 'train'."""
        if word == "test":
            return self.test
        if word == "train" and self.train is not None:
            dataset = copy.copy(self.train)
        else:
            dataset = DATASETS.build(loader_of_split(self.cfg, word).dataset)
        if hasattr(dataset, "pipeline") and hasattr(self.test, "pipeline"):
            dataset.pipeline = self.test.pipeline  # a picture as it is, not a random crop of it
        return dataset


def loader_of_split(cfg: Config, split: str) -> Any:
    loader = cfg.get(f"{split}_dataloader")
    if not loader:
        raise RequestError(f"the config has no {split}_dataloader, which says what its images and classes are")
    return loader
