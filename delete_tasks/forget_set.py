"""The forget set as an endless stream whose every sample, and its augmentation, is a function of (seed, position)."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Dataset, Sampler

from .atomic import save_json
from .config_checks import build_dataset
from .errors import RequestError
from .processes import first_does, together
from .seeds import DATA_STREAM, seed_all


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

    def views(self, epochs: int) -> Iterator[Any]:
        """The first of the samples as it is seen in each of the first ``epochs`` epochs."""
        for epoch in range(epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.indices))
            yield self[epoch * len(self.indices) + int(np.flatnonzero(order == 0)[0])]

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


def forget_loader(runner: Any, loader: dict[str, Any]) -> dict[str, Any]:
    """The config of a train_dataloader -> one that reads the forget set alone, as a stream.

    Sets the runner's ``class_names``, ``forget_ids``, ``forget_info``, ``retain_info``, ``public_info`` and ``data_config``.

    Raises:
        RequestError: Unknown classes, an empty forget set, or labels missing where the method reads them.
    """
    dataset = loader["dataset"]
    if isinstance(dataset, ForgetSet):
        return loader
    request, task = runner.method.request, runner.task
    by_teacher = request.select == "teacher"
    if isinstance(dataset, dict):
        runner.data_config = copy.deepcopy(dataset)
    dataset, key = _open(runner, dataset, by_teacher)
    teacher = runner.teacher if by_teacher else None
    path = Path(runner.work_dir) / "forget_set.json"
    indices = first_does(
        lambda: cached_selection(
            path, key, len(dataset), lambda: task.find_forget_set(dataset, runner.forget_ids, teacher, runner.cfg)
        )
    )
    runner.work.own(path, state=True)  # also where it was read from there
    _refuse_unlabelled(runner, dataset, indices)
    runner.forget_info = {
        "read": len(indices),
        "available": len(dataset),
        "sha256": digest_of(sorted(task.sample_names(dataset, indices))),
    }
    runner.retain_info = _told(task.retain_samples(dataset))
    runner.public_info = _told(task.public_samples(dataset))
    runner.logger.info(
        f"Forget set: {len(indices)} of {len(dataset)} samples show "
        f"{', '.join(runner.class_names[i] for i in runner.forget_ids)} (by {request.select}); only they are read."
    )
    if by_teacher:
        task.without_labels(dataset)
    loader["dataset"] = ForgetSet(dataset, indices, runner.seed)
    loader["sampler"] = {"type": "StreamSampler"}
    for name in ("batch_sampler", "num_batch_per_epoch", "drop_last", "shuffle"):
        loader.pop(name, None)
    return loader


def _told(names: Sequence[str] | None) -> dict[str, Any] | None:
    return None if names is None else {"read": len(names), "sha256": digest_of(sorted(names))}


@together
def _open(runner: Any, dataset: Any, by_teacher: bool) -> tuple[Any, str]:
    """The dataset, and what a kept selection has to match."""
    if isinstance(dataset, dict):
        dataset = build_dataset(dataset)
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    request, task = runner.method.request, runner.task
    if runner.method.public is not None:
        task.add_public(dataset, runner.method.public)
    runner.class_names = list(task.class_names(runner.unwrapped_model, dataset))
    runner.forget_ids = request.resolve(runner.class_names)
    lines = [*task.fingerprint(dataset, request.select), *map(str, runner.forget_ids), request.select]
    return dataset, digest_of([*lines, runner.teacher_sha256 if by_teacher else ""])


def _refuse_unlabelled(runner: Any, dataset: Any, indices: list[int]) -> None:
    method = runner.method
    reader = "masking='own'" if method.request.masking == "own" else type(method).__name__
    if method.request.masking == "own" or method.needs_labels:
        missing = runner.task.unlabelled(dataset, indices)
        if missing:
            raise RequestError(
                f"{reader} reads labels, and {missing} of the {len(indices)} samples of the forget set have none: what they show "
                "would be kept. Say what each shows, or use type='DELETE' with masking='all', which needs no labels"
            )


def cached_selection(path: Path, key: str, length: int, find: Callable[[], list[int]]) -> list[int]:
    """What ``find`` gives, kept in a file for runs with the same ``key``. The key changes with whatever the selection depends
    on; ``length`` is the dataset's.

    Raises:
        RequestError: There are none.
    """
    kept = _read_selection(path, key, length)
    if kept is not None:
        return kept
    indices = find()
    if not indices:
        raise RequestError(
            "the forget set is empty: no sample of the training data shows a class that is to be forgotten. Check the "
            "class names and the data's path, or use select='teacher' if the annotations do not name the class"
        )
    save_json({"key": key, "indices": indices}, path)
    return indices


def _read_selection(path: Path, key: str, length: int) -> list[int] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    indices = kept.get("indices") if isinstance(kept, dict) and kept.get("key") == key else None
    if not isinstance(indices, list) or not indices:
        return None
    return indices if all(type(index) is int and 0 <= index < length for index in indices) else None
