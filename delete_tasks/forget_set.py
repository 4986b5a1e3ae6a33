"""The forget set as an endless stream whose every sample, and its augmentation, is a function of (seed, position)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Dataset, Sampler

from .checkpoint import save_json
from .errors import RequestError

DATA_STREAM, STEP_STREAM = 1, 2


def seed_all(*numbers: int) -> None:
    """Seed Python, NumPy and torch (all devices in use) with one value made from several non-negative integers."""
    first, second = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    random.seed(int(first))
    np.random.seed(int(second))
    seed = (int(first) << 32) | int(second)
    # torch.manual_seed, on a device that was never used, formats and keeps a stack trace at each call: 2 ms a sample.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


class ForgetSet(Dataset):
    """Some samples of a dataset, read as an endless stream: epoch after epoch, each in its own order.

    Item ``k`` is the k-th sample of the stream. Its place in the shuffle and all randomness of its pipeline depend on
    (seed, k) alone, so they are the same in a resumed run, in a worker process and on any number of ranks.

    Args:
        dataset: The whole dataset.
        indices: Samples of it that take part, at least one.
        seed: Seed of the run, not negative.
    """

    def __init__(self, dataset: Any, indices: Sequence[int], seed: int) -> None:
        self.dataset, self.indices, self.seed = dataset, list(indices), seed
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        epoch, place = divmod(position, len(self.indices))
        if self._order is None or self._order[0] != epoch:
            shuffle = np.random.default_rng((self.seed, epoch)).permutation(len(self.indices))
            self._order = (epoch, shuffle)
        seed_all(self.seed, DATA_STREAM, position)
        return self.dataset[self.indices[self._order[1][place]]]

    def __deepcopy__(self, memo: dict[int, Any]) -> ForgetSet:
        return self  # Runner.build_dataloader copies its arguments; the samples need not be in memory twice

    @property
    def metainfo(self) -> Any:
        return getattr(self.dataset, "metainfo", None)


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Positions ``rank, rank + world_size, ...`` of an endless stream; ``skip`` moves on without reading anything.

    Args:
        dataset: Anything with a length.
        seed: Not used, since the stream itself is seeded; the Runner passes it to every sampler.
    """

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        self.dataset = dataset
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        position = self.start * self.world_size + self.rank
        while True:
            yield position
            position += self.world_size

    def __len__(self) -> int:
        return len(self.dataset)

    def skip(self, num_samples: int) -> None:
        """Begin after the first ``num_samples`` of this rank."""
        self.start = num_samples


def digest_of(lines: Sequence[str]) -> str:
    """SHA-256 over lines of text, in the order given."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def cached_selection(work_dir: str, key: str, find: Callable[[], list[int]]) -> list[int]:
    """Run ``find`` once, on rank 0, and keep its answer in ``work_dir/forget_set.json`` for runs with the same ``key``."""
    answer: list[Any] = [None]
    rank, _ = get_dist_info()
    if rank == 0:
        path = Path(work_dir) / "forget_set.json"
        try:
            answer[0] = _read_or_find(path, key, find)
        except Exception as error:  # the other ranks wait for an answer: let them have this one, too
            answer[0] = error
    broadcast_object_list(answer, src=0)
    if isinstance(answer[0], Exception):
        raise answer[0]
    return answer[0]


def _read_or_find(path: Path, key: str, find: Callable[[], list[int]]) -> list[int]:
    import json

    if path.is_file():
        try:
            kept = json.loads(path.read_text())
        except json.JSONDecodeError:
            kept = {}
        if kept.get("key") == key:
            return kept["indices"]
    indices = find()
    if not indices:
        raise RequestError(
            "the forget set is empty: no sample of the training data shows a class that is to be forgotten. Check the "
            "class names and the data's path, or use select='teacher' if the annotations do not name the class"
        )
    save_json({"key": key, "indices": indices}, path)
    return indices
