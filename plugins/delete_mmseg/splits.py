"""Splits of a config's data, opened once and read by one pipeline."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.dataset import ConcatDataset
from mmseg.registry import DATASETS

from delete_tasks.errors import RequestError
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.opened import Opened
from delete_tasks.evaluation.reader import DataSamples
from delete_tasks.fileio.sampling import evenly_spread

SPLITS = ("test", "val", "train")
MOST_FORGET = 100  # images of the forget set that are measured if there are no test images


def scenes(dataset: Any, indices: Sequence[int] | None = None, most: int | None = None) -> DataSamples:
    """Name a dataset's samples by image file: those at ``indices`` (None: all); of more than ``most`` so many, evenly spread."""
    if most is not None:
        indices = range(len(dataset)) if indices is None else indices
        indices = [indices[number] for number in evenly_spread(len(indices), most)]
    return DataSamples(dataset, lambda index: os.path.basename(dataset.get_data_info(index)["img_path"]), indices)


@dataclass
class Splits:
    """Data of a config, read by the pipeline of its test split; ``train`` are its training data if they are open already."""

    cfg: Config
    test: Any
    train: Any = None

    def leave_out(self, opened: Opened, kept: Sequence[int], copies: Sequence[Copies]) -> None:
        """Keep the test samples at the indices ``kept`` alone, in ``opened`` as well."""
        opened.copies, opened.left_out = copies, sorted({*range(len(self.test))} - {*kept})
        if opened.left_out:
            try:
                _select(self.test, kept)
            except NotImplementedError as error:
                names = ", ".join(name for each in copies for name in each.names)
                kind = type(self.test).__name__
                raise RequestError(f"test images are copies, which {kind} cannot leave out; remove {names}") from error
            opened.samples["test"] = scenes(self.test)

    def take_forget_set(self, opened: Opened, indices: Sequence[int]) -> None:
        """Measure on some training images at ``indices``; the test data are the training images, see :func:`whole_images`."""
        paths = {self.train.get_data_info(index)["img_path"] for index in indices}
        kept = [index for index in range(len(self.test)) if self.test.get_data_info(index)["img_path"] in paths]
        opened.samples["test"] = taken = scenes(self.test, kept, MOST_FORGET)
        opened.left_out = sorted({*range(len(self.test))} - {*taken.indices})

    def open(self, word: str) -> Any:
        """Open the dataset of 'test', 'val' or 'train'; refuse another word."""
        if word not in SPLITS:
            raise RequestError(f"'{word}' is no split of the config; give {', '.join(SPLITS)}")
        if word == "test":
            return self.test
        if word == "train" and self.train is not None:
            dataset = copy.copy(self.train)
        else:
            dataset = DATASETS.build(loader_of_split(self.cfg, word).dataset)
        if hasattr(dataset, "pipeline") and hasattr(self.test, "pipeline"):
            dataset.pipeline = self.test.pipeline  # the whole image, not a random crop of it
        return dataset


def _select(dataset: Any, kept: Sequence[int]) -> None:
    """Keep the samples at the indices ``kept`` alone, also of joined datasets."""
    if not isinstance(dataset, ConcatDataset):
        return dataset.get_subset_(list(kept))
    for part, end in zip(dataset.datasets, dataset.cumulative_sizes, strict=True):
        begin = end - len(part)
        _select(part, [index - begin for index in kept if begin <= index < end])
    dataset.cumulative_sizes = dataset.cumsum(dataset.datasets)


def loader_of_split(cfg: Config, split: str) -> Any:
    """Read the config of a split's data loader."""
    loader = cfg.get(f"{split}_dataloader")
    if not loader:
        raise RequestError(f"the config has no {split}_dataloader, which names its images and classes")
    return loader


def whole_images(dataset: Any) -> dict[str, Any]:
    """Make the config of a dataset that reads another's images as they are: no repeats, mixes, views or labels."""
    if "dataset" in dataset:
        return whole_images(dataset["dataset"])
    if "datasets" in dataset:
        return {**dataset, "datasets": [whole_images(each) for each in dataset["datasets"]]}
    return {**copy.deepcopy(dict(dataset)), "pipeline": [dict(dataset["pipeline"][0]), {"type": "PackSegInputs"}]}
