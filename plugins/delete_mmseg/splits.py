"""The splits of a config, each opened once and read by one pipeline."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmseg.registry import DATASETS

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.reader import DataSamples

from .labels import data_info

SPLITS = ("test", "val", "train")


def scenes(dataset: Any, indices: Sequence[int] | None = None) -> DataSamples:
    """Samples of a dataset, named by their images' files; ``indices`` are those that take part, None takes all."""
    return DataSamples(dataset, lambda index: os.path.basename(data_info(dataset, index)["img_path"]), indices)


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
        """Open the dataset of 'test', 'val' or 'train'."""
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
