"""Forget set, read as an endless stream in which each sample and its augmentation depend on (seed, position) alone."""

import contextlib
import copy
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Dataset, Sampler

from ..errors import RequestError
from ..evaluation.forget_data import ForgetData, Selection
from ..fileio.atomic import save_json
from ..fileio.processes import first_does, together
from ..fileio.seeds import DATA_STREAM, seed_all
from ..fileio.validate import as_type, read_json
from ..request.config_checks import build_dataset
from ..task import Run


class ForgetSet(Dataset):
    """Samples of a dataset as an endless stream of epochs, each in another order. Item ``k`` is the k-th sample of the stream.
    Its place in the shuffle and all randomness of its pipeline depend on (seed, k) alone, so they are the same in a resumed run,
    in a worker process and on any number of ranks. ``indices`` are those of the samples, one at least."""

    def __init__(self, dataset: Any, indices: Sequence[int], seed: int) -> None:
        self.dataset, self.indices, self.seed = dataset, list(indices), seed
        self.metainfo = getattr(dataset, "metainfo", None)  # which the train loop reads
        self._shuffled: tuple[int, np.ndarray] | None = None
        if isinstance(dataset, ForgetData):
            dataset.forget_indices = self.indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        return self._read(position, self.dataset.__getitem__)

    def forgotten(self, position: int) -> Any:
        """Read an item without the samples of a retain set, if the dataset can (``forget_item``)."""
        return self._read(position, getattr(self.dataset, "forget_item", self.dataset.__getitem__))

    def _read(self, position: int, read: Callable[[int], Any]) -> Any:
        epoch, place = divmod(position, len(self.indices))
        order = self._order(epoch)
        seed_all(self.seed, DATA_STREAM, position)
        return read(self.indices[order[place]])

    def _order(self, epoch: int) -> np.ndarray:
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = epoch, np.random.default_rng((self.seed, epoch)).permutation(len(self.indices))
        return self._shuffled[1]

    def views(self, epochs: int) -> Iterator[Any]:
        """Yield the first sample's view of each of the first ``epochs`` epochs."""
        for epoch in range(epochs):
            yield self[epoch * len(self.indices) + int(np.flatnonzero(self._order(epoch) == 0)[0])]

    def __deepcopy__(self, memo: dict[int, Any]) -> "ForgetSet":
        return self  # Runner.build_dataloader copies its arguments; one copy of the samples is enough


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Positions ``rank, rank + world_size, ...`` of an endless stream, which is seeded itself; ``seed`` is the Runner's."""

    def __init__(self, dataset: Any, seed: int | None = None) -> None:
        self.dataset = dataset
        self.rank, self.world_size = get_dist_info()
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start * self.world_size + self.rank, self.world_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def skip(self, num_samples: int) -> None:
        """Skip the first ``num_samples`` of this rank."""
        self.start = num_samples


def digest_of(lines: Sequence[str]) -> str:
    """Compute the SHA-256 of lines of text."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()


def select_forget_set(runner: Run, dataset: Any, config: Any = None) -> Selection:
    """Select the forget set, and store it in the work dir for runs that resume this one. ``dataset`` are the training data, or
    their config; ``config`` is that of data which were built before the run. Raise :class:`RequestError` for unknown classes, an
    empty forget set, or missing labels that the method reads."""
    request = runner.method.request
    by_teacher = request.select == "teacher"
    if isinstance(dataset, dict):
        config = copy.deepcopy(dataset)
    dataset, data, class_names, ids, key = _open(runner, dataset, by_teacher)
    teacher = runner.teacher if by_teacher else None
    path = Path(runner.work_dir) / "forget_set.json"
    find = partial(data.find_forget_set, ids, teacher, runner.cfg)
    indices = first_does(partial(_cached_selection, path, key, len(dataset), find))
    runner.work.own(path, state=True)  # also if it was read from there
    own = request.masking == "own"
    missing = data.unlabelled(indices) if own or runner.method.needs_labels else 0
    if missing:
        reader = "masking='own'" if own else type(runner.method).__name__
        raise RequestError(
            f"{reader} reads labels, and {missing} of the {len(indices)} samples of the forget set have none, so their classes "
            "would be kept. Label them, or use type='DELETE' with masking='all', which needs no labels"
        )
    names = data.sample_names(indices)
    selection = Selection(
        dataset=dataset,
        indices=indices,
        sample_names=names,
        class_names=class_names,
        forget_ids=ids,
        forget_set={"read": len(indices), "available": len(dataset), "sha256": digest_of(sorted(names))},
        retain_set=_describe_samples(data.retain_samples()),
        public_data=_describe_samples(data.public_samples()),
        dataset_config=config,
    )
    runner.logger.info(
        f"Forget set: {len(indices)} of {len(dataset)} samples show {', '.join(class_names[i] for i in ids)} "
        f"(by {request.select}); only they are read."
    )
    data.check_run(runner, selection)
    if by_teacher:
        data.without_labels()
    return selection


def _describe_samples(names: Sequence[str] | None) -> dict[str, Any] | None:
    return None if names is None else {"read": len(names), "sha256": digest_of(sorted(names))}


@together
def _open(runner: Run, dataset: Any, by_teacher: bool) -> tuple[Any, ForgetData, list[str], list[int], str]:
    """Open the dataset; return it, its forget data, class names, ids to forget, and the key of a cached selection."""
    if isinstance(dataset, dict):
        dataset = build_dataset(dataset)
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    request, data = runner.method.request, runner.task.forget_data(dataset)
    if runner.method.public is not None:
        data.add_public(runner.method.public)
    class_names = list(runner.task.class_names(runner.unwrapped_model, dataset))
    ids = request.resolve(class_names)
    lines = [*data.fingerprint(request.select), *map(str, ids), request.select]
    return dataset, data, class_names, ids, digest_of([*lines, runner.teacher_sha256 if by_teacher else ""])


class _Cached(msgspec.Struct):
    key: str
    indices: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]


def _cached_selection(path: Path, key: str, length: int, find: Callable[[], list[int]]) -> list[int]:
    """Return the indices of ``find``, cached in a file for runs with the same ``key``, which depends on everything that the
    selection does; ``length`` is the dataset's. Raise :class:`RequestError` if there are none."""
    with contextlib.suppress(OSError, ValueError):
        cached = as_type(read_json(path), _Cached, f"'{path}'")
        if cached.key == key and max(cached.indices) < length:
            return cached.indices
    indices = find()
    if not indices:
        raise RequestError(
            "the forget set is empty: no sample of the training data shows a forgotten class. Check the class names and the path "
            "of the data, or use select='teacher' if the annotations do not name the class"
        )
    save_json({"key": key, "indices": indices}, path)
    return indices
